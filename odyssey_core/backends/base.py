"""What every backend offers, and what a step is fed with."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from odyssey_core import lazy_numpy as np
from odyssey_core.errors import ConfigError, DataError
from odyssey_core.ops import OPS, leaves
from odyssey_core.optim import PLAIN, StepRule, Update
from odyssey_core.tensor import Tensor, topological

NO_BUFFERS: Mapping[str, Tensor] = MappingProxyType({})
HELD = (leaves.PARAMETER, leaves.BUFFER, leaves.INPUT)  # whose values an executable is given


@dataclass
class Feed:
    """What changes from step to step, for all steps of one call.

    Attributes:
        order: (steps, N) int64 indices of the images of each step, -1 for a place without an image.
        pixels: (images, C H W) uint8, what the indices point into.
        labels: (images,) int64.
        scalars: by name (steps,) the numbers of each step that ``StepRule.numbers`` gives.
        inputs: (steps, N, features) float32 values of the graph's ``input`` nodes, side by side, flattened.
        seed: the run's seed.
        epoch: the epoch that all these steps belong to.
    """

    order: np.ndarray
    pixels: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    scalars: Mapping[str, np.ndarray] = field(default_factory=dict)
    inputs: np.ndarray | None = None
    seed: int = 0
    epoch: int = 0


class Executable(Protocol):
    """A graph made ready to run. It owns the values of the parameters and of the optimizer's slots."""

    def run(self, feed: Feed) -> np.ndarray:
        """Runs every step of the feed; returns (steps, N, F) float32: the outputs side by side, flattened."""

    def gradients(self, feed: Feed) -> dict[str, np.ndarray]:
        """The gradient of each updated parameter in the feed's last step, before clipping; no value changes."""

    def read(self) -> dict[str, np.ndarray]:
        """Copies of all values: ``{"conv1.weight": ..., "conv1.weight/velocity": ...}`` in the graph's shapes."""

    def write(self, values: dict[str, np.ndarray]) -> None:
        """Sets values by the names that ``read`` gives."""


class Prepared(Protocol):
    """A graph made ready to run on images as soon as they are there. It owns the parameters' values.

    Attributes:
        images: (most, C, H, W) uint8, where the caller puts the images.
    """

    images: np.ndarray

    def run(self, count: int) -> np.ndarray:
        """(count, F) float32, the output for the first ``count`` images; the next run overwrites it."""

    def write(self, values: Mapping[str, np.ndarray]) -> None:
        """Sets parameters by their names."""


class Backend(Protocol):
    """Turns a finished graph into an executable."""

    def compile(
        self,
        outputs: Sequence[Tensor],
        parameters: dict[str, Tensor],
        updates: Sequence[Update] = (),
        rule: StepRule = PLAIN,
        buffers: Mapping[str, Tensor] = NO_BUFFERS,
    ) -> Executable:
        """An executable that computes the outputs and then applies the updates, step by step.

        Args:
            outputs: batched nodes whose values each step returns.
            parameters: every parameter and every buffer that the graph uses, by name.
            updates: one for each parameter that is trained.
            rule: what a step does to these together. Its slots are zero until they are written, as parameters are.
            buffers: for each buffer that a step changes, by name, the node whose value it takes.
        """

    def prepare(self, output: Tensor, parameters: dict[str, Tensor]) -> Prepared:
        """What computes one output of images for as many as its batch has, or fewer, with the bits of `compile`."""

    def memory(
        self,
        outputs: Sequence[Tensor],
        parameters: Mapping[str, Tensor],
        updates: Sequence[Update] = (),
        rule: StepRule = PLAIN,
        buffers: Mapping[str, Tensor] = NO_BUFFERS,
    ) -> dict[str, int]:
        """How many bytes a step will take for what, without compiling anything; arguments as in ``compile``.

        Raises:
            ConfigError: more than the machine has.
        """

    def require(self, outputs: Sequence[Tensor]) -> None:
        """Raises ConfigError, naming the operations, unless this backend can run all that the outputs need."""

    def describe(self) -> str:
        """One line for people: name, threads, instruction set."""


