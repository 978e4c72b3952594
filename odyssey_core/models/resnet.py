"""Residual networks for small images."""

from typing import Annotated

from odyssey_core import ops
from odyssey_core.nn import BatchNorm2d, Conv2d, Linear, Module
from odyssey_core.ranges import Range, check_ranges
from odyssey_core.tensor import Shape, Tensor


class ResidualBlock(Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)), both convolutions 3x3 with padding 1.

    The shortcut is x itself, or a 1x1 convolution with batch norm where the size or the number of channels changes.

    Args:
        in_channels: C of the input (N, C, H, W).
        out_channels: C' of the result (N, C', ceil(H / stride), ceil(W / stride)).
        stride: of the first convolution and of the shortcut.
        init: distribution of the weights, a name in INITIALIZERS.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, init: str):
        self.conv1 = Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False, init=init)
        self.bn1 = BatchNorm2d(out_channels)
        self.conv2 = Conv2d(out_channels, out_channels, 3, padding=1, bias=False, init=init)
        self.bn2 = BatchNorm2d(out_channels)
        self.shortcut = []
        if stride > 1 or in_channels != out_channels:
            self.shortcut = [
                Conv2d(in_channels, out_channels, 1, stride, bias=False, init=init),
                BatchNorm2d(out_channels),
            ]

    def forward(self, x: Tensor) -> Tensor:
        y = ops.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        for layer in self.shortcut:
            x = layer(x)
        return ops.relu(y + x)


class ResNet(Module):
    """A 3x3 convolution with batch norm and ReLU, residual blocks, global average pooling, a linear layer.

    Args:
        channels: C of the images (N, C, H, W).
        widths: channels of each stage; a stage begins with stride 2, the first one excepted.
        blocks: residual blocks in each stage.
        classes: width of the result (N, classes).
        init: distribution of the weights, a name in INITIALIZERS.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], blocks: int, classes: int, init: str):
        self.conv1 = Conv2d(channels, widths[0], 3, padding=1, bias=False, init=init)
        self.bn1 = BatchNorm2d(widths[0])
        self.blocks = []
        width = widths[0]
        for stage, out in enumerate(widths):
            for i in range(blocks):
                self.blocks.append(ResidualBlock(width, out, 2 if stage and not i else 1, init))
                width = out
        self.fc = Linear(width, classes, init=init)

    def forward(self, x: Tensor) -> Tensor:
        x = ops.relu(self.bn1(self.conv1(x)))
        for block in self.blocks:
            x = block(x)
        return self.fc(ops.global_avg_pool2d(x))


def resnet8(
    input_shape: Shape, classes: int, *, width: Annotated[int, Range(1)] = 16, init: str = "kaiming_normal"
) -> ResNet:
    """The CIFAR ResNet of 6 n + 2 layers for n = 1: a convolution, three stages of one residual block, a linear layer.

    The stages have ``width``, 2 ``width`` and 4 ``width`` channels, and halve the image from the second one on. For
    (3, 32, 32), 10 classes and width 16 it has 78,042 parameters and 672 running statistics.

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2. We depart from
    it in these points: where a stage begins, the shortcut is a 1x1 convolution with batch norm (the paper's option B,
    its ImageNet nets), not the input subsampled and filled with zero channels (option A); n = 1 is below the paper's
    n = 3 to 18; images of any size are taken.

    Args:
        input_shape: (C, H, W) of the data.
        classes: number of the data's classes.
        width: channels of the first stage.
        init: initializer of the weights: kaiming, kaiming_normal, xavier or lecun.

    Raises:
        ConfigError: a width below 1.
    """
    check_ranges(resnet8, {"width": width}, "model")
    return ResNet(input_shape[0], (width, 2 * width, 4 * width), 1, classes, init)
