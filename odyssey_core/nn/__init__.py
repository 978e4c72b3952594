"""Layers, the tree of their parameters, and the names that lists of layers call them by."""

# ruff: noqa: F403
from odyssey_core.initial import Constant, Normal, Uniform
from odyssey_core.nn import activations, layers
from odyssey_core.nn.activations import *
from odyssey_core.nn.initializers import INITIALIZERS
from odyssey_core.nn.layers import *
from odyssey_core.nn.module import Module, Sequential, makers
from odyssey_core.ops import buffer, parameter
from odyssey_core.registry import Registry

__all__ = [
    "INITIALIZERS", "LAYERS", "Constant", "Module", "Normal", "Sequential", "Uniform", "buffer", "parameter",
    "makers", *activations.__all__, *layers.__all__,
]  # fmt: skip

LAYERS = Registry(
    "layer",
    {
        "conv": layers.Conv2d,
        "whitening": layers.WhiteningConv2d,
        "linear": layers.Linear,
        "batch_norm": layers.BatchNorm2d,
        "max_pool": layers.MaxPool2d,
        "avg_pool": layers.AvgPool2d,
        "global_avg_pool": layers.GlobalAvgPool2d,
        "flatten": layers.Flatten,
        "dropout": layers.Dropout,
        "relu": activations.ReLU,
        "relu6": activations.ReLU6,
        "leaky_relu": activations.LeakyReLU,
        "gelu": activations.GELU,
        "mish": activations.Mish,
        "tanh": activations.Tanh,
        "sigmoid": activations.Sigmoid,
        "softmax": activations.Softmax,
    },
    "layers",
    base="odyssey_core.nn:Module",
)
