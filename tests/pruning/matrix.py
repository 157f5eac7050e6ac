"""The methods that every test of `test_every_method` runs. A new method is one line here."""

from __future__ import annotations

from redvtp import (
    SGL,
    VTW,
    D3ToM,
    DivPrune,
    FastV,
    LladaFastV,
    MaskKV,
    Mass,
    Oracle,
    Outliers,
    PyramidDrop,
    Random,
    Rank,
    RedVTP,
    Shuffled,
    SparseVLM,
    Staged,
    ToMe,
    TrimProjector,
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
    FastV(keep=KEEP, layer=1, protect=("newline",), rows="prompt+response"),
    PyramidDrop(keep=KEEP),
    PyramidDrop(keep=0.6, rows="prompt"),
    SparseVLM(keep=KEEP),
    SparseVLM(keep=0.6, recycle=False),
    SparseVLM(keep=Rank(0.8)),
    SparseVLM(keep=KEEP, layer=1),
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
