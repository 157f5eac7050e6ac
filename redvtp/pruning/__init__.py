"""Pruning methods. A new one is a new file here and one import below."""

from redvtp.pruning.base import METHODS, Pruner, Scored, get, register
from redvtp.pruning.contender import Staged
from redvtp.pruning.controls import Oracle, Random, Shuffled, Uniform
from redvtp.pruning.d3tom import D3ToM
from redvtp.pruning.divprune import DivPrune
from redvtp.pruning.fastv import FastV
from redvtp.pruning.llada_fastv import LladaFastV
from redvtp.pruning.maskkv import MaskKV
from redvtp.pruning.pyramiddrop import PyramidDrop
from redvtp.pruning.redvtp import RedVTP
from redvtp.pruning.schedule import Scheduled
from redvtp.pruning.sgl import SGL
from redvtp.pruning.sparsevlm import SparseVLM
from redvtp.pruning.tome import ToMe
from redvtp.pruning.trim import TrimProjector
from redvtp.pruning.vnorm import VNorm
from redvtp.pruning.vtw import VTW
from redvtp.pruning.zipvl import ZipVL

__all__ = [
    "METHODS", "SGL", "VTW", "D3ToM", "DivPrune", "FastV", "LladaFastV", "MaskKV", "Oracle", "Pruner", "PyramidDrop",
    "Random", "RedVTP", "Scheduled", "Scored", "Shuffled", "SparseVLM", "Staged", "ToMe", "TrimProjector", "Uniform",
    "VNorm", "ZipVL", "get", "register",
]  # fmt: skip
