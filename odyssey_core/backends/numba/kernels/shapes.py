"""Changes of shape: a reshape is a name for the same memory, concat copies."""

import math

from odyssey_core.backends.numba.instruction import Index, instruction
from odyssey_core.backends.numba.lower import Lowering, lowers
from odyssey_core.backends.numba.memory import load, store
from odyssey_core.backends.numba.operands import Operand
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.tensor import Tensor


def _shapes(d):
    if d["first"] + d["vectors"] > d["total"]:
        raise ValueError(f"vectors {d['first']} to {d['first'] + d['vectors']} of {d['total']}")
    return {"part": (d["vectors"], LANES), "whole": (d["total"], LANES)}


@instruction(reads="part", writes="whole", shapes=_shapes)
def put_part(memory, part, whole, vectors, first: Index, total):
    """Vectors of the whole from ``first`` on = the part; ``total`` is the whole's size."""
    for at in range(0, vectors * LANES, LANES):
        store(memory, whole + first * LANES + at, load(memory, part + at))


@instruction(reads="whole", writes="part", shapes=_shapes)
def take_part(memory, whole, part, vectors, first: Index, total):
    """The part = vectors of the whole from ``first`` on."""
    for at in range(0, vectors * LANES, LANES):
        store(memory, part + at, load(memory, whole + first * LANES + at))


@lowers("reshape", in_place=True)
def _lower_reshape(low: Lowering, node: Tensor, outer: Tensor) -> None:
    low.places[outer] = low.places[node.inputs[0]]


def _vectors(low: Lowering, node: Tensor) -> Operand:
    return low.laned(node, (math.prod(node.shape[1:]),))


@lowers("concat")
def _lower_concat(low: Lowering, node: Tensor, outer: Tensor) -> None:
    total = math.prod(node.shape[1:])
    whole, first = low.result(outer).shaped((total, LANES)), 0
    for x in node.inputs:
        vectors = math.prod(x.shape[1:])
        low.row(put_part, part=_vectors(low, x), whole=whole, vectors=vectors, first=first, total=total)
        first += vectors


@lowers("concat_grad")
def _lower_concat_grad(low: Lowering, node: Tensor, outer: Tensor) -> None:
    (grad,) = node.inputs
    vectors, of_channel = math.prod(node.shape[1:]), math.prod(node.shape[2:])
    low.row(
        take_part, whole=_vectors(low, grad), part=low.result(outer).shaped((vectors, LANES)), vectors=vectors,
        first=node.attrs["start"] * of_channel, total=math.prod(grad.shape[1:]),
    )  # fmt: skip
