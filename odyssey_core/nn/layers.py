"""Layers with parameters or settings: each holds them and enters them into one operation of `ops`."""

import math
from typing import Annotated

from odyssey_core import ops
from odyssey_core.errors import ConfigError
from odyssey_core.initial import Constant
from odyssey_core.nn.initializers import INITIALIZERS
from odyssey_core.nn.module import Module
from odyssey_core.random import stream_of
from odyssey_core.ranges import Count, Natural, PositiveSize, Range, Share, check_ranges
from odyssey_core.tensor import Tensor
from odyssey_core.whitening import Whitening

__all__ = [
    "AvgPool2d", "BatchNorm2d", "Conv2d", "Dropout", "Flatten", "GlobalAvgPool2d", "Linear", "MaxPool2d",
    "WhiteningConv2d",
]  # fmt: skip


class Conv2d(Module):
    """Two-dimensional convolution, (N, in, H, W) to (N, out, H', W'); see `ops.conv2d`.

    Args:
        in_channels: C, a multiple of ``groups``.
        out_channels: O, a multiple of ``groups``.
        kernel_size: of a square kernel, or (height, width).
        stride: step of the window in both directions, at least 1.
        padding: rows and columns of zeros on every side, or (rows, columns).
        bias: whether there is a bias (O,), zero at first.
        groups: parts that the channels are cut into; C for a depthwise convolution.
        init: distribution of the weight (O, C / groups, height, width), a name in INITIALIZERS.

    Raises:
        ConfigError: an unknown initializer, or groups that do not divide the channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: Count,
        kernel_size: Count | tuple[Count, Count],
        stride: Count = 1,
        padding: Natural | tuple[Natural, Natural] = 0,
        bias: bool = True,
        groups: Count = 1,
        init: str = "kaiming",
    ):
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ConfigError(
                f"conv2d: groups must divide {in_channels} input and {out_channels} output channels, got {groups}"
            )
        kernel = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        shape = (out_channels, in_channels // groups, *kernel)
        area = math.prod(kernel)
        initial = INITIALIZERS[init](shape[1] * area, out_channels // groups * area)
        self.weight = ops.parameter("weight", shape, initial)
        self.bias = ops.parameter("bias", (out_channels,)) if bias else None
        self.stride, self.padding, self.groups = stride, padding, groups

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv2d(x, self.weight, self.bias, stride=self.stride, padding=self.padding, groups=self.groups)


class WhiteningConv2d(Module):
    """A convolution whose frozen filters make the patches of the training images uncorrelated, each with its negative:
    (N, C, H, W) to (N, 2 C k k, H - k + 1, W - k + 1).

    The filters follow from the data, see `whitening.Whitening`: `Learner.initialize` sets them.

    Args:
        in_channels: C.
        kernel_size: k, of a patch.
        eps: added to the variances.
        bias: whether there is a bias (2 C k k,), zero at first, which is trained.
    """

    def __init__(self, in_channels: int, kernel_size: Count = 2, eps: PositiveSize = 5e-4, bias: bool = True):
        filters = 2 * in_channels * kernel_size * kernel_size
        shape = (filters, in_channels, kernel_size, kernel_size)
        self.weight = ops.parameter("weight", shape, Whitening(eps), trained=False)
        self.bias = ops.parameter("bias", (filters,)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.conv2d(x, self.weight, self.bias)


class Linear(Module):
    """y = x weight^T + bias, (N, in) to (N, out).

    Args:
        in_features: length of x.
        out_features: length of y.
        bias: whether there is a bias (out,), zero at first.
        init: distribution of the weight (out, in), a name in INITIALIZERS.

    Raises:
        ConfigError: an unknown initializer.
    """

    def __init__(self, in_features: int, out_features: Count, bias: bool = True, init: str = "kaiming"):
        initial = INITIALIZERS[init](in_features, out_features)
        self.weight = ops.parameter("weight", (out_features, in_features), initial)
        self.bias = ops.parameter("bias", (out_features,)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)


class BatchNorm2d(Module):
    """Each channel of (N, C, H, W) with mean 0 and variance 1 over the images of a step, then scaled and shifted.

    In inference the running averages stand for the statistics of a step: two buffers (C,), which are saved with the
    weights and never trained. See `ops.batch_norm2d` for the formulas, which are PyTorch's.

    Args:
        in_channels: C.
        momentum: weight of the newest statistics in the running averages, in [0, 1].
        eps: added to the variance, above 0.
        scale: whether the factor is trained; if not, it stays 1.
    """

    def __init__(
        self,
        in_channels: int,
        momentum: Annotated[float, Range(0, 1)] = 0.1,
        eps: PositiveSize = 1e-5,
        scale: bool = True,
    ):
        self.weight = ops.parameter("weight", (in_channels,), Constant(1.0), trained=scale)
        self.bias = ops.parameter("bias", (in_channels,))
        self.running_mean = ops.buffer("running_mean", (in_channels,), Constant(0.0))
        self.running_var = ops.buffer("running_var", (in_channels,), Constant(1.0))
        self.momentum, self.eps = momentum, eps

    def forward(self, x: Tensor) -> Tensor:
        averages = self.running_mean, self.running_var
        return ops.batch_norm2d(x, self.weight, self.bias, *averages, momentum=self.momentum, eps=self.eps)


class MaxPool2d(Module):
    """The maximum of each window, (N, C, H, W) to (N, C, H', W'); see `ops.max_pool2d`.

    Args:
        kernel_size: side of the window, at least 1.
        stride: step of the window, at least 1; by default its side.
        padding: rows and columns on every side, at most half the side.
    """

    operation = staticmethod(ops.max_pool2d)

    def __init__(self, kernel_size: Count, stride: Count | None = None, padding: Natural = 0):
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        return self.operation(x, self.kernel_size, self.stride, self.padding)


class AvgPool2d(MaxPool2d):
    """The mean of each window, (N, C, H, W) to (N, C, H', W'); see `ops.avg_pool2d`. Arguments as `MaxPool2d`."""

    operation = staticmethod(ops.avg_pool2d)


class GlobalAvgPool2d(Module):
    """The mean of each channel, (N, C, H, W) to (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.global_avg_pool2d(x)


class Flatten(Module):
    """(N, ...) to (N, features)."""

    def forward(self, x: Tensor) -> Tensor:
        return ops.flatten(x)


class Dropout(Module):
    """Zeroes each value with probability p while training, see `ops.dropout`; shapes stay.

    Its random stream belongs to its path in the model's tree, so that two of them never draw the same, and none changes
    when another is added elsewhere. One that a model calls several times draws anew for each call, as in PyTorch.

    Args:
        p: probability of zero; 0 adds no operation.

    Raises:
        ConfigError: p out of range.
    """

    def __init__(self, p: Share):
        check_ranges(Dropout.__init__, {"p": p}, "dropout")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        stream = self.path if self.call == 1 else f"{self.path}/{self.call}"
        return ops.dropout(x, self.p, stream_of(stream)) if self.p else x
