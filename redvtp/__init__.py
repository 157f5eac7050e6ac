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
    VTW,
    DivPrune,
    FastV,
    LladaFastV,
    Oracle,
    PyramidDrop,
    Random,
    RedVTP,
    Scheduled,
    Shuffled,
    SparseVLM,
    ToMe,
    TrimProjector,
    Uniform,
)
from redvtp.selection import Count, Cut, Mass, Needs, Outliers, Rank, Selection, Share, View
from redvtp.sequence import evidence_recall

__version__ = "0.1.0"

__all__ = [
    "VTW", "Answer", "Count", "Cut", "DLLMCache", "Decoding", "DivPrune", "FastDLLM", "FastV", "LladaFastV", "Mass",
    "Model", "Needs", "Oracle", "Outliers", "PrefixDLM", "Prompt", "PyramidDrop", "Random", "Rank", "Recorder",
    "RedVTP", "Scheduled", "Selection", "Settings", "Share", "Shuffled", "SparseVLM", "ToMe", "TrimProjector",
    "Uniform", "View", "evidence_recall", "load",
]  # fmt: skip
