"""Pruning methods. A new one is a new file here and one import below."""

from redvtp.pruning.base import METHODS, Pruner, Scored, get, register
from redvtp.pruning.controls import Oracle, Random, Shuffled, Uniform
from redvtp.pruning.divprune import DivPrune
from redvtp.pruning.fastv import FastV
from redvtp.pruning.llada_fastv import LladaFastV
from redvtp.pruning.pyramiddrop import PyramidDrop
from redvtp.pruning.redvtp import RedVTP
from redvtp.pruning.schedule import Scheduled
from redvtp.pruning.sparsevlm import SparseVLM
from redvtp.pruning.tome import ToMe
from redvtp.pruning.trim import TrimProjector
from redvtp.pruning.vtw import VTW

__all__ = [
    "METHODS", "VTW", "DivPrune", "FastV", "LladaFastV", "Oracle", "Pruner", "PyramidDrop", "Random", "RedVTP",
    "Scheduled", "Scored", "Shuffled", "SparseVLM", "ToMe", "TrimProjector", "Uniform", "get", "register",
]  # fmt: skip
