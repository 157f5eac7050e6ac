"""Visual-token pruning for diffusion vision-language models.

>>> import redvtp
>>> model = redvtp.load("mini/llada_v")
>>> out = model.generate(image, "What is TOTAL?", prune=redvtp.RedVTP(keep=0.25), steps=16, length=32)
"""

from redvtp.caching import DLLMCache, FastDLLM, PrefixDLM
from redvtp.generation import Decoding, Recorder, Settings
from redvtp.model import Answer, Model, load
from redvtp.models.base import Prompt
from redvtp.pruning import (
    SGL,
    VTW,
    D3ToM,
    DivPrune,
    FastV,
    LladaFastV,
    MaskKV,
    Oracle,
    PyramidDrop,
    Random,
    RedVTP,
    Scheduled,
    Shuffled,
    SparseVLM,
    Staged,
    ToMe,
    TrimProjector,
    Uniform,
    VNorm,
    ZipVL,
)
from redvtp.selection import Count, Cut, Mass, Needs, Outliers, Rank, Selection, Share, View
from redvtp.sequence import evidence_recall

__version__ = "0.1.0"

__all__ = [
    "SGL", "VTW", "Answer", "Count", "Cut", "D3ToM", "DLLMCache", "Decoding", "DivPrune", "FastDLLM", "FastV",
    "LladaFastV", "Mass", "MaskKV", "Model", "Needs", "Oracle", "Outliers", "PrefixDLM", "Prompt", "PyramidDrop",
    "Random", "Rank", "Recorder", "RedVTP", "Scheduled", "Selection", "Settings", "Share", "Shuffled", "SparseVLM",
    "Staged", "ToMe", "TrimProjector", "Uniform", "VNorm", "View", "ZipVL", "evidence_recall", "load",
]  # fmt: skip
