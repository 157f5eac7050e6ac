"""The methods that every test of `test_every_method` runs. A new method is one line here."""

from __future__ import annotations

from redvtp import (
    SGL,
    D3ToM,
    FastV,
    LladaFastV,
    MaskKV,
    Mass,
    Oracle,
    Random,
    RedVTP,
    Shuffled,
    Staged,
    ToMe,
    Uniform,
    VNorm,
    ZipVL,
)

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
    ZipVL(keep=Mass(0.7)),
    ZipVL(keep=KEEP),
    SGL(keep=KEEP),
    SGL(keep=KEEP, layer=0, positions="original"),
    VNorm(keep=KEEP),
    VNorm(keep=KEEP, layer=1, longest=True),
    D3ToM(keep=KEEP),
    D3ToM(keep=KEEP, layer=1, adaptive=True),
    MaskKV(keep=KEEP),
    MaskKV(keep=KEEP, importance=(3.0, 1.0, 2.0), alpha=0.5),
    Staged(keep=KEEP),
    Staged(keep=Mass(0.7), first=0.8, layer=1, second=2),
    Staged(keep=0.2, first=None, diversity=0.5, merge=True, prior=True),
)
