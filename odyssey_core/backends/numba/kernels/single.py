"""One image at a time, for a handful of them: lanes are output channels or features. Layout (pixels, pitch).

A block of sixteen images takes as long for one of them as for all. These kernels compute an image alone, and add up
every value in the same order as those for blocks do, so that it has the same bits whichever of the two computed it.
Here is what enters and what leaves, and changes of order.
"""

from functools import partial
from itertools import groupby

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.elementary import exp
from odyssey_core.backends.numba.instruction import Constant, Index, instruction
from odyssey_core.backends.numba.lower import RULES, lowers
from odyssey_core.backends.numba.lower_single import SINGLE_RULES, SingleLowering, extent, pitch
from odyssey_core.backends.numba.memory import load, store
from odyssey_core.backends.numba.operands import Place, Stage
from odyssey_core.backends.numba.step_feed import image, pixel, pixel_vector, put
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.backends.numba.vector import fma, splat
from odyssey_core.tensor import Tensor

ZERO = np.float32(0)
_pitch = register_jitable(pitch)
lowers_single = partial(lowers, rules=SINGLE_RULES)

# Whatever computes an element from those in the same place does not ask what lies beside it.
for _name in ("add", "multiply", "scale_shift", "relu", "relu6", "leaky_relu", "tanh", "sigmoid", "gelu", "mish"):
    SINGLE_RULES[_name] = RULES[_name]


def _of_images(program, d) -> str:
    end, known = d["first"] + d["size"], program.pixels or 0
    return f"images of {known} pixels, the row reads up to {end}" if end > known else ""


@instruction(writes="y", shapes=lambda d: {"y": (d["size"],)}, bounds=_of_images)
def gather_single(memory, feed, step, block, y, first: Index, size, scale: Constant, shift: Constant):
    """``size`` pixels of the block's image, from the ``first`` on, as ``p scale + shift``; zeros where there is none.

    As in `gather_images`, it is rounded once in whole vectors, and twice behind them.
    """
    which = image(feed, step, block)
    if which < 0:
        which, scale, shift = 0, ZERO, ZERO
    for i in range(0, size - LANES + 1, LANES):
        store(memory, y + i, fma(pixel_vector(feed, which, first + i), splat(scale), splat(shift)))
    for i in range(size // LANES * LANES, size):
        memory[y + i] = pixel(feed, which, first + i) * scale + shift


@instruction(
    reads="x",
    shapes=lambda d: {"x": (d["size"],)},
    bounds=lambda program, d: (
        f"columns up to {d['column'] + d['size']} of {program.outputs}"
        if d["column"] + d["size"] > program.outputs
        else ""
    ),
)
def emit_single(memory, feed, step, block, x, size, column: Index):
    """An output's values to its columns of the results."""
    for i in range(size):
        put(feed, step, block, column + i, memory[x + i])


def _exchange_shapes(d):
    if d["rows"] > d["to"] or d["columns"] > d["from_"]:
        raise ValueError(f"{d['rows']} rows of {d['columns']} in rows of {d['from_']} and {d['to']}")
    return {"x": (d["rows"], d["from_"]), "y": (d["columns"], d["to"])}


@instruction(reads="x", writes="y", shapes=_exchange_shapes)
def exchange(memory, x, y, rows, columns, from_, to):
    """y = x (rows, columns) transposed; x's rows lie ``from_`` apart, those of y ``to``, the rest of which is 0."""
    for j in range(columns):
        for i in range(rows):
            memory[y + j * to + i] = memory[x + i * from_ + j]
        for i in range(rows, to):
            memory[y + j * to + i] = ZERO


@instruction(reads="x", writes="y", shapes=lambda d: dict.fromkeys(("x", "y"), (extent(d["classes"], 1),)))
def softmax_single(memory, x, y, classes):
    """exp(x) over its sum."""
    largest, summed = memory[x], ZERO
    for k in range(1, classes):
        largest = memory[x + k] if memory[x + k] > largest else largest
    for v in range(0, classes, LANES):
        store(memory, y + v, exp(load(memory, x + v) - largest))
    for k in range(classes):
        summed = summed + memory[y + k]
    for v in range(0, classes, LANES):
        store(memory, y + v, load(memory, y + v) / summed)


@register_jitable
def copy(memory, source, target, count):
    """So many elements in another place."""
    for i in range(0, count - LANES + 1, LANES):
        store(memory, target + i, load(memory, source + i))
    for i in range(count // LANES * LANES, count):
        memory[target + i] = memory[source + i]


def _concat_shapes(d):
    if d["first"] + d["channels"] > d["total"]:
        raise ValueError(f"channels {d['first']} to {d['first'] + d['channels']} of {d['total']}")
    return {"part": (extent(d["channels"], d["pixels"]),), "whole": (extent(d["total"], d["pixels"]),)}


@instruction(reads="part", writes="whole", shapes=_concat_shapes)
def concat_single(memory, part, whole, pixels, channels, total, first: Index):
    """Channels of the whole from ``first`` on = those of the part; ``total`` is how many the whole has."""
    here, there = _pitch(channels, pixels), _pitch(total, pixels)
    for i in range(pixels):
        copy(memory, part + i * here, whole + first + i * there, channels)


@lowers_single("images")
def _lower_images(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    channels, pixels = low.sizes(node)
    low.pixels, first = channels * pixels, 0
    y = low.result(node)
    planes = y if channels == 1 else low.temporary(channels * pixels)
    for (mean, std), run in groupby(zip(node.attrs["mean"], node.attrs["std"], strict=True)):
        size = len(list(run)) * pixels
        part = planes.part(first, size).shaped((size,))
        low.row(gather_single, y=part, first=first, size=size, scale=1 / (255 * std), shift=-mean / std)
        first += size
    if channels > 1:
        add_exchange(low, planes, y, channels, pixels, pixels, pitch(channels, pixels))
        low.release(planes)


def add_exchange(
    low: SingleLowering, x: Place, y: Place, rows: int, columns: int, from_: int, to: int, stage: Stage = Stage.BLOCK
) -> None:
    low.row(
        exchange, x=x.part(0, rows * from_).shaped((rows, from_)), y=y.part(0, columns * to).shaped((columns, to)),
        rows=rows, columns=columns, from_=from_, to=to, stage=stage,
    )  # fmt: skip


@lowers_single("softmax")
def _lower_softmax(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    (x,) = node.inputs
    y = low.made(outer)
    low.row(softmax_single, x=low.value(x), y=y, classes=node.shape[1])


@lowers_single("concat")
def _lower_concat(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    (total, pixels), whole, first = low.sizes(node), low.made(outer), 0
    for x in node.inputs:
        channels, _ = low.sizes(x)
        low.row(
            concat_single, part=low.value(x), whole=whole, pixels=pixels, channels=channels, total=total, first=first
        )
        first += channels


@lowers_single("reshape", when=lambda low, node, outer: _flat(node))
def _lower_flatten(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    """Features stand as they do in other frameworks: channel by channel."""
    (x,) = node.inputs
    channels, pixels = low.sizes(x)
    add_exchange(low, low.places[x], low.result(outer), pixels, channels, pitch(channels, pixels), pixels)


@lowers_single("reshape", in_place=True, when=lambda low, node, outer: 1 in low.sizes(node.inputs[0]) and _flat(node))
def _lower_same(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    low.places[outer] = low.places[node.inputs[0]]


def _flat(node: Tensor) -> bool:
    return len(node.shape) == 2
