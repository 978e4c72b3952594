"""What enters a step and what leaves it."""

import math

import numpy as np

from odyssey_core.backends.numba.instruction import Index, instruction
from odyssey_core.backends.numba.lower import Lowering, lowers
from odyssey_core.backends.numba.step_feed import (
    given,
    image,
    lanes,
    put,
)
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.tensor import Tensor

ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)


def _columns(d, width: int) -> str:
    return f"columns {d['column']} to {d['column'] + d['size']} of {width}" if d["column"] + d["size"] > width else ""


@instruction(
    writes="y", shapes=lambda d: {"y": (d["size"], LANES)}, bounds=lambda program, d: _columns(d, program.inputs)
)
def ingest(memory, feed, step, block, y, size, column: Index):
    """Values of an ``input`` node from the feed's columns."""
    for i in range(size):
        for lane in range(LANES):
            memory[y + i * LANES + lane] = given(feed, step, block * LANES + lane, column + i)


@instruction(
    reads="x", shapes=lambda d: {"x": (d["size"], LANES)}, bounds=lambda program, d: _columns(d, program.outputs)
)
def emit(memory, feed, step, block, x, size, column: Index):
    """An output's values to its columns of the results."""
    for i in range(size):
        for lane in range(LANES):
            put(feed, step, block * LANES + lane, column + i, memory[x + i * LANES + lane])


@instruction(writes="y", shapes=lambda d: {"y": (LANES,)})
def batch_weight(memory, feed, step, block, y):
    """1 / (images in the step) in every lane with an image, 0 elsewhere."""
    count = 0
    for i in range(lanes(feed)):
        count += 1 if image(feed, step, i) >= 0 else 0
    for lane in range(LANES):
        here = image(feed, step, block * LANES + lane) >= 0
        memory[y + lane] = ONE / np.float32(max(count, 1)) if here else ZERO


@lowers("labels")
def _lower_labels(low: Lowering, node: Tensor, outer: Tensor) -> None:
    """Nothing: the losses' kernels read labels from the feed."""


@lowers("input")
def _lower_input(low: Lowering, node: Tensor, outer: Tensor) -> None:
    before = low.inputs[: low.inputs.index(node)]
    size = math.prod(node.shape[1:])
    y = low.result(outer).shaped((size, LANES))
    low.row(ingest, y=y, size=size, column=sum(math.prod(x.shape[1:]) for x in before))


@lowers("batch_weight")
def _lower_batch_weight(low: Lowering, node: Tensor, outer: Tensor) -> None:
    low.row(batch_weight, y=low.result(outer).shaped((LANES,)))
