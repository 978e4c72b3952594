"""Checks of what plug-ins bring, in one line each: the checks that the library's own parts go through.

    from odyssey_core.testing import check_model, check_op, check_optimizer, check_dataset

    def test_mine():
        check_model(lambda shape, classes: Mine(shape, classes, width=4))

Each raises an AssertionError that says what is not as it must be.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from odyssey_core import ops
from odyssey_core.backends import BACKENDS
from odyssey_core.backends.base import Backend, Feed
from odyssey_core.backends.numpy import NumpyBackend
from odyssey_core.checkpoint import artifact_names, load_weights, model_names, save_weights
from odyssey_core.data.dataset import Dataset, Images, shape_before_loading
from odyssey_core.initial import Uniform
from odyssey_core.learner import Learner
from odyssey_core.losses import CrossEntropy, Loss
from odyssey_core.nn import Module
from odyssey_core.optim import SGD, Optimizer
from odyssey_core.tensor import Shape, Tensor
from odyssey_core.testing.graph import Graph, check_backend, check_gradients, classify, demand, reference

__all__ = ["check_dataset", "check_model", "check_op", "check_optimizer"]

# (places in a batch, images in it): odd numbers, a batch that is not full.
BATCHES = ((1, 1), (17, 17), (40, 31))
SMALLER = 1e-7  # step along a direction, that few activations cross a kink
IMAGES, BATCH, STEPS = 100, 24, 6  # of training in a check


def check_op(
    op: Callable[..., Tensor],
    *inputs: Shape,
    parameters: Sequence[Shape] = (),
    backends: Sequence[str] = ("numpy", "numba"),
) -> None:
    """Checks an operation, or a composition of some: its shape, its gradients, and each backend against the reference.

    Args:
        op: takes the nodes of the inputs, then those of the parameters.
        inputs: shapes of one image's values, small ones: ``(3, 5, 4)`` stands for (N, 3, 5, 4).
        parameters: shapes without a batch.
        backends: those that are to run it; numba needs a kernel.

    Raises:
        AssertionError: what does not hold.
        ConfigError: a backend has no implementation of the operation.
    """

    def graph(n: int) -> Graph:
        xs = {f"x{i}": ops.input_(f"x{i}", (n, *shape)) for i, shape in enumerate(inputs)}
        ps = {f"p{i}": ops.parameter(f"p{i}", shape) for i, shape in enumerate(parameters)}
        y = op(*xs.values(), *ps.values())
        # Squared, so that the gradient of a sum is not the same for all.
        return Graph(classify(y * y if y.batched else y), ps, xs, [y])

    for name in backends:
        backend = BACKENDS[name]()
        made = graph(2)
        of_parameters, of_inputs = made.differentiated()
        backend.require([made.losses, *of_parameters.values(), *of_inputs.values()])
        for batch, alive in BATCHES:
            check_backend(graph(batch), backend, alive)
    for alive in (3, 2):
        check_gradients(graph(3), alive)


def _images(shape: Shape, classes: int) -> Images:
    rng = np.random.default_rng(4)
    return Images(rng.integers(0, 256, (IMAGES, *shape), np.uint8), rng.integers(0, classes, IMAGES))


def _trained(learner: Learner, data: Images, first: int = 0, last: int = STEPS) -> np.ndarray:
    """The losses of some steps, the last of them with a part of a batch."""
    order = np.arange(STEPS * BATCH, dtype=np.int64).reshape(STEPS, BATCH) * 7 % IMAGES
    order[-1, BATCH // 2 :] = -1
    return learner.train(data, order[first:last], epoch=0, first_step=first).losses


def check_training(make: Callable[[Backend], Learner], data: Images, backends: Sequence[str], alike: float) -> None:
    """Checks that backends train alike, threads and other processes' memories change no bit, and a saved state goes on.

    Args:
        make: a learner on a backend, with steps of `BATCH` images.
        data: `IMAGES` images or more.
        backends: by name.
        alike: relative error of losses and state after three steps, before roundings have grown.
    """
    made = {name: make(BACKENDS[name]()) for name in backends}
    expected, found = make(reference()), {}
    for name, learner in {"reference": expected, **made}.items():
        found[name] = {"losses": _trained(learner, data, last=3), **learner.state()}
    for name in backends:
        for what, value in found["reference"].items():
            error = float(np.abs(found[name][what] - value).max() / max(np.abs(value).max(), 1e-2))
            demand(error <= alike, f"{what} after three steps on {name}: relative error {error:.2e}")
    for name in backends:
        whole, resumed = make(BACKENDS[name]()), make(BACKENDS[name]())
        losses = _trained(whole, data)
        resumed.load_state({path: value.copy() for path, value in made[name].state().items()})
        _same(name, "a saved state goes on", {"losses": losses[3:]}, {"losses": _trained(resumed, data, 3)})
        _same(name, "a saved state goes on", whole.state(), resumed.state())
    if "numba" in backends:
        one, two = (make(BACKENDS["numba"](threads=threads)) for threads in (1, 2))
        _same("numba", "two threads", {"losses": _trained(one, data)}, {"losses": _trained(two, data)})
        _same("numba", "two threads", one.state(), two.state())


def _same(backend: str, what: str, one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    for name, value in one.items():
        demand(np.array_equal(value, other[name], equal_nan=True), f"{what} on {backend}: {name} has other bits")


def check_model(
    model: Callable[..., Module],
    input_shape: Shape = (1, 28, 28),
    classes: int = 5,
    *,
    loss: Loss | None = None,
    backends: Sequence[str] = ("numpy", "numba"),
) -> None:
    """Checks an architecture: its shapes, its gradients along a direction for each parameter, that backends agree,
    that threads change no bit, that weights and a training's state come back from a file.

    Args:
        model: ``(input_shape, classes) -> Module``, as it is registered, options left at their defaults.
        input_shape: (C, H, W), small ones: the reference runs it often.
        classes: of the images.
        loss: that it is trained by; by default cross-entropy.
        backends: those that are to run it.
    """
    loss = loss or CrossEntropy()
    for n in (1, 3):
        shape = model(input_shape, classes)(ops.images((n, *input_shape))).shape
        demand(shape == (n, classes), f"logits: expected shape {(n, classes)}, got {shape}")

    def make(backend: Backend) -> Learner:
        return Learner(
            model(input_shape, classes), SGD(lr=0.01, momentum=0.9), backend, input_shape=input_shape,
            batch_size=BATCH, mean=0.5, std=0.25, loss=loss, seed=3,
        )  # fmt: skip

    data = _images(input_shape, classes)
    _check_directions(make(reference()), data)
    check_training(make, data, backends, 1e-3)
    weights = make(NumpyBackend()).weights()
    with tempfile.TemporaryDirectory() as folder:
        save_weights(Path(folder) / "weights", artifact_names(weights), {})
        _same("numpy", "weights from a file", weights, model_names(weights, load_weights(Path(folder) / "weights")[0]))


def _check_directions(learner: Learner, data: Images) -> None:
    """The gradient of each parameter along a random direction, against a difference of losses in float64."""
    order, rng = np.arange(BATCH, dtype=np.int64), np.random.default_rng(8)
    start, grads = learner.state(), learner.gradients(data, order)
    executable = reference().compile([learner.losses], learner.nodes)
    feed = Feed(order=order, pixels=data.pixels.reshape(IMAGES, -1), labels=data.labels, seed=learner.seed)
    for name, grad in grads.items():
        demand(np.isfinite(grad).all(), f"d {name}: not all are finite numbers")
        direction, sides = rng.standard_normal(grad.shape), []
        for h in (SMALLER, -SMALLER):
            executable.write({path: start[path] for path in learner.nodes} | {name: start[name] + h * direction})
            sides.append(executable.values(feed)[learner.losses].mean())
        expected, got = (sides[0] - sides[1]) / (2 * SMALLER), float((grad * direction).sum())
        size = max(float(np.abs(grad * direction).sum()), 1e-3)
        demand(
            abs(got - expected) <= 1e-3 * size, f"d {name}: {got:.6g} along a direction, by differences {expected:.6g}"
        )


def check_optimizer(optimizer: Optimizer, backends: Sequence[str] = ("numpy", "numba"), alike: float = 1e-3) -> None:
    """Checks an update rule: that its numbers are given, that backends agree, that every slot and parameter moves,
    that threads change no bit, that a training's state goes on.

    Args:
        optimizer: with a learning rate that trains softmax regression.
        backends: those that are to run it.
        alike: relative error of the state after three steps; more for a rule that makes small differences large.
    """
    shape, classes = (1, 6, 5), 3
    data = _images(shape, classes)

    class Regression(Module):
        def __init__(self) -> None:
            self.weight = ops.parameter("weight", (classes, 30), Uniform(0.5))
            self.bias = ops.parameter("bias", (classes,), Uniform(0.5))

        def forward(self, x: Tensor) -> Tensor:
            return ops.linear(ops.flatten(x), self.weight, self.bias)

    def make(backend: Backend) -> Learner:
        return Learner(Regression(), optimizer, backend, input_shape=shape, batch_size=BATCH, mean=0.5, std=0.3, seed=1)

    learner = make(reference())
    before = learner.state()
    names = {"weight", "bias", *(f"{name}/{slot}" for name in ("weight", "bias") for slot in optimizer.slots())}
    demand(before.keys() == names, f"the state is {sorted(before)}, expected {sorted(names)}")
    _trained(learner, data)
    for name, value in learner.state().items():
        demand(np.isfinite(value).all(), f"{name}: not all are finite numbers after {STEPS} steps")
        demand((value != before[name]).any(), f"{name}: is the same after {STEPS} steps")
    check_training(make, data, backends, alike)


def check_dataset(dataset: Callable[..., Dataset] | Dataset) -> Dataset:
    """Checks a data set: that it is the same when it is made again, that every class is there to be learnt, that what
    it says before loading is so and its preparation can be made. What `Dataset` itself refuses is not asked again.

    Args:
        dataset: as it is registered, options left at their defaults; or one that is made.

    Returns:
        The data set.
    """
    data = dataset() if callable(dataset) else dataset
    if callable(dataset):
        again = dataset()
        demand(data.digest == again.digest, f"{data.name}: made twice, it has two digests")
        for part in ("train", "test"):
            one, two = getattr(data, part), getattr(again, part)
            equal = np.array_equal(one.pixels, two.pixels) and np.array_equal(one.labels, two.labels)
            demand(equal, f"{data.name} {part}: made twice, it is not the same")
        told = shape_before_loading(dataset, {})
        demand(
            told in (None, data.input_shape),
            f"{data.name}: says {told} before loading, its images are of another shape",
        )
    demand(len(set(data.class_names)) == data.classes, f"{data.name}: two classes have one name: {data.class_names}")
    counts = np.bincount(data.train.labels, minlength=data.classes)
    demand(counts.all(), f"{data.name}: no image to train on of {data.class_names[int(counts.argmin())]}")
    demand(data.train.pixels.std() > 0, f"{data.name}: all pixels are the same")
    data.preparation.reader()
    return data
