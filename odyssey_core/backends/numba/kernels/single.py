"""One image at a time, for a handful of them: lanes are output channels or features. Layout (pixels, pitch).

A block of sixteen images takes as long for one of them as for all. These kernels compute an image alone, and add up
every value in the same order as those for blocks do, so that it has the same bits whichever of the two computed it.
"""

import math
from functools import partial
from itertools import groupby

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.elementary import exp
from odyssey_core.backends.numba.instruction import Constant, Fixed, Flag, Index, instruction
from odyssey_core.backends.numba.kernels import conv, pool
from odyssey_core.backends.numba.lower import (
    RULES,
    SINGLE_RULES,
    Fusion,
    SingleLowering,
    extent,
    lowers,
    pitch,
)
from odyssey_core.backends.numba.memory import load, store
from odyssey_core.backends.numba.operands import Operand, Place, Stage, padded, stored_shape
from odyssey_core.backends.numba.register_tile import tile_lines, tile_maximum, tile_outer, tile_store
from odyssey_core.backends.numba.step_feed import image, pixel, pixel_vector, put
from odyssey_core.backends.numba.traced import LANES, on_lanes
from odyssey_core.backends.numba.vector import fma, splat, sqrt, where
from odyssey_core.tensor import Tensor

ZERO, ONE, NO_FLOOR = np.float32(0), np.float32(1), np.float32(-np.inf)
_pitch, _padded = register_jitable(pitch), register_jitable(padded)
_lowers = partial(lowers, rules=SINGLE_RULES)

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


