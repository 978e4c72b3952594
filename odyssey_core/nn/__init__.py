"""Layers and the tree of their parameters."""

from odyssey_core.nn.initializers import INITIALIZERS
from odyssey_core.nn.layers import AvgPool2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sigmoid, Tanh
from odyssey_core.nn.module import Module, Sequential

__all__ = [
    "INITIALIZERS", "AvgPool2d", "Conv2d", "Dropout", "Flatten", "Linear", "MaxPool2d", "Module", "ReLU", "Sequential",
    "Sigmoid", "Tanh",
]  # fmt: skip
