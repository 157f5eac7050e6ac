"""The methods that every test of `test_every_method` runs. A new method is one line here."""

from __future__ import annotations

from redvtp import FastV, LladaFastV, Mass, Oracle, Random, RedVTP, Shuffled, ToMe, Uniform

KEEP = 0.4

CASES = (
    RedVTP(keep=KEEP),
    RedVTP(keep=KEEP, rows="prompt+masked", layers=(1, 3), step=2, positions="original"),
    RedVTP(keep=KEEP, rows="committed", protect=("newline",)),
    RedVTP(keep=Mass(0.6), rows="prompt+response"),
    LladaFastV(keep=KEEP),
    LladaFastV(keep=KEEP, layer=2, positions="original"),
    FastV(keep=KEEP),
    FastV(keep=KEEP, layer=1, protect=("newline",)),
    ToMe(keep=KEEP),
    ToMe(keep=0.1, step=0),
    Random(keep=KEEP),
    Uniform(keep=0.25, step=0),
    Oracle(keep=KEEP),
    Shuffled(keep=KEEP),
)
