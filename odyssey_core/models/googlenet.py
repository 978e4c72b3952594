"""GoogLeNet: blocks whose branches see windows of several sizes side by side."""

from odyssey_core import ops
from odyssey_core.nn import (
    BatchNorm2d,
    Conv2d,
    Dropout,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)
from odyssey_core.ranges import Share
from odyssey_core.tensor import Shape, Tensor

# Of each Inception: channels of the 1x1 branch, of the 3x3 branch's two, of the 5x5 branch's two, behind the pool.
STAGES = (
    {"3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64)},
    {
        "4a": (192, 96, 208, 16, 48, 64),
        "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64),
        "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128),
    },
    {"5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128)},
)


def _normalized(channels: int, out: int, kernel: int, init: str) -> dict[str, Module]:
    """A convolution that keeps the size, with batch norm and ReLU."""
    conv = Conv2d(channels, out, kernel, padding=kernel // 2, bias=False, init=init)
    return {"conv": conv, "bn": BatchNorm2d(out), "relu": ReLU()}


class Inception(Module):
    """What four branches make of x, one behind the other: 1x1; 1x1 and 3x3; 1x1 and 5x5; a 3x3 max-pool and 1x1.

    Args:
        channels: C of the input (N, C, H, W).
        of_1x1: channels of the first branch.
        before_3x3: channels of the second branch between its convolutions.
        of_3x3: channels of the second branch.
        before_5x5: channels of the third branch between its convolutions.
        of_5x5: channels of the third branch.
        of_pool: channels of the last branch.
        init: distribution of the weights, a name in INITIALIZERS.
    """

    def __init__(
        self,
        channels: int,
        of_1x1: int,
        before_3x3: int,
        of_3x3: int,
        before_5x5: int,
        of_5x5: int,
        of_pool: int,
        init: str,
    ):
        def branch(*convolutions: tuple[int, int, int]) -> Sequential:
            return Sequential([Sequential(_normalized(*each, init)) for each in convolutions])

        self.branch1 = branch((channels, of_1x1, 1))
        self.branch2 = branch((channels, before_3x3, 1), (before_3x3, of_3x3, 3))
        self.branch3 = branch((channels, before_5x5, 1), (before_5x5, of_5x5, 5))
        self.pool, self.branch4 = MaxPool2d(3, 1, 1), branch((channels, of_pool, 1))
        self.channels = of_1x1 + of_3x3 + of_5x5 + of_pool

    def forward(self, x: Tensor) -> Tensor:
        return ops.concat(self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(self.pool(x)))


def googlenet(input_shape: Shape, classes: int, *, dropout: Share = 0.4, init: str = "kaiming_normal") -> Sequential:
    """A 3x3 convolution, max-pool, nine Inceptions with two max-pools between them, global average, a linear layer.

    Every convolution has batch norm and ReLU behind it; the three pools are 3x3 with stride 2 and padding 1. For
    (3, 32, 32) and 10 classes it has 5,841,578 parameters.

    Source: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, table 1. We depart from it in these points: one
    3x3 convolution of 64 channels and one pool stand in front of the Inceptions, for three convolutions and two
    pools there, since a 32x32 image has no pixels to spare (as the first version of this program had it); batch norm
    in place of local response normalisation; no auxiliary classifiers; images of any size are taken.

    Args:
        input_shape: (C, H, W) of the data.
        classes: number of the data's classes.
        dropout: probability of zero in front of the linear layer.
        init: initializer of the weights: kaiming, kaiming_normal, xavier, lecun, pytorch or dirac.
    """
    layers: dict[str, Module] = {"stem": Sequential(_normalized(input_shape[0], 64, 3, init))}
    channels = 64
    for i, stage in enumerate(STAGES, 1):
        layers[f"pool{i}"] = MaxPool2d(3, 2, 1)
        for name, widths in stage.items():
            inception = layers[f"inception{name}"] = Inception(channels, *widths, init)
            channels = inception.channels
    return Sequential(
        layers | {"pool": GlobalAvgPool2d(), "dropout": Dropout(dropout), "fc": Linear(channels, classes, init=init)}
    )
