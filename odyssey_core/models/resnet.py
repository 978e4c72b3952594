"""Residual networks for small images."""

from collections.abc import Callable
from typing import Literal

from odyssey_core import ops
from odyssey_core.nn import BatchNorm2d, Conv2d, Linear, Module
from odyssey_core.ranges import Count, check_ranges
from odyssey_core.tensor import Shape, Tensor

Shortcut = Literal["identity", "projection"]


class Widened(Module):
    """Every second pixel of every second row of x, and as many channels again that are zero: (N, C, H, W) to
    (N, 2 C, ceil(H / 2), ceil(W / 2)).
    """

    def forward(self, x: Tensor) -> Tensor:
        x = ops.avg_pool2d(x, 1, 2)
        return ops.concat(x, x * 0)


class ResidualBlock(Module):
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut(x)), both convolutions 3x3 with padding 1.

    The shortcut is x itself; where the size or the number of channels changes, a 1x1 convolution with batch norm
    (``projection``, the paper's option B) or what `Widened` makes of x (``identity``, option A).

    Args:
        in_channels: C of the input (N, C, H, W).
        out_channels: C' of the result (N, C', ceil(H / stride), ceil(W / stride)).
        stride: of the first convolution and of the shortcut.
        shortcut: which of the two; identity where stride is 2 and C' is 2 C.
        init: distribution of the weights, a name in INITIALIZERS.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, shortcut: Shortcut, init: str):
        self.conv1 = Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False, init=init)
        self.bn1 = BatchNorm2d(out_channels)
        self.conv2 = Conv2d(out_channels, out_channels, 3, padding=1, bias=False, init=init)
        self.bn2 = BatchNorm2d(out_channels)
        self.shortcut: list[Module] = []
        if stride > 1 and shortcut == "identity":
            self.shortcut = [Widened()]
        elif stride > 1:
            projection = Conv2d(in_channels, out_channels, 1, stride, bias=False, init=init)
            self.shortcut = [projection, BatchNorm2d(out_channels)]

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
        width: channels of the first stage; each other one has twice those of the stage before, and begins with
            stride 2.
        stages: how many.
        blocks: residual blocks in each stage.
        classes: width of the result (N, classes).
        shortcut: of the blocks that begin a stage, see `ResidualBlock`.
        init: distribution of the weights, a name in INITIALIZERS.
    """

    def __init__(
        self, channels: int, width: int, stages: int, blocks: int, classes: int, shortcut: Shortcut, init: str
    ):
        self.conv1 = Conv2d(channels, width, 3, padding=1, bias=False, init=init)
        self.bn1 = BatchNorm2d(width)
        self.blocks = []
        for stage in range(stages):
            out = width << stage
            for i in range(blocks):
                begins = stage > 0 and i == 0
                block = ResidualBlock(out // 2 if begins else out, out, 1 + begins, shortcut, init)
                self.blocks.append(block)
        self.fc = Linear(out, classes, init=init)

    def forward(self, x: Tensor) -> Tensor:
        x = ops.relu(self.bn1(self.conv1(x)))
        for block in self.blocks:
            x = block(x)
        return self.fc(ops.global_avg_pool2d(x))


def _of_layers(layers: int, default: Shortcut) -> Callable[..., ResNet]:
    """The nets of section 4.2, of 6 n + 2 layers, with the shortcut that they have by default."""

    def resnet(
        input_shape: Shape,
        classes: int,
        *,
        width: Count = 16,
        shortcut: Shortcut = default,
        init: str = "kaiming_normal",
    ) -> ResNet:
        """The CIFAR ResNet of 6 n + 2 layers: a convolution, three stages of n residual blocks, a linear layer.

        The stages have ``width``, 2 ``width`` and 4 ``width`` channels, and halve the image from the second one on.
        For (3, 32, 32) and 10 classes they have these numbers of parameters and of running statistics; the paper's
        table 6 gives those from 20 layers on as 0.27, 0.46, 0.66 and 0.85 million:

            resnet8 78,042 and 672, resnet20 269,722 and 1,376, resnet32 464,154 and 2,272, resnet44 658,586 and
            3,168, resnet56 853,018 and 4,064

        Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2. As there,
        the shortcut that begins a stage is the input subsampled and filled with zero channels (option A), which has
        no parameters. We depart from the paper in these points: the zero channels are behind the others; images of any
        size are taken; resnet8, whose n = 1 is below the paper's 3 to 18, has a 1x1 convolution with batch norm there
        by default (option B, the paper's ImageNet nets), as MLPerf Tiny's. ``projection`` gives option B to the
        others, with 2,752 parameters more.

        Args:
            input_shape: (C, H, W) of the data.
            classes: number of the data's classes.
            width: channels of the first stage.
            shortcut: identity for option A, projection for B.
            init: initializer of the weights: kaiming, kaiming_normal, xavier, lecun, pytorch or dirac.

        Raises:
            ConfigError: a width below 1.
        """
        check_ranges(resnet, {"width": width}, "model")
        return ResNet(input_shape[0], width, 3, (layers - 2) // 6, classes, shortcut, init)

    resnet.__name__ = resnet.__qualname__ = f"resnet{layers}"
    return resnet


resnet8 = _of_layers(8, "projection")
resnet20, resnet32, resnet44, resnet56 = (_of_layers(layers, "identity") for layers in (20, 32, 44, 56))


def resnet18(input_shape: Shape, classes: int, *, width: Count = 64, init: str = "kaiming_normal") -> ResNet:
    """The ImageNet ResNet of 18 layers behind a stem for small images: four stages of two residual blocks.

    The stages have ``width``, 2, 4 and 8 ``width`` channels, and halve the image from the second one on. For
    (3, 32, 32), 10 classes and width 64 it has 11,173,962 parameters.

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1, with option B. We
    depart from it in these points: the stem is a 3x3 convolution with stride 1 and no pooling, not 7x7 with stride 2
    and a max-pool, which would leave one pixel of a 32x32 image (as is usual on CIFAR-10); images of any size.

    Args:
        input_shape: (C, H, W) of the data.
        classes: number of the data's classes.
        width: channels of the first stage.
        init: initializer of the weights: kaiming, kaiming_normal, xavier, lecun, pytorch or dirac.

    Raises:
        ConfigError: a width below 1.
    """
    check_ranges(resnet18, {"width": width}, "model")
    return ResNet(input_shape[0], width, 4, 2, classes, "projection", init)
