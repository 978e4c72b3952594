"""Training programs of small nets, which together use every kernel, with what a step of each needs."""

import copy
from unittest.mock import patch

import numpy as np
from harness import numba_backend

from odyssey_core import ops
from odyssey_core.autodiff import gradients
from odyssey_core.backends.base import NO_BUFFERS, Feed
from odyssey_core.backends.numba.graph import Graph
from odyssey_core.backends.numba.kernels import weight_slices
from odyssey_core.backends.numba.lower import Lowering
from odyssey_core.backends.numba.lower_single import SingleLowering
from odyssey_core.backends.numba.run import NumbaExecutable, compiled
from odyssey_core.data.augment import Augment
from odyssey_core.models import MODELS
from odyssey_core.nn import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
    Tanh,
)
from odyssey_core.optim import OPTIMIZERS, PLAIN, StepRule, Update
from odyssey_core.tensor import after_step, for_inference

GUARD = 4096
ACTIVATIONS = [getattr(ops, name) for name in ops.activations.__all__ if name != "softmax"]
MARK = np.float32(-1234.5)


class Trained:
    """A model's training program and what a step of it needs.

    Args:
        model: a module.
        shape: of an image.
        batch: images in a step, of which the last two are missing.
        optimizer, rule: what is done with the gradients.
        classes: of the labels.
        threads: of the program.
        amounts: of distortion, see `ops.images`.
        loss: of logits and labels.
    """

    def __init__(
        self, model, shape, batch, optimizer, classes, rule=PLAIN, threads=1, amounts=None, loss=ops.cross_entropy
    ):  # fmt: skip
        losses = loss(model(ops.images((batch, *shape), 0.1, 0.9, amounts)), ops.labels(batch))
        parameters, held = model.parameters(), model.state()
        grads = gradients(losses, list(parameters.values()))
        updates = [Update(n, p, g, optimizer) for (n, p), g in zip(parameters.items(), grads, strict=True)]
        changed = after_step([losses])
        buffers = {name: changed[node] for name, node in model.buffers().items() if node in changed}
        self.arguments = [losses], held, updates, rule, buffers
        self.executable = NumbaExecutable(compiled(Graph(*self.arguments), 8, threads, numba_backend().tiles))
        rng = np.random.default_rng(1)
        order = np.arange(batch)[None]
        order[:, -2:] = -1
        self.feed = Feed(
            order=order,
            pixels=rng.integers(0, 256, (batch, int(np.prod(shape))), np.uint8),
            labels=rng.integers(0, classes, batch),
            scalars=rule.numbers(optimizer, 0, [0.01]),
        )
        self.executable.write({n: rng.uniform(0.01, 0.1, p.shape) for n, p in held.items()})

    @property
    def program(self):
        return self.executable.program

    def corrupted(self, table=None, phases=None):
        """The program with other rows or phases."""
        program = copy.copy(self.program)
        program.table = program.table if table is None else table
        program.phases = program.phases if phases is None else phases
        return program

    def guarded(self, program, memory=None) -> bool:
        """Runs a step of ``program`` between guard zones; whether these are as they were."""
        size, executable = program.memory_size, copy.copy(self.executable)
        whole = np.full(size + 2 * GUARD, MARK)
        executable._memory = whole[GUARD : GUARD + size]
        executable._memory[...] = self.executable._memory if memory is None else memory
        executable.program = copy.copy(program)
        executable.program.first = 0  # rows that are run when values are written, too
        executable.run(self.feed)
        return bool((whole[:GUARD] == MARK).all() and (whole[GUARD + size :] == MARK).all())


def lenet5(threads: int = 1) -> Trained:
    """LeNet-5 with clipping and averages: two blocks, two groups."""
    model, rule = MODELS["lenet5"](input_shape=(1, 28, 28), classes=47), StepRule(clip_norm=0.5, ema=0.9)
    return Trained(model, (1, 28, 28), 32, OPTIMIZERS["sgd"](momentum=0.9), 47, rule, threads)


def other() -> Trained:
    """What LeNet-5 lacks: padding, strides, tanh, average pooling, overlapping windows, dropout, a bias-free layer."""
    layers = {
        "conv1": Conv2d(2, 3, 3, stride=2, padding=1),
        "tanh": Tanh(),
        "pool1": MaxPool2d(3, 2),
        "conv2": Conv2d(3, 4, 2, padding=1, bias=False),
        "relu": ReLU(),
        "pool2": AvgPool2d(2),
        "flatten": Flatten(),
        "dropout": Dropout(0.5),
        "fc": Linear(8, 5),
    }
    return Trained(Sequential(layers), (2, 11, 13), 16, OPTIMIZERS["adam"](), 5)