@dataclass(frozen=True)
class FeedBounds:
    """What a graph demands of its feeds, and what no check of the graph alone can know.

    Attributes:
        batch_size: images per step.
        pixels: (C H W) of an image, or None where the graph gathers none.
        classes: labels must lie below; None where the graph reads none.
        scalars: names of the numbers that the optimizer's rule and what goes around it take per step.
        inputs: features of the ``input`` nodes together.
    """

    batch_size: int
    pixels: int | None
    classes: int | None
    scalars: frozenset[str]
    inputs: int

    @classmethod
    def of(cls, outputs: Sequence[Tensor], updates: Sequence[Update], rule: StepRule) -> FeedBounds:
        """The bounds of a graph."""
        nodes = topological([*outputs, *(u.grad for u in updates)])
        pixels = {math.prod(x.shape[1:]) for x in nodes if x.op is leaves.IMAGES}
        # A loss and its gradient take the logits first and then the labels.
        classes = [x.inputs[0].shape[1] for x in nodes if any(y.op is leaves.LABELS for y in x.inputs)]
        return cls(
            batch_size=next(x.shape[0] for x in nodes if x.batched),
            pixels=pixels.pop() if pixels else None,
            classes=min(classes) if classes else None,
            scalars=frozenset(
                name for u in updates for stage in rule.stages(u.optimizer, u.group) for name in stage.columns.values()
            ),
            inputs=sum(math.prod(x.shape[1:]) for x in input_nodes(outputs, updates)),
        )

    def check(self, feed: Feed) -> None:
        """Raises DataError unless the feed stays within the bounds and its indices within its arrays."""
        steps, batch = feed.order.shape
        if batch != self.batch_size:
            raise DataError(f"order: expected {self.batch_size} images per step, got {batch}")
        low, high = feed.order.min(initial=0), feed.order.max(initial=-1)
        used = ((feed.pixels, self.pixels), (feed.labels, self.classes))
        known = min((len(array) for array, bound in used if bound is not None), default=high + 1)
        if low < -1 or high >= known:
            raise DataError(f"image indices must lie in [-1, {known}), got [{low}, {high}]")
        # Where there is no image, kernels read the first one's pixels and drop them.
        if self.pixels is not None and (feed.pixels.shape[1:] != (self.pixels,) or not len(feed.pixels)):
            raise DataError(f"pixels: the model takes {self.pixels} pixels an image, got shape {feed.pixels.shape}")
        if self.classes is not None:
            # Those named alone: to look at all takes longer than to compute a single image.
            named = feed.labels[feed.order[feed.order >= 0]]
            least, most = named.min(initial=0), named.max(initial=0)
            if least < 0 or most >= self.classes:
                raise DataError(f"labels must lie in [0, {self.classes}), got {least} to {most}")
        arrays: dict[str, tuple[np.ndarray | None, tuple[int, ...]]]
        arrays = {f"scalars {name}": (feed.scalars.get(name), (steps,)) for name in sorted(self.scalars)}
        arrays |= {"inputs": (feed.inputs, (steps, batch, self.inputs))} if self.inputs else {}
        for name, (array, shape) in arrays.items():
            if array is None or array.shape != shape:
                raise DataError(f"{name}: expected shape {shape}, got {None if array is None else array.shape}")


def require_ops(backend: str, what: str, outputs: Sequence[Tensor], known: Collection[str], instead: str = "") -> None:
    """Raises ConfigError unless every operation behind the outputs is among those that a backend knows by name."""
    ops = {node.op for node in topological(outputs) if node.op not in HELD}
    if taken := sorted(op.name for op in ops if OPS.get(op.name, op) is not op):
        raise ConfigError(f"operation {taken[0]}: odyssey_core.ops has one of that name, which it is not; rename it")
    names = {op.name for op in ops}
    if missing := sorted(names - set(known)):
        plural = "s" if len(missing) > 1 else ""
        raise ConfigError(f"backend={backend} has no {what} for the operation{plural} {', '.join(missing)}{instead}")


def input_nodes(outputs: Sequence[Tensor], updates: Sequence[Update]) -> list[Tensor]:
    """The graph's ``input`` nodes in the order of their columns in ``Feed.inputs``."""
    nodes = topological([*outputs, *(u.grad for u in updates)])
    return sorted((x for x in nodes if x.op is leaves.INPUT), key=lambda x: x.attrs["name"])
