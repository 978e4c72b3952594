"""Arithmetic on each element, and dropout: whole vectors, the lanes not needed of a padded end included."""

import numpy as np

from odyssey_core.backends.numba.instruction import Constant, Flag, Instruction, Word, instruction
from odyssey_core.backends.numba.lower import Fusion, Lowering, lowers
from odyssey_core.backends.numba.memory import load, store
from odyssey_core.backends.numba.operands import Operand, Stage
from odyssey_core.backends.numba.random import philox
from odyssey_core.backends.numba.step_feed import epoch, images, seed_high, seed_low
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.backends.numba.vector import splat, where, words
from odyssey_core.ops.activations import RELU, RELU_GRAD
from odyssey_core.tensor import Tensor

ZERO, NO_FLOOR = np.float32(0), np.float32(-np.inf)


def shapes(d):
    """Every operand has as many vectors."""
    return dict.fromkeys(("x", "a", "b", "gate", "y"), (d["vectors"], LANES))


@instruction(reads="a b gate?", writes="y", shapes=shapes)
def add(memory, a, b, gate, y, vectors, relu: Flag):
    """relu?(a + b); 0 where the gate is closed."""
    low = splat(ZERO if relu else NO_FLOOR)
    if gate >= 0:
        for at in range(0, vectors * LANES, LANES):
            value = load(memory, a + at) + load(memory, b + at)
            store(memory, y + at, where(load(memory, gate + at) > ZERO, value, splat(ZERO)))
    else:
        for at in range(0, vectors * LANES, LANES):
            value = load(memory, a + at) + load(memory, b + at)
            store(memory, y + at, where(low > value, low, value))


@instruction(reads="a b", writes="y", shapes=shapes)
def multiply(memory, a, b, y, vectors):
    """a b."""
    for at in range(0, vectors * LANES, LANES):
        store(memory, y + at, load(memory, a + at) * load(memory, b + at))


@instruction(reads="x", writes="y", shapes=shapes)
def scale_shift(memory, x, y, vectors, scale: Constant, shift: Constant):
    """scale x + shift, rounded after each of the two."""
    for at in range(0, vectors * LANES, LANES):
        store(memory, y + at, load(memory, x + at) * scale + shift)


@instruction(reads="x", writes="y", shapes=shapes)
def dropout(memory, feed, step, block, x, y, vectors, stream: Word, threshold: Word, scale: Constant):
    """y = x scale where word ``element % 4`` of Philox's block ``element // 4`` reaches the threshold, else 0."""
    lanes = images(feed, step, block * LANES)
    for i in range(0, vectors, 4):
        drawn = philox(i // 4, lanes, epoch(feed), stream, seed_low(feed), seed_high(feed))
        for k in range(4):
            if i + k < vectors:
                at = (i + k) * LANES
                word = drawn[0] if k == 0 else drawn[1] if k == 1 else drawn[2] if k == 2 else drawn[3]
                store(memory, y + at, where(word < words(threshold), splat(ZERO), load(memory, x + at) * scale))


def elementwise(instruction: Instruction):
    """The rule of an operation that computes each element from those in the same place of its operands.

    Its kernel names its operands as the node's inputs stand, its numbers as the node's attributes.
    """

    def lower(low: Lowering, node: Tensor, outer: Tensor) -> None:
        if not node.batched:
            low.refuse(node)
        place = low.result(outer, reuse=node.inputs[-1])
        low.row(instruction, **operands(low, instruction, node, place), **node.attrs)

    return lower


def operands(low: Lowering, instruction: Instruction, node: Tensor, place) -> dict[str, Operand | int]:
    """The operands of an element-wise row, and how many vectors they have."""
    shape = (place.size // LANES, LANES)
    named = {name: low.places[x].shaped(shape) for name, x in zip(instruction.reads, node.inputs, strict=False)}
    return {**named, "y": place.shaped(shape), "vectors": shape[0]}


lowers("multiply")(elementwise(multiply))
lowers("scale_shift")(elementwise(scale_shift))


@lowers("add", fuses=[Fusion("relu"), Fusion("relu_grad", operand=1)])
def _lower_add(low: Lowering, node: Tensor, outer: Tensor) -> None:
    # Outside the blocks only sums of gradients are added: a parameter is not there to be added before the update.
    if not node.batched and any(low.places[x].space != "gradient" for x in node.inputs):
        low.refuse(node)
    place = low.result(outer, reuse=node.inputs[-1])
    gate = low.places[outer.inputs[0]].shaped((place.size // LANES, LANES)) if outer.op is RELU_GRAD else None
    low.row(
        add, **operands(low, add, node, place), gate=gate, relu=outer.op is RELU,
        stage=Stage.BLOCK if node.batched else Stage.GROUP,
    )  # fmt: skip


@lowers("dropout")
def _lower_dropout(low: Lowering, node: Tensor, outer: Tensor) -> None:
    place, p = low.result(outer, reuse=node.inputs[0]), node.attrs["p"]
    low.row(
        dropout, **operands(low, dropout, node, place), stream=node.attrs["stream"], threshold=int(p * 2**32),
        scale=1 / (1 - p),
    )  # fmt: skip
