"""A plug-in: a residual net, a data set, an optimizer and a loss of one's own.

odyssey-run --plugin own_parts.py model=small_resnet data=bars optim=sign_momentum loss=softened
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from odyssey_core import nn, ops, register
from odyssey_core.arithmetic import fma
from odyssey_core.data import Dataset, Images
from odyssey_core.losses import Loss
from odyssey_core.optim import Optimizer
from odyssey_core.ranges import Count, Range, Share, Size


class Block(nn.Module):
    """relu(x + F(x)), F two convolutions with batch normalisation."""

    def __init__(self, channels: int):
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        y = ops.relu(self.norm1(self.conv1(x)))
        return ops.relu(x + self.norm2(self.conv2(y)))


@register.model("small_resnet")
class SmallResNet(nn.Module):
    """A convolution, residual blocks of one width, the mean over all places, a linear layer."""

    def __init__(self, input_shape, classes, width: Annotated[int, Range(1, 256)] = 8, blocks: Count = 2):
        self.stem = nn.Conv2d(input_shape[0], width, 3, padding=1)
        self.blocks = [Block(width) for _ in range(blocks)]
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(nn.GlobalAvgPool2d()(x))


@register.dataset
def bars(size: Annotated[int, Range(8, 32)] = 12, images: Count = 640, noise: Share = 0.3):
    """Bars that stand, lie or cross, in noise: three classes, as many images to train on as to test."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, 2 * images)
    pixels = noise * rng.random((2 * images, 1, size, size))
    for image, label in zip(pixels[:, 0], labels, strict=True):
        row, column = rng.integers(1, size - 1, 2)
        if label != 0:
            image[row] = 1
        if label != 1:
            image[:, column] = 1
    pixels = (255 * pixels).astype(np.uint8)
    train, test = Images(pixels[:images], labels[:images]), Images(pixels[images:], labels[images:])
    return Dataset("bars", train, test, class_names=("standing", "lying", "crossed"), mean=0.2, std=0.3)


@register.optimizer("sign_momentum")
@dataclass(frozen=True)
class SignMomentum(Optimizer):
    """Lion: c = b1 m + (1 - b1) g;  p -= lr sign(c);  m = b2 m + (1 - b2) g.

    Source: Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023, algorithm 2, without decay.
    """

    lr: Size = 1e-3
    beta1: Share = 0.9
    beta2: Share = 0.99

    @property
    def rule(self):
        return sign_momentum


def sign_momentum(p, g, m, *, beta1, beta2, lr):
    """Runs on NumPy's arrays and, compiled, on vectors: arithmetic, `fma`, sqrt, minimum and maximum."""
    c = fma(beta1, m, (1 - beta1) * g)
    sign = c / np.maximum(np.maximum(c, 0 - c), 1e-37)
    return fma(-lr, sign, p), fma(beta2, m, (1 - beta2) * g)


@register.loss("softened")
@dataclass(frozen=True)
class Softened(Loss):
    """(1 - share) cross-entropy + share squared error."""

    label: ClassVar[str] = "cross-entropy and squared error"
    share: Share = 0.5

    def __call__(self, logits, labels):
        return (1 - self.share) * ops.cross_entropy(logits, labels) + self.share * ops.squared_error(logits, labels)
