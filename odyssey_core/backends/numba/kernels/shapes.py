"""Values in other places: a reshape is a name for the same memory, concat and moved images are copies."""

import math

from numba.extending import register_jitable

from odyssey_core.backends.numba.instruction import Flag, Index, instruction
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


def _moved_shapes(d):
    for by, size in (("down", "height"), ("along", "width")):
        if d[by] > 2 * (d[size] - 1):
            raise ValueError(f"{by} {d[by]} moves a {size} of {d[size]} by more than itself")
    return dict.fromkeys(("x", "y"), (d["channels"], d["height"], d["width"], LANES))


@register_jitable
def _reflected(place, last):
    """A place in front of 0 or behind the last, mirrored at that."""
    place = abs(place)
    return last - abs(last - place)


@instruction(reads="x", writes="y", shapes=_moved_shapes)
def shift2d(memory, x, y, channels, height, width, down: Index, along: Index, mirror: Flag):
    """Images moved, see `ops.shift2d`: ``down`` and ``along`` are rows + height - 1 and columns + width - 1."""
    for c in range(channels):
        for i in range(height):
            source = x + (c * height + _reflected(i + down - (height - 1), height - 1)) * width * LANES
            target = y + (c * height + i) * width * LANES
            for j in range(width):
                from_ = _reflected((width - 1 - j if mirror else j) + along - (width - 1), width - 1)
                store(memory, target + j * LANES, load(memory, source + from_ * LANES))


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


@lowers("shift2d")
def _lower_shift2d(low: Lowering, node: Tensor, outer: Tensor) -> None:
    (x,), (channels, height, width) = node.inputs, node.shape[1:]
    y = low.result(outer).shaped((channels, height, width, LANES))
    down, along = node.attrs["rows"] + height - 1, node.attrs["columns"] + width - 1
    low.row(
        shift2d, x=low.laned(x), y=y, channels=channels, height=height, width=width, down=down, along=along,
        mirror=node.attrs["mirror"],
    )  # fmt: skip
