"""MobileNet: each convolution taken apart into one over pixels and one over channels."""

from typing import Annotated

from odyssey_core.nn import BatchNorm2d, Conv2d, GlobalAvgPool2d, Linear, Module, ReLU, Sequential
from odyssey_core.ranges import Count, Range, check_ranges
from odyssey_core.tensor import Shape

# Of each block: channels in units of the stem's, and stride.
BLOCKS = ((2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2), *((16, 1),) * 5, (32, 2), (32, 1))


def mobilenet_v1(
    input_shape: Shape,
    classes: int,
    *,
    width: Count = 32,
    stem_stride: Annotated[int, Range(1, 2)] = 1,
    init: str = "kaiming_normal",
) -> Sequential:
    """A 3x3 convolution, thirteen blocks of a depthwise 3x3 and a 1x1 convolution, global average, a linear layer.

    Every convolution has batch norm and ReLU behind it. For (3, 32, 32), 10 classes and width 32 it has 3,217,226
    parameters.

    Source: Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
    arXiv:1704.04861, 2017, table 1. We depart from it in these points: the first convolution has stride 1 by default,
    since stride 2 leaves one pixel of a 32x32 image already in the twelfth block, as the first version of this program
    had it; images of any size are taken; the last block, whose stride table 1 gives as 2, has 1, as in every
    implementation.

    Args:
        input_shape: (C, H, W) of the data.
        classes: number of the data's classes.
        width: channels of the first convolution, 32 times the paper's width multiplier.
        stem_stride: of the first convolution; 2 as in the paper.
        init: initializer of the weights: kaiming, kaiming_normal, xavier, lecun, pytorch or dirac.

    Raises:
        ConfigError: a number out of range.
    """
    check_ranges(mobilenet_v1, {"width": width, "stem_stride": stem_stride}, "model")
    layers: dict[str, Module] = {}

    def add(name: str, channels: int, out: int, kernel: int, stride: int, groups: int = 1) -> None:
        conv = Conv2d(channels, out, kernel, stride, kernel // 2, bias=False, groups=groups, init=init)
        layers.update({f"{name}.conv": conv, f"{name}.bn": BatchNorm2d(out), f"{name}.relu": ReLU()})

    add("stem", input_shape[0], width, 3, stem_stride)
    channels = width
    for i, (units, stride) in enumerate(BLOCKS, 1):
        add(f"block{i}.depthwise", channels, channels, 3, stride, groups=channels)
        add(f"block{i}.pointwise", channels, units * width, 1, 1)
        channels = units * width
    return Sequential(layers | {"pool": GlobalAvgPool2d(), "fc": Linear(channels, classes, init=init)})
