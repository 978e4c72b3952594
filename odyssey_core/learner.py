"""A model, an optimizer and a backend made ready to learn: the one door from the runner into the core."""

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from odyssey_core import ops
from odyssey_core.autodiff import gradients
from odyssey_core.backends.base import Backend, Feed
from odyssey_core.backends.numpy import NumpyBackend
from odyssey_core.data.augment import Augment
from odyssey_core.data.dataset import Images, PerChannel
from odyssey_core.errors import ConfigError, DataError
from odyssey_core.inference import Inference
from odyssey_core.losses import CrossEntropy, Loss
from odyssey_core.nn import Module
from odyssey_core.optim import CONSTANT, Lookahead, Optimizer, Plan, StepRule, Update
from odyssey_core.ranges import Count, check_ranges
from odyssey_core.tensor import Shape, Tensor, after_step, topological
from odyssey_core.views import TestViews
from odyssey_core.whitening import IMAGES, Whitening

CROSS_ENTROPY = CrossEntropy()


class Step(NamedTuple):
    """The graph of a training step, as `Backend.compile` takes it.

    Attributes:
        outputs: the losses, one for each image.
        values: parameters and buffers by path.
        updates: one for each parameter that is trained.
        buffers: for each buffer that the step changes, by path, the node of its new value.
    """

    outputs: list[Tensor]
    values: dict[str, Tensor]
    updates: list[Update]
    buffers: dict[str, Tensor]

    def nodes(self) -> list[Tensor]:
        """All that is computed."""
        return [*self.outputs, *(u.grad for u in self.updates), *self.buffers.values()]


def training_step(model: Module, optimizer: Optimizer, loss: Loss, images: Tensor) -> Step:
    """The graph of a training step on a batch of images.

    Raises:
        ShapeError: images that the model cannot take.
        ConfigError: a group of the optimizer that no parameter belongs to.
    """
    losses, held = loss(model(images), ops.labels(images.shape[0])), model.state()
    parameters = {name: node for name, node in held.items() if node.op is ops.leaves.PARAMETER}
    groups = optimizer.updates(parameters)
    grads = gradients(losses, [parameters[name] for name in groups])
    updates = [
        Update(name, parameters[name], grad, optimizer, group)
        for (name, group), grad in zip(groups.items(), grads, strict=True)
    ]
    changed = after_step([losses])
    buffers = {name: changed[node] for name, node in held.items() if node in changed}
    return Step([losses], held, updates, buffers)


class Taken(NamedTuple):
    """What some training steps came to.

    Attributes:
        losses: (steps, batch_size) float32 loss of each image before its step's update, 0 where there is no image.
        rates: the learning rate of each step.
    """

    losses: np.ndarray
    rates: list[float]


