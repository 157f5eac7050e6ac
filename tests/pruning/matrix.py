"""The methods that every test of `test_every_method` runs. A new method is one line here."""

from __future__ import annotations

from redvtp import (
    VTW,
    DivPrune,
    FastV,
    LladaFastV,
    Mass,
    Oracle,
    Outliers,
    PyramidDrop,
    Random,
    Rank,
    RedVTP,
    Shuffled,
    SparseVLM,
    ToMe,
    TrimProjector,
    Uniform,
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
    FastV(keep=KEEP, layer=1, protect=("newline",), rows="prompt+response"),
    PyramidDrop(keep=KEEP),
    PyramidDrop(keep=0.6, rows="prompt"),
    SparseVLM(keep=KEEP),
    SparseVLM(keep=0.6, recycle=False),
    SparseVLM(keep=Rank(0.8)),
    VTW(keep=KEEP),
    VTW(keep=0.7, positions="original"),
    TrimProjector(keep=KEEP),
    TrimProjector(keep=Outliers(0.2), step=1, aggregate=False),
    DivPrune(keep=KEEP),
    DivPrune(keep=KEEP, step=1, protect=("newline",)),
    ToMe(keep=KEEP),
    ToMe(keep=0.1, step=0),
    Random(keep=KEEP),
    Uniform(keep=0.25, step=0),
    Oracle(keep=KEEP),
    Shuffled(keep=KEEP),
)


class Watched:
    """A host that notes each forward's probe and tokens at each layer."""

    def __init__(self, host) -> None:
        self._host, self.probes, self.lengths = host, [], []

    def __getattr__(self, name: str):
        return getattr(self._host, name)

    def forward(self, state, canvas, logit_rows, probe=None, at_layer=None, span=None):
        output = self._host.forward(state, canvas, logit_rows, probe, at_layer, span)
        self.probes.append(probe)
        self.lengths.append(output.lengths)
        return output