@register_jitable
def _copy(memory, source, target, count):
    for i in range(0, count - LANES + 1, LANES):
        store(memory, target + i, load(memory, source + i))
    for i in range(count // LANES * LANES, count):
        memory[target + i] = memory[source + i]


def _bordered(d) -> tuple[int, int]:
    return d["height"] + 2 * d["pad_height"], d["width"] + 2 * d["pad_width"]


@instruction(
    reads="x",
    writes="y",
    shapes=lambda d: {
        "x": (extent(d["channels"], d["height"] * d["width"]),),
        "y": (extent(d["channels"], math.prod(_bordered(d))),),
    },
)
def pad_single(memory, x, y, channels, height, width, pad_height: Index, pad_width: Index):
    """y = x inside a border of zeros."""
    high, wide = height + 2 * pad_height, width + 2 * pad_width
    each = _pitch(channels, high * wide)
    for i in range(0, _padded(high * wide * each), LANES):
        store(memory, y + i, splat(ZERO))
    for i in range(height):
        target = y + ((i + pad_height) * wide + pad_width) * each
        _copy(memory, x + i * width * each, target, width * each)


def _check_tile(d, across: int) -> None:
    """Raises ValueError for a tile that is larger than what it walks over."""
    wide = d["columns"] * d["lanes"]
    if not 0 < d["rows"] <= d["out_width"] or across % d["lanes"] or not 0 < wide <= across:
        raise ValueError(f"tile of {d['rows']} x {wide} over {d['out_width']} pixels of {across} channels")


def _conv_shapes(d):
    conv.shapes(d)
    pixels = d["out_height"] * d["out_width"]
    across = pitch(d["out"], pixels)
    _check_tile(d, across)
    if d["apart"] != d["stride"] * pitch(d["channels"], d["height"] * d["width"]):
        raise ValueError(f"patches {d['apart']} apart, the stride is {d['stride']}")
    taps = d["channels"] * d["kernel_height"] * d["kernel_width"]
    return {
        "x": (extent(d["channels"], d["height"] * d["width"]),), "y": (extent(d["out"], pixels),),
        "weight": (1 + taps, across),
    }  # fmt: skip


@instruction(
    reads="x weight",
    writes="y",
    shapes=_conv_shapes,
    multiply_adds=conv.multiply_adds,
)
def conv2d_single(
    memory, x, weight, y, channels, height, width, out, out_height, out_width, stride, relu: Flag,
    apart: Fixed, rows: Fixed, columns: Fixed, lanes: Fixed, kernel_height: Fixed, kernel_width: Fixed,
):  # fmt: skip
    """y = relu?(bias + weight * x): tiles of ``rows`` pixels of a row x ``columns`` vectors of output channels.

    ``weight`` has the bias in its first row, then a row for each tap, in the order of the weight as a parameter. Two
    pixels' patches start ``apart`` elements from each other; with that unknown, addresses take half of the time.
    """
    low = splat(ZERO if relu else NO_FLOOR)
    here, there = _pitch(channels, height * width), _pitch(out, out_height * out_width)
    for i in range(out_height):
        for j0 in range(0, out_width, rows):
            j = min(j0, out_width - rows)
            for v0 in range(0, there, columns * lanes):
                v = min(v0, there - columns * lanes)
                acc = tile_lines(rows, columns, lanes, memory, weight + v, 0)
                q = weight + there + v
                for c in range(channels):
                    for k in range(kernel_height):
                        p = x + (i * stride + k) * width * here + j * apart + c
                        for _ in range(kernel_width):
                            acc = tile_outer(acc, memory, p, apart, q, lanes)
                            p += here
                            q += there
                tile_store(acc, memory, y + (i * out_width + j) * there + v, there, lanes, low)


def _pool_shapes(d):
    shapes = pool.shapes(d)
    channels = d["channels"]
    if channels == 1:
        raise ValueError("one channel, whose pixels lie side by side")
    return {name: (extent(channels, math.prod(shapes[name][1:3])),) for name in ("x", "y")}


def _max_pool_shapes(d):
    _check_tile(d, pitch(d["channels"], d["out_height"] * d["out_width"]))
    if d["padding"] and d["rows"] > 1:
        raise ValueError(f"tile of {d['rows']} pixels, whose windows are not all inside")
    if d["apart"] != d["stride"] * pitch(d["channels"], d["height"] * d["width"]):
        raise ValueError(f"windows {d['apart']} apart, the stride is {d['stride']}")
    return _pool_shapes(d)


@instruction(reads="x", writes="y", shapes=_max_pool_shapes)
def max_pool2d_single(
    memory, x, y, channels, height, width, out_height, out_width, stride, padding: Index,
    apart: Fixed, rows: Fixed, columns: Fixed, lanes: Fixed, size: Fixed,
):  # fmt: skip
    """y = the maximum of each window, of what lies inside the image: as many at once as `conv2d_single` does."""
    here, there = _pitch(channels, height * width), _pitch(channels, out_height * out_width)
    for i in range(out_height):
        for j0 in range(0, out_width, rows):
            j = min(j0, out_width - rows)
            top, left = i * stride - padding, j * stride - padding
            for v0 in range(0, there, columns * lanes):
                v = min(v0, there - columns * lanes)
                p = x + (top * width + left) * here + v
                first = x + (max(top, 0) * width + max(left, 0)) * here + v
                best = tile_lines(rows, columns, lanes, memory, first, apart)
                for k in range(size):
                    for m in range(size):
                        if padding == 0 or (0 <= top + k < height and 0 <= left + m < width):
                            best = tile_maximum(best, memory, p + (k * width + m) * here, apart)
                tile_store(best, memory, y + (i * out_width + j) * there + v, there, lanes, splat(NO_FLOOR))


@instruction(reads="x", writes="y", shapes=_pool_shapes)
def avg_pool2d_single(
    memory, x, y, channels, height, width, out_height, out_width, stride, padding: Index, size: Fixed
):
    """y = the sum of each window over its area; a border counts as zeros."""
    area, each = splat(np.float32(size * size)), _pitch(channels, height * width)
    for i in range(out_height):
        for j in range(out_width):
            top, left = i * stride - padding, j * stride - padding
            for v in range(0, each, LANES):
                p, summed = x + (top * width + left) * each + v, splat(ZERO)
                for k in range(size):
                    for m in range(size):
                        if padding == 0 or (0 <= top + k < height and 0 <= left + m < width):
                            summed = summed + load(memory, p + (k * width + m) * each)
                store(memory, y + (i * out_width + j) * each + v, summed / area)


@instruction(
    reads="x",
    writes="y",
    shapes=lambda d: {"x": (extent(d["channels"], d["pixels"]),), "y": (extent(d["channels"], 1),)},
)
def global_avg_pool2d_single(memory, x, y, channels, pixels):
    """y = the mean of each channel."""
    count, each = splat(np.float32(pixels)), _pitch(channels, pixels)
    for v in range(0, each, LANES):
        summed = splat(ZERO)
        for p in range(pixels):
            summed = summed + load(memory, x + p * each + v)
        store(memory, y + v, summed / count)


def _normalize_shapes(d):
    value = (extent(d["channels"], d["pixels"]),)
    per_channel = (padded(d["channels"]),)
    return {"x": value, "y": value} | dict.fromkeys(("weight", "bias", "mean", "variance"), per_channel)


@on_lanes
def _inverse_root(variance, eps):
    return ONE / sqrt(variance + splat(eps))


@instruction(reads="x weight bias mean variance", writes="y", shapes=_normalize_shapes)
def normalize2d_single(memory, x, weight, bias, mean, variance, y, channels, pixels, relu: Flag, eps: Constant):
    """y = relu?((x - mean) weight / sqrt(variance + eps) + bias)."""
    low, each = splat(ZERO if relu else NO_FLOOR), _pitch(channels, pixels)
    for v in range(0, each, LANES):
        inverse, middle = _inverse_root(load(memory, variance + v), eps), load(memory, mean + v)
        scale, shift = load(memory, weight + v), load(memory, bias + v)
        for at in range(v, pixels * each, each):
            value = fma((load(memory, x + at) - middle) * inverse, scale, shift)
            store(memory, y + at, where(low > value, low, value))


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


# --- how operations are lowered ---------------------------------------------------------------------------------


@_lowers("images")
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
        _exchange(low, planes, y, channels, pixels, pixels, pitch(channels, pixels))
        low.release(planes)


def _exchange(
    low: SingleLowering, x: Place, y: Place, rows: int, columns: int, from_: int, to: int, stage: Stage = Stage.BLOCK
) -> None:
    low.row(
        exchange, x=x.part(0, rows * from_).shaped((rows, from_)), y=y.part(0, columns * to).shaped((columns, to)),
        rows=rows, columns=columns, from_=from_, to=to, stage=stage,
    )  # fmt: skip


def _weight(low: SingleLowering, weight: Tensor, bias: list[Tensor], across: int) -> Operand:
    """The bias and the weight, taps by output channels, written whenever the parameters are."""
    out, taps = weight.shape[0], math.prod(weight.shape[1:])
    place = low.shared((1 + taps) * across)
    apart = math.prod(stored_shape(weight.shape)[1:])
    of_taps = place.part(across, taps * across)
    _exchange(low, low.places[weight], of_taps, out, taps, apart, across, Stage.WRITTEN)
    if bias:
        _exchange(low, low.places[bias[0]], place, out, 1, 1, across, Stage.WRITTEN)
    return place.shaped((1 + taps, across))


@_lowers("conv2d", fuses=[Fusion("relu")], when=lambda low, node, outer: node.attrs["groups"] == 1)
def _lower_conv2d(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    x, weight, *bias = node.inputs
    source, border, padding = low.value(x), None, node.attrs["padding"]
    channels, height, width = x.shape[1:]
    if x.shape[1:] == (1, 1, 1):
        low.refuse(node)
    if any(padding):
        border = {"pad_height": padding[0], "pad_width": padding[1]}
        high, wide = height + 2 * padding[0], width + 2 * padding[1]
        inside = low.temporary(extent(channels, high * wide))
        y = inside.shaped((inside.size,))
        low.row(pad_single, x=source, y=y, channels=channels, height=height, width=width, **border)
        source, border, height, width = y, inside, high, wide
    _conv(low, source, (channels, height, width), weight, bias, node, outer)
    low.release(border)


@_lowers("linear", fuses=[Fusion("relu")])
def _lower_linear(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    """A convolution over a single pixel."""
    x, weight, *bias = node.inputs
    _conv(low, low.value(x), (weight.shape[1], 1, 1), weight, bias, node, outer)


def _conv(
    low: SingleLowering, source: Operand, shape: tuple[int, ...], weight: Tensor, bias: list[Tensor], node: Tensor,
    outer: Tensor,
) -> None:  # fmt: skip
    channels, height, width = shape
    out, (out_height, out_width) = node.shape[1], (*node.shape[2:], 1, 1)[:2]
    across = pitch(out, out_height * out_width)
    if across == 1:
        low.refuse(node)
    lanes = min(across, LANES)
    stride = node.attrs.get("stride", 1)
    rows, columns = low.tiles.pixels(out_width, across // lanes, lanes)
    kernel_height, kernel_width = (*weight.shape[2:], 1, 1)[:2]
    low.row(
        conv2d_single, x=source, weight=_weight(low, weight, bias, across), y=low.made(outer), channels=channels,
        height=height, width=width, out=out, out_height=out_height, out_width=out_width, stride=stride,
        relu=outer is not node, apart=stride * pitch(channels, height * width), rows=rows, columns=columns,
        lanes=lanes, kernel_height=kernel_height, kernel_width=kernel_width,
    )  # fmt: skip


def _has_lanes(low: SingleLowering, node: Tensor, outer: Tensor) -> bool:
    return node.inputs[0].shape[1] > 1


def _pool(low: SingleLowering, node: Tensor, outer: Tensor) -> dict:
    (x,) = node.inputs
    return {"x": low.value(x), "y": low.made(outer), **pool.sizes(x, node, node), "padding": node.attrs["padding"]}


@_lowers("max_pool2d", when=_has_lanes)
def _lower_max_pool2d(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    across, (channels, pixels) = pitch(*low.sizes(node)), low.sizes(node.inputs[0])
    lanes = min(across, LANES)
    rows, columns = low.tiles.pixels(1 if node.attrs["padding"] else node.shape[3], across // lanes, lanes)
    apart = node.attrs["stride"] * pitch(channels, pixels)
    low.row(max_pool2d_single, **_pool(low, node, outer), apart=apart, rows=rows, columns=columns, lanes=lanes)


@_lowers("avg_pool2d", when=_has_lanes)
def _lower_avg_pool2d(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    low.row(avg_pool2d_single, **_pool(low, node, outer))


@_lowers("global_avg_pool2d", when=_has_lanes)
def _lower_global(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    (x,) = node.inputs
    channels, pixels = low.sizes(x)
    y = low.made(outer)
    low.row(global_avg_pool2d_single, x=low.value(x), y=y, channels=channels, pixels=pixels)


@_lowers("softmax")
def _lower_softmax(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    (x,) = node.inputs
    y = low.made(outer)
    low.row(softmax_single, x=low.value(x), y=y, classes=node.shape[1])


@_lowers("normalize2d", fuses=[Fusion("relu")], when=_has_lanes)
def _lower_normalize2d(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    x, *held = node.inputs
    channels, pixels = low.sizes(x)
    lanes = {}
    for name, parameter in zip(("weight", "bias", "mean", "variance"), held, strict=True):
        place = low.shared(channels)
        _exchange(low, low.places[parameter], place, channels, 1, 1, place.size, Stage.WRITTEN)
        lanes[name] = place.shaped((place.size,))
    low.row(
        normalize2d_single, x=low.value(x), y=low.made(outer), **lanes, channels=channels,
        pixels=pixels, relu=outer is not node, eps=node.attrs["eps"],
    )  # fmt: skip


@_lowers("reshape", when=lambda low, node, outer: _flat(node))
def _lower_flatten(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    """Features stand as they do in other frameworks: channel by channel."""
    (x,) = node.inputs
    channels, pixels = low.sizes(x)
    _exchange(low, low.places[x], low.result(outer), pixels, channels, pitch(channels, pixels), pixels)


@_lowers("reshape", in_place=True, when=lambda low, node, outer: 1 in low.sizes(node.inputs[0]) and _flat(node))
def _lower_same(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    low.places[outer] = low.places[node.inputs[0]]


def _flat(node: Tensor) -> bool:
    return len(node.shape) == 2
