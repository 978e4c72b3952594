"""Layers: parameters and the operation they enter."""

from odyssey_core import ops
from odyssey_core.nn.initializers import INITIALIZERS
from odyssey_core.nn.module import Module
from odyssey_core.random import stream_of
from odyssey_core.ranges import Share, check_ranges
from odyssey_core.tensor import Tensor


class Conv2d(Module):
    """Two-dimensional convolution, see `ops.conv2d`; weight (out, in, k, k) drawn by ``init``, zero bias (out,)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        init: str = "kaiming",
    ):
        area = kernel_size * kernel_size
        bound = INITIALIZERS[init](in_channels * area, out_channels * area)
        self.weight = ops.parameter("weight", (out_channels, in_channels, kernel_size, kernel_size), bound)
        self.bias = ops.parameter("bias", (out_channels,)) if bias else None
        self.stride, self.padding = stride, padding

    def __call__(self, x: Tensor) -> Tensor:
        return ops.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding)


class Linear(Module):
    """y = x weight^T + bias; weight (out, in) drawn by ``init``, zero bias (out,)."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True, init: str = "kaiming"):
        bound = INITIALIZERS[init](in_features, out_features)
        self.weight = ops.parameter("weight", (out_features, in_features), bound)
        self.bias = ops.parameter("bias", (out_features,)) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)


class MaxPool2d(Module):
    """The maximum of each window, see `ops.max_pool2d`."""

    def __init__(self, kernel_size: int, stride: int | None = None):
        self.kernel_size, self.stride = kernel_size, stride

    def __call__(self, x: Tensor) -> Tensor:
        return ops.max_pool2d(x, self.kernel_size, self.stride)


class AvgPool2d(Module):
    """The mean of each window, see `ops.avg_pool2d`."""

    def __init__(self, kernel_size: int, stride: int | None = None):
        self.kernel_size, self.stride = kernel_size, stride

    def __call__(self, x: Tensor) -> Tensor:
        return ops.avg_pool2d(x, self.kernel_size, self.stride)


class ReLU(Module):
    """max(x, 0)."""

    def __call__(self, x: Tensor) -> Tensor:
        return ops.relu(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def __call__(self, x: Tensor) -> Tensor:
        return ops.tanh(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def __call__(self, x: Tensor) -> Tensor:
        return ops.sigmoid(x)


class Flatten(Module):
    """(N, ...) to (N, features)."""

    def __call__(self, x: Tensor) -> Tensor:
        return ops.flatten(x)


class Dropout(Module):
    """Zeroes with probability p while training, see `ops.dropout`; ``name`` decides its random stream."""

    def __init__(self, p: Share, name: str):
        check_ranges(Dropout.__init__, {"p": p}, "dropout")
        self.p, self.stream = p, stream_of(name)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p, self.stream) if self.p else x
