"""Layers and the tree of their parameters."""

# ruff: noqa: F403
from odyssey_core.initial import Constant, Normal, Uniform
from odyssey_core.nn import activations, layers
from odyssey_core.nn.activations import *
from odyssey_core.nn.initializers import INITIALIZERS
from odyssey_core.nn.layers import *
from odyssey_core.nn.module import Module, Sequential
from odyssey_core.ops import buffer, parameter

__all__ = [
    "INITIALIZERS", "Constant", "Module", "Normal", "Sequential", "Uniform", "buffer", "parameter",
    *activations.__all__, *layers.__all__,
]  # fmt: skip
