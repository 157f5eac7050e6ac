"""Pruning methods. A new one is a new file here and one import below."""

from redvtp.pruning.base import METHODS, Pruner, Scored, get, register
from redvtp.pruning.controls import Oracle, Random, Shuffled, Uniform
from redvtp.pruning.fastv import FastV
from redvtp.pruning.llada_fastv import LladaFastV
from redvtp.pruning.redvtp import RedVTP
from redvtp.pruning.tome import ToMe

__all__ = [
    "METHODS", "FastV", "LladaFastV", "Oracle", "Pruner", "Random", "RedVTP", "Scored", "Shuffled", "ToMe",
    "Uniform", "get", "register",
]  # fmt: skip
