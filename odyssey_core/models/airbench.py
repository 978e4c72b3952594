"""Networks that are trained to a known accuracy on CIFAR-10 with little arithmetic."""

from typing import Literal

from odyssey_core import ops
from odyssey_core.models.sizes import require_pixels
from odyssey_core.nn import BatchNorm2d, Conv2d, Linear, Module, WhiteningConv2d
from odyssey_core.ranges import Count, check_ranges
from odyssey_core.tensor import Shape, Tensor

WIDTHS = {
    93: (64, 2),
    94: (64, 4),
    95: (128, 3),
}  # channels of the first block, and how many times as many the other two have
LEAST = 25  # pixels of a side: 2x2, three pools by 2 and one by 3


class AirbenchBlock(Module):
    """gelu(bn(conv(gelu(bn(pool(conv(x))))))), both convolutions 3x3 with padding 1, the pool the maximum of 2x2.

    Batch norms have a bias alone, and forget more than half of their averages in a step.

    Args:
        in_channels: C of the input (N, C, H, W).
        out_channels: C' of the result (N, C', H // 2, W // 2).
    """

    def __init__(self, in_channels: int, out_channels: int):
        self.conv1 = Conv2d(in_channels, out_channels, 3, padding=1, bias=False, init="dirac")
        self.norm1 = BatchNorm2d(out_channels, momentum=0.4, eps=1e-12, scale=False)
        self.conv2 = Conv2d(out_channels, out_channels, 3, padding=1, bias=False, init="dirac")
        self.norm2 = BatchNorm2d(out_channels, momentum=0.4, eps=1e-12, scale=False)

    def forward(self, x: Tensor) -> Tensor:
        x = ops.gelu(self.norm1(ops.max_pool2d(self.conv1(x), 2)))
        return ops.gelu(self.norm2(self.conv2(x)))


class Airbench(Module):
    """A whitening 2x2 convolution and GELU, three blocks, the maximum of 3x3, a linear layer, its result divided by 9.

    Args:
        channels: C of the images (N, C, H, W).
        widths: channels of each block.
        features: places that are left after the last pool, times channels.
        classes: width of the result (N, classes).
    """

    def __init__(self, channels: int, widths: tuple[int, int, int], features: int, classes: int):
        self.whiten = WhiteningConv2d(channels, 2)
        into, self.blocks = 8 * channels, []
        for width in widths:
            self.blocks.append(AirbenchBlock(into, width))
            into = width
        self.fc = Linear(features, classes, bias=False, init="pytorch")

    def forward(self, x: Tensor) -> Tensor:
        x = ops.gelu(self.whiten(x))
        for block in self.blocks:
            x = block(x)
        return self.fc(ops.flatten(ops.max_pool2d(x, 3))) / 9


def airbench(
    input_shape: Shape, classes: int, *, size: Literal[93, 94, 95] = 94, width: Count | None = None
) -> Airbench:
    """The networks of airbench93, airbench94 and airbench95, called after the per cent that they reach on CIFAR-10.

    For (3, 32, 32) and 10 classes they have 569,656, 1,972,792 and 4,606,520 parameters. Those of the whitening layer,
    288, and the factors of the batch norms, 640, 1,152 and 1,792, are frozen. Each batch norm has two running
    statistics for each factor.

    Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024 (arXiv 2404.00498), and its code's
    airbench94.py. We depart from it in these points: float32 in place of half precision; GELU to float32's precision by
    our own formula; images of other sizes and channels are taken.

    Args:
        input_shape: (C, H, W) of the data.
        classes: number of the data's classes.
        size: 93 for blocks of 64, 128 and 128 channels, 94 for 64, 256 and 256, 95 for 128, 384 and 384.
        width: channels of the first block in place of these, the others in proportion; None as ``size`` says.

    Raises:
        ConfigError: a width below 1.
        ShapeError: images too small for the pools.
    """
    check_ranges(airbench, {"width": width}, "model")
    c, h, w = input_shape
    require_pixels("airbench", input_shape, LEAST, "model=resnet8 or model=mlp")
    first, times = WIDTHS[size]
    first = width or first
    last = times * first
    return Airbench(c, (first, last, last), last * ((h - 1) // 8 // 3) * ((w - 1) // 8 // 3), classes)
