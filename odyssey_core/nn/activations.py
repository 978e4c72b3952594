"""Activation functions as layers; shapes stay. The formulas are in `ops.activations`."""

from odyssey_core import ops
from odyssey_core.nn.module import Module
from odyssey_core.ranges import Size
from odyssey_core.tensor import Tensor

__all__ = ["GELU", "LeakyReLU", "Mish", "ReLU", "ReLU6", "Sigmoid", "Softmax", "Tanh"]


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class ReLU6(Module):
    """min(max(x, 0), 6)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.relu6(x)


class LeakyReLU(Module):
    """x where it is above 0, else ``negative_slope`` x.

    Args:
        negative_slope: at least 0.
    """

    def __init__(self, negative_slope: Size = 0.01):
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return ops.leaky_relu(x, self.negative_slope)


class GELU(Module):
    """x times the probability that a standard normal number is below x."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.gelu(x)


class Mish(Module):
    """x tanh(log(1 + exp(x)))."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.mish(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class Softmax(Module):
    """exp(x) / sum of exp(x) over each row of (N, classes)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.softmax(x)