class _Residual(Module):
    """Moved images, two batch norms, one behind the other, groups, a shortcut, and every activation."""

    def __init__(self):
        self.first, self.one = Conv2d(2, 4, 3, padding=1, bias=False), BatchNorm2d(4)
        self.second, self.two = Conv2d(4, 4, (3, 1), padding=(1, 0), groups=2), BatchNorm2d(4)
        self.fc = Linear(4 * (1 + len(ACTIVATIONS)), 5)

    def forward(self, x):
        h = ops.relu(self.one(self.first(ops.shift2d(x, 1, -1, mirror=True))))
        h = self.two(self.second(h)) + h
        h = ops.concat(h * h, *(activation(h) for activation in ACTIVATIONS))
        h = ops.avg_pool2d(ops.max_pool2d(h, 3, 1, 1), 2, 2, 1)
        return ops.softmax(self.fc(ops.global_avg_pool2d(h))) * 3


def residual(batch: int = 33, threads: int = 1) -> Trained:
    """Batch norm's statistics over three blocks, distorted images, the squared error."""
    amounts = Augment(rotation=6, scale=0.1, shear=0.1, shift=1, flip=True, cutout=2, contrast=0.1).amounts()
    return Trained(
        _Residual(), (2, 4, 6), batch, OPTIMIZERS["rmsprop"](momentum=0.5), 5, StepRule(ema=0.9), threads, amounts,
        ops.squared_error,
    )  # fmt: skip


def wide() -> Trained:
    """A convolution of whole vectors of channels behind another; one that sums gradients lane by lane; steps
    that are orthogonal matrices.
    """
    layers = {
        "conv1": Conv2d(1, 16, 3, padding=1), "relu1": ReLU(), "conv2": Conv2d(16, 3, 3), "relu2": ReLU(),
        "flatten": Flatten(), "fc": Linear(12, 3),
    }  # fmt: skip
    return Trained(Sequential(layers), (1, 4, 4), 16, OPTIMIZERS["muon"](), 3, loss=ops.multi_margin)


def separable() -> Trained:
    """Depthwise convolutions and those of one pixel, with relu before and behind them and with strides."""
    layers = {
        "conv1": Conv2d(2, 4, 1), "relu1": ReLU(), "deep1": Conv2d(4, 4, 3, padding=1, groups=4), "relu2": ReLU(),
        "conv2": Conv2d(4, 5, 1, stride=2, bias=False), "deep2": Conv2d(5, 5, 2, stride=2, groups=5),
        "flatten": Flatten(), "fc": Linear(10, 3),
    }  # fmt: skip
    return Trained(Sequential(layers), (2, 5, 7), 32, OPTIMIZERS["sgd"](), 3)


class _Winograd(Module):
    """Convolutions by Winograd's algorithm, one beside a shortcut, channels that fill no vector."""

    def __init__(self):
        self.first, self.second = Conv2d(2, 17, 1), Conv2d(17, 16, 3, padding=1)
        self.third, self.fourth = Conv2d(16, 16, 3, padding=1), Conv2d(16, 18, 3)
        self.fc = Linear(18 * 4 * 1, 3)

    def forward(self, x):
        h = ops.relu(self.second(ops.relu(self.first(x))))
        return self.fc(ops.flatten(ops.relu(self.fourth(ops.relu(h + self.third(h))))))


def winograd() -> Trained:
    """Tiles cut by the border, two blocks that share a strip."""
    return Trained(_Winograd(), (2, 6, 3), 32, OPTIMIZERS["sgd"](), 3)


def resnet8() -> Trained:
    """Three stages with batch norm on digits, two blocks of images."""
    model = MODELS["resnet8"](input_shape=(1, 8, 8), classes=10, width=8)
    return Trained(model, (1, 8, 8), 32, OPTIMIZERS["sgd"](momentum=0.9), 10)


def resnet20() -> Trained:
    """The net of CIFAR-10, two blocks of images."""
    model = MODELS["resnet20"](input_shape=(3, 32, 32), classes=10)
    return Trained(model, (3, 32, 32), 32, OPTIMIZERS["sgd"](momentum=0.9, nesterov=True), 10)


