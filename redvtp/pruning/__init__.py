"""Pruning methods. A new one is a new file here and one import below."""

from redvtp.pruning.base import METHODS, Pruner, Scored, get, register
from redvtp.pruning.contender import Staged
from redvtp.pruning.controls import Oracle, Random, Shuffled, Uniform
from redvtp.pruning.d3tom import D3ToM
from redvtp.pruning.fastv import FastV
from redvtp.pruning.llada_fastv import LladaFastV
from redvtp.pruning.maskkv import MaskKV
from redvtp.pruning.redvtp import RedVTP
from redvtp.pruning.sgl import SGL
from redvtp.pruning.tome import ToMe
from redvtp.pruning.vnorm import VNorm
from redvtp.pruning.zipvl import ZipVL

__all__ = [
    "D3ToM", "FastV", "LladaFastV", "METHODS", "MaskKV", "Oracle", "Pruner", "Random", "RedVTP", "SGL", "Scored",
    "Shuffled", "Staged", "ToMe", "Uniform", "VNorm", "ZipVL", "get", "register",
]  # fmt: skip
