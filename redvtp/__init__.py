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
    D3ToM,
    FastV,
    LladaFastV,
    MaskKV,
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
from redvtp.selection import Count, Cut, Mass, Needs, Selection, Share, View
from redvtp.sequence import evidence_recall

__version__ = "0.1.0"

__all__ = [
    "Answer", "Count", "Cut", "D3ToM", "DLLMCache", "Decoding", "FastDLLM", "FastV", "LladaFastV", "Mass", "MaskKV",
    "Model", "Needs", "Oracle", "PrefixDLM", "Prompt", "Random", "Recorder", "RedVTP", "SGL", "Selection", "Settings",
    "Share", "Shuffled", "Staged", "ToMe", "Uniform", "VNorm", "View", "ZipVL", "evidence_recall", "load",
]  # fmt: skip