class _Tiles(Module):
    """Weights' gradients summed by tiles of two convolutions, by taps of one; a sum over the batch before them."""

    def __init__(self):
        self.first, self.norm = Conv2d(1, 16, 3, padding=1, bias=False), BatchNorm2d(16)
        self.second, self.third = Conv2d(16, 17, 3, padding=1), Conv2d(17, 33, 3, padding=1, bias=False)
        self.fourth, self.fc = Conv2d(33, 16, 2, stride=2, bias=False), Linear(16, 3)

    def forward(self, x):
        h = self.second(ops.relu(self.norm(self.first(x))))
        return self.fc(ops.global_avg_pool2d(self.fourth(self.third(ops.tanh(h)))))


def tiles(batch: int = 33, threads: int = 1) -> Trained:
    """Three blocks, each of whose groups has sums of its own."""
    return Trained(_Tiles(), (1, 5, 3), batch, OPTIMIZERS["sgd"](momentum=0.9), 3, StepRule(clip_norm=0.5), threads)


def slices(batch: int = 33, threads: int = 1) -> Trained:
    """The same, each slice of channels summed over all three blocks."""
    with patch.object(weight_slices, "LARGE", 1):
        return tiles(batch, threads)


class _Pools(Module):
    """What a single image is computed by: borders, strides, groups, Winograd, every pool, batch norm, odd channels."""

    def __init__(self):
        self.first, self.norm = Conv2d(2, 5, 3, stride=2, padding=1, bias=False), BatchNorm2d(5)
        self.deep, self.parts = Conv2d(5, 5, 3, padding=1, groups=5), Conv2d(20, 20, 1, groups=4)
        self.second, self.third = Conv2d(5, 20, 2), Conv2d(20, 17, 3, padding=1)
        self.fc, self.means = Linear(68, 18), Linear(34, 18)

    def forward(self, x):
        h = self.deep(ops.max_pool2d(ops.relu(self.norm(self.first(x))), 3, 1, 1))
        h = ops.avg_pool2d(ops.relu(self.third(self.parts(ops.tanh(self.second(h))))), 2, 2, 1)
        h = ops.concat(h, h * 0.5)
        return ops.relu(self.fc(ops.flatten(ops.max_pool2d(h, 2)))) + self.means(ops.global_avg_pool2d(h))


class _Normalized(Module):
    """Batch norm behind a convolution of every kind, one of them beside a shortcut."""

    def __init__(self):
        self.first, self.deep = Conv2d(2, 5, 3, stride=2, padding=1, bias=False), Conv2d(5, 5, 2, groups=5)
        self.one, self.last = Conv2d(5, 17, 1), Conv2d(17, 17, 3, padding=1, bias=False)
        self.norms = [BatchNorm2d(channels) for channels in (5, 5, 17, 17)]
        self.fc = Linear(17, 3)

    def forward(self, x):
        for layer, norm in zip((self.first, self.deep, self.one), self.norms, strict=False):
            x = ops.relu(norm(layer(x)))
        return self.fc(ops.global_avg_pool2d(ops.relu(self.norms[3](self.last(x)) + x)))


class Untrained(Trained):
    """A program that computes the probabilities of images, and nothing else.

    Args:
        model: a module.
        shape: of an image.
        batch: images, of which the last one is missing.
        lowered: into blocks of sixteen images, or into single ones.
    """

    def __init__(self, model, shape, batch, lowered):
        rng, held = np.random.default_rng(1), model.state()
        logits = model(ops.images((batch, *shape), (0.1, 0.2), 0.9))
        self.arguments = for_inference([ops.softmax(logits)]), held, (), PLAIN, NO_BUFFERS
        self.executable = NumbaExecutable(compiled(Graph(*self.arguments), 1, 1, numba_backend().tiles, lowered))
        order = np.arange(batch)[None]
        order[:, -1] = -1
        self.feed = Feed(order, rng.integers(0, 256, (batch, int(np.prod(shape))), np.uint8))
        self.executable.write({n: rng.uniform(0.01, 0.1, p.shape) for n, p in held.items()})


def single() -> Untrained:
    """Three images of 9 x 15 pixels in two channels, one by one."""
    return Untrained(_Pools(), (2, 9, 15), 3, SingleLowering)


def normalized() -> Untrained:
    """Two blocks of images, normalised where convolutions store them."""
    return Untrained(_Normalized(), (2, 9, 13), 32, Lowering)


PROGRAMS = {
    "lenet5": lenet5, "other": other, "residual": residual, "wide": wide, "separable": separable, "winograd": winograd,
    "single": single, "normalized": normalized, "tiles": tiles, "slices": slices,
}  # fmt: skip