class Learner:
    """Trains and evaluates one model.

    Args:
        model: the architecture.
        optimizer: the update rule.
        backend: what runs the graph.
        input_shape: (C, H, W) of the images.
        batch_size: images per step.
        mean: normalisation of pixels in [0, 1]: ``(p / 255 - mean) / std``; one number, or one for each channel.
        std: see mean.
        loss: what is trained by; evaluation reports its `Loss.in_evaluation`.
        plan: how the optimizer's learning rate goes over the run.
        seed: decides the initial weights, dropout's masks and the distortions.
        augment: distortion of the images in training; evaluation sees them as they are.
        clip_norm: see `optim.StepRule`.
        ema: see `optim.StepRule`; where there is an average, it is what is evaluated and kept.
        lookahead: likewise.
        tta: views whose mean evaluation takes, see `views.averaged`; None for the images as they are.

    Attributes:
        parameters: by path.
        nodes: parameters and buffers by path.
        losses: (batch_size,) of a training step.

    Raises:
        ConfigError: a batch size below 1, a number that the rule refuses, a whitening layer that is not the first.
        ShapeError: images that the model cannot take.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        backend: Backend,
        *,
        input_shape: Shape,
        batch_size: Count,
        mean: PerChannel = 0.0,
        std: PerChannel = 1.0,
        loss: Loss = CROSS_ENTROPY,
        plan: Plan = CONSTANT,
        seed: int = 0,
        augment: Augment | None = None,
        clip_norm: float | None = None,
        ema: float | None = None,
        lookahead: Lookahead | None = None,
        tta: TestViews | None = None,
    ):
        check_ranges(Learner.__init__, {"batch_size": batch_size}, "trainer")
        self.optimizer, self.plan, self.backend, self.seed = optimizer, plan, backend, seed
        self._rule = StepRule(clip_norm, ema, lookahead)
        self._normalisation = mean, std
        images = ops.images((batch_size, *input_shape), mean, std, augment.amounts() if augment else None)
        step = training_step(model, optimizer, loss, images)
        (self.losses,), self.nodes, self._updates = step.outputs, step.values, step.updates
        self.parameters = {name: x for name, x in self.nodes.items() if x.op is ops.leaves.PARAMETER}
        self._trained = {update.name for update in step.updates}
        _check_whitening(self.losses)
        own = weakref.proxy(self)  # in a circle of references a learner's memory would outlive its last user
        self._inference = Inference(model, backend, input_shape, mean, std, lambda: own.weights(), loss, tta)
        # What is run only after the first epoch is refused now, if the backend cannot run it.
        backend.require([*step.nodes(), *self._inference.graph(1)])
        self._train = backend.compile(step.outputs, step.values, step.updates, self._rule, step.buffers)
        self._start_from(initial_values(self.nodes, seed))

    def initialize(self, data: Images, order: np.ndarray) -> None:
        """Sets the weights whose first values follow from the training images; the others stay.

        Args:
            data: what the indices point into.
            order: (n,) int64 indices of the training images; the first 5,000 are looked at.
        """
        waiting = {name: node for name, node in self.nodes.items() if isinstance(node.attrs["initial"], Whitening)}
        if waiting:
            pixels = data.pixels[order[:IMAGES]]
            mean, std = (np.broadcast_to(values, pixels.shape[1]).astype(np.float64) for values in self._normalisation)
            found = {n: x.attrs["initial"].of_images(pixels, mean, std, x.shape) for n, x in waiting.items()}
            self.load_weights(self.weights() | found)

    def train(
        self, data: Images, order: np.ndarray, *, epoch: int, first_step: int, history: Sequence[float] = ()
    ) -> Taken:
        """Runs one training step per row of ``order``, in one call that releases the GIL.

        Args:
            data: what the indices point into.
            order: (steps, batch_size) int64 indices, -1 for a place without an image.
            epoch: counted from 0; enters the random numbers.
            first_step: number of the first of these steps since the start of training.
            history: the monitored value of every finished epoch, in order, lower being better.

        Raises:
            DataError: an index outside the data.
        """
        self._inference.forget()
        factors = (self.plan.factor(step, history) for step in range(first_step, first_step + len(order)))
        rates = [self.optimizer.lr * factor for factor in factors]
        scalars = self._rule.numbers(self.optimizer, first_step, rates, epoch=epoch, steps=self.plan.steps)
        return Taken(self._train.run(self._feed(data, order, epoch=epoch, scalars=scalars))[..., 0], rates)

    def evaluate(self, data: Images, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits (n, classes) and losses (n,), both float32, of the images that ``order`` (n,) int64 names."""
        return self._inference.evaluate(data, order)

    def gradients(self, data: Images, order: np.ndarray, epoch: int = 0) -> dict[str, np.ndarray]:
        """The gradient of the mean training loss of one batch by trained parameter, float32; changes nothing.

        Args:
            data: what the indices point into.
            order: (batch_size,) int64 indices, -1 for a place without an image.
            epoch: enters the random numbers.
        """
        feed = self._feed(data, order[None], epoch=epoch, scalars=self._rule.numbers(self.optimizer, 0, [0.0]))
        return {name: np.asarray(grad, np.float32) for name, grad in self._train.gradients(feed).items()}

    def _feed(self, data: Images, order: np.ndarray, **rest: Any) -> Feed:
        pixels = data.pixels.reshape(len(data.pixels), -1)
        return Feed(order=order, pixels=pixels, labels=data.labels, seed=self.seed, **rest)

    def weights(self) -> dict[str, np.ndarray]:
        """Copies of the parameters and buffers by path, float32: convolutions (out, in / groups, kernel height, kernel
        width), linear layers (out, in).

        For parameters, their averages over the steps or their slow weights, where these are kept.
        """
        state, slots = self._train.read(), self._rule.slots()
        keys = {name: "/".join((name, *slots)) if name in self._trained else name for name in self.nodes}
        return {name: np.asarray(state[key], np.float32) for name, key in keys.items()}

    def load_weights(self, weights: dict[str, np.ndarray]) -> None:
        """Sets the parameters and buffers, and the parameters' averages to the same.

        Raises:
            DataError: a name is missing or unknown, or a shape differs.
        """
        self._check(weights, {name: p.shape for name, p in self.nodes.items()})
        self._start_from(weights)
        self._inference.forget()

    def _start_from(self, weights: dict[str, np.ndarray]) -> None:
        slots = {f"{name}/{slot}": weights[name] for name in self._trained for slot in self._rule.slots()}
        self._train.write(weights | slots)

    def state(self) -> dict[str, np.ndarray]:
        """Parameters, buffers, the optimizer's slots and the averages: ``"conv1.weight/velocity"``,
        ``"conv1.weight/ema"``.

        With the number of steps that is all that a checkpoint needs to go on to the bit.
        """
        return self._train.read()

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Sets what ``state`` gave. Raises DataError as ``load_weights`` does."""
        self._check(state, {name: value.shape for name, value in self._train.read().items()})
        self._train.write(state)
        self._inference.forget()

    def listing(self) -> str:
        """The instructions of a training step, one a line.

        Raises:
            ConfigError: a backend that has none.
        """
        if not hasattr(self._train, "program"):
            raise ConfigError("show.listing: only backend=numba makes instructions")
        return str(self._train.program.listing())

    def first_nonfinite(self, state: dict[str, np.ndarray], data: Images, row: np.ndarray, epoch: int) -> str | None:
        """Where a training step's values stopped being finite, in the order in which they are computed.

        Walks the step with the reference backend in float32, whichever the learner's own is.

        Args:
            state: what ``state`` gave before the step.
            data: what the indices point into.
            row: (batch_size,) int64, the step's row of the order.
            epoch: counted from 0.

        Returns:
            The layer whose activations went first, ``"conv2"``; where all are finite ``"the loss"`` or
            ``"the gradient of conv2.weight"``; None where everything is finite.
        """
        step = NumpyBackend("float32").compile([self.losses], self.nodes, self._updates)
        step.write({name: state[name] for name in self.nodes})
        pixels = data.pixels.reshape(len(data.pixels), -1)
        with np.errstate(all="ignore"):
            values = step.values(Feed(order=row, pixels=pixels, labels=data.labels, seed=self.seed, epoch=epoch))
        for node, layer in self._layers().items():
            if node.batched and not np.isfinite(values[node][row >= 0]).all():
                return "the loss" if node is self.losses else layer
        for update in sorted(self._updates, key=lambda u: u.grad.serial):
            if not np.isfinite(values[update.grad]).all():
                return f"the gradient of {update.name}"
        return None

    def _layers(self) -> dict[Tensor, str]:
        """For each node of the forward pass the layer whose parameters it takes, or the nearest one before it."""
        layers = {p: path.rpartition(".")[0] or path for path, p in self.parameters.items()}
        for node in topological([self.losses]):
            own = [layers[x] for x in node.inputs if x in self.parameters.values()]
            before = max((x for x in node.inputs if x in layers), key=lambda x: x.serial, default=None)
            nearest = layers[before] if before else "the images"
            layers.setdefault(node, own[0] if own else nearest)
        return layers

    @staticmethod
    def _check(values: dict[str, np.ndarray], shapes: dict[str, Shape]) -> None:
        if values.keys() != shapes.keys():
            missing, extra = sorted(shapes.keys() - values.keys()), sorted(values.keys() - shapes.keys())
            raise DataError(f"weights do not fit the model: missing {missing}, unknown {extra}")
        for name, shape in shapes.items():
            if values[name].shape != shape:
                raise DataError(f"weights {name}: the model needs shape {shape}, got {values[name].shape}")


def _check_whitening(losses: Tensor) -> None:
    """Raises ConfigError for filters that would be made from the images and then see something else."""
    for node in topological([losses]):
        made = [x for x in node.inputs if isinstance(x.attrs.get("initial"), Whitening)]
        if made and node.inputs[0].op is not ops.leaves.IMAGES:
            raise ConfigError("model: a whitening layer must come first, since its filters are made from the images")


def initial_values(nodes: Mapping[str, Tensor], seed: int) -> dict[str, np.ndarray]:
    """For every parameter and buffer by path what it holds at first, float32, from the random stream of its path."""
    return {name: node.attrs["initial"].draw(node.shape, seed, f"init/{name}") for name, node in nodes.items()}
