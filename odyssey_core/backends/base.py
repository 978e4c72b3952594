"""What every backend offers, and what a step is fed with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from odyssey_core.optim import Update
from odyssey_core.tensor import Tensor, topological

NO_IMAGES = np.zeros((0, 0), np.uint8)
NO_LABELS = np.zeros(0, np.int64)


@dataclass
class Feed:
    """What changes from step to step, for all steps of one call.

    Attributes:
        order: (steps, N) int64 indices of the images of each step, -1 for a place without an image.
        pixels: (images, C H W) uint8, what the indices point into.
        labels: (images,) int64.
        scalars: (steps, S) float32 numbers for the optimizer's rule, as ``Optimizer.scalars`` gives them.
        inputs: (steps, N, features) float32 values of the graph's ``input`` nodes, side by side, flattened.
        seed: the run's seed.
        epoch: the epoch that all these steps belong to.
    """

    order: np.ndarray
    pixels: np.ndarray = field(default_factory=lambda: NO_IMAGES)
    labels: np.ndarray = field(default_factory=lambda: NO_LABELS)
    scalars: np.ndarray | None = None
    inputs: np.ndarray | None = None
    seed: int = 0
    epoch: int = 0


class Executable(Protocol):
    """A graph made ready to run. It owns the values of the parameters and of the optimizer's slots."""

    def run(self, feed: Feed) -> np.ndarray:
        """Runs every step of the feed; returns (steps, N, F) float32: the outputs side by side, flattened."""

    def read(self) -> dict[str, np.ndarray]:
        """Copies of all values: ``{"conv1.weight": ..., "conv1.weight/velocity": ...}`` in the graph's shapes."""

    def write(self, values: dict[str, np.ndarray]) -> None:
        """Sets values by the names that ``read`` gives."""


class Backend(Protocol):
    """Turns a finished graph into an executable."""

    def compile(
        self, outputs: Sequence[Tensor], parameters: dict[str, Tensor], updates: Sequence[Update] = ()
    ) -> Executable:
        """An executable that computes the outputs and then applies the updates, step by step.

        Args:
            outputs: batched nodes whose values each step returns.
            parameters: every parameter that the graph uses, by name.
            updates: one for each parameter that is trained.
        """

    def describe(self) -> str:
        """One line for people: name, threads, instruction set."""


def input_nodes(outputs: Sequence[Tensor], updates: Sequence[Update]) -> list[Tensor]:
    """The graph's ``input`` nodes in the order of their columns in ``Feed.inputs``."""
    nodes = topological([*outputs, *(u.grad for u in updates)])
    return sorted((x for x in nodes if x.op.name == "input"), key=lambda x: x.attrs["name"])
