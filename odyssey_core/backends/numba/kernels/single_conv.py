"""Convolution and the affine map of one image, as `single` lays it out. An affine map has a single pixel."""

import math

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.instruction import Fixed, Flag, Index, instruction
from odyssey_core.backends.numba.kernels import conv, winograd
from odyssey_core.backends.numba.kernels.single import copy, lowers_single
from odyssey_core.backends.numba.lower import Fusion
from odyssey_core.backends.numba.lower_single import SingleLowering, extent, pitch
from odyssey_core.backends.numba.memory import store
from odyssey_core.backends.numba.operands import Operand, Place, Stage, padded, stored_shape
from odyssey_core.backends.numba.register_tile import tile_lines, tile_outer, tile_store
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.backends.numba.vector import splat
from odyssey_core.tensor import Tensor

ZERO, NO_FLOOR = np.float32(0), np.float32(-np.inf)
_pitch, _padded = register_jitable(pitch), register_jitable(padded)


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
        copy(memory, x + i * width * each, target, width * each)


def check_tile(d, across: int) -> None:
    """Raises ValueError for a tile that is larger than what it walks over."""
    wide = d["columns"] * d["lanes"]
    if not 0 < d["rows"] <= d["out_width"] or across % d["lanes"] or not 0 < wide <= across:
        raise ValueError(f"tile of {d['rows']} x {wide} over {d['out_width']} pixels of {across} channels")


def of_panels(across: int, taps: int, wide: int) -> tuple[int, int, int]:
    """Shape of what `panels_single` makes."""
    return -(-across // wide), 1 + taps, wide


def _panels_shapes(d):
    if d["out"] > d["across"] or d["wide"] > d["across"] or d["taps"] > d["from_"]:
        raise ValueError(f"{d['wide']} of {d['out']} channels side by side, of {d['across']}; {d['taps']} taps")
    y = of_panels(d["across"], d["taps"], d["wide"])
    return {"x": (d["out"], d["from_"]), "bias": (d["out"],), "y": y}


@instruction(reads="x bias?", writes="y", shapes=_panels_shapes)
def panels_single(memory, x, bias, y, out, taps, from_, across, wide):
    """y (panels, 1 + taps, wide) = the bias, then x (out, taps) transposed, as tiles of ``wide`` channels read them.

    x's rows lie ``from_`` apart. Channels from ``out`` up to ``across`` are 0; there the last panel ends, which may
    overlap the one before it.
    """
    for v in range(0, across, wide):
        first = min(v, across - wide)
        for i in range(wide):
            o, known = first + i, first + i < out
            memory[y + i] = memory[bias + o] if known and bias >= 0 else ZERO
            for t in range(taps):
                memory[y + (1 + t) * wide + i] = memory[x + o * from_ + t] if known else ZERO
        y += (1 + taps) * wide


def _conv_shapes(d):
    conv.shapes(d)
    pixels = d["out_height"] * d["out_width"]
    across = pitch(d["out"], pixels)
    check_tile(d, across)
    if d["apart"] != d["stride"] * pitch(d["channels"], d["height"] * d["width"]):
        raise ValueError(f"patches {d['apart']} apart, the stride is {d['stride']}")
    taps = d["channels"] * d["kernel_height"] * d["kernel_width"]
    return {
        "x": (extent(d["channels"], d["height"] * d["width"]),), "y": (extent(d["out"], pixels),),
        "weight": of_panels(across, taps, d["columns"] * d["lanes"]),
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

    ``weight`` lies as `panels_single` has it, its taps in the order of the weight as a parameter; a panel is read for
    all pixels before the next one is. Two pixels' patches start ``apart`` elements from each other; with that unknown,
    addresses take half of the time.
    """
    low, wide = splat(ZERO if relu else NO_FLOOR), columns * lanes
    here, there = _pitch(channels, height * width), _pitch(out, out_height * out_width)
    for v0 in range(0, there, wide):
        v = min(v0, there - wide)
        for i in range(out_height):
            for j0 in range(0, out_width, rows):
                j = min(j0, out_width - rows)
                acc = tile_lines(rows, columns, lanes, memory, weight, 0)
                q = weight + wide
                for c in range(channels):
                    for k in range(kernel_height):
                        p = x + (i * stride + k) * width * here + j * apart + c
                        for _ in range(kernel_width):
                            acc = tile_outer(acc, memory, p, apart, q, lanes)
                            p += here
                            q += wide
                tile_store(acc, memory, y + (i * out_width + j) * there + v, there, lanes, low)
        weight += (1 + channels * kernel_height * kernel_width) * wide


def panels(low: SingleLowering, weight: Tensor, bias: list[Tensor], across: int, wide: int) -> Operand:
    """The bias and the weight as `panels_single` has them, written whenever the parameters are."""
    out, taps = weight.shape[0], math.prod(weight.shape[1:])
    shape = of_panels(across, taps, wide)
    y, apart = low.shared(math.prod(shape)).shaped(shape), math.prod(stored_shape(weight.shape)[1:])
    low.row(
        panels_single, x=low.places[weight].shaped((out, apart)), bias=low.held(bias[0]) if bias else None, y=y,
        out=out, taps=taps, from_=apart, across=across, wide=wide, stage=Stage.WRITTEN,
    )  # fmt: skip
    return y


def _alike(low: SingleLowering, node: Tensor, outer: Tensor) -> bool:
    """Whether blocks of images add up in the order that this kernel does."""
    return node.attrs["groups"] == 1 and not winograd.takes(node.shape, node.inputs[1].shape, node.attrs)


def bordered(low: SingleLowering, node: Tensor) -> tuple[Operand, tuple[int, int, int], Place | None]:
    """The input of a convolution inside its border of zeros, its shape, and what to release afterwards."""
    x, padding = node.inputs[0], node.attrs["padding"]
    channels, height, width = x.shape[1:]
    if not any(padding):
        return low.value(x), (channels, height, width), None
    high, wide = height + 2 * padding[0], width + 2 * padding[1]
    place = low.temporary(extent(channels, high * wide))
    inside, border = place.shaped((place.size,)), {"pad_height": padding[0], "pad_width": padding[1]}
    low.row(pad_single, x=low.value(x), y=inside, channels=channels, height=height, width=width, **border)
    return inside, (channels, high, wide), place


@lowers_single("conv2d", fuses=[Fusion("relu")], when=_alike)
def _lower_conv2d(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    x, weight, *bias = node.inputs
    if x.shape[1:] == (1, 1, 1):
        low.refuse(node)
    source, shape, border = bordered(low, node)
    _conv(low, source, shape, weight, bias, node, outer)
    low.release(border)


@lowers_single("linear", fuses=[Fusion("relu")])
def _lower_linear(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    """A convolution over a single pixel."""
    x, weight, *bias = node.inputs
    _conv(low, low.value(x), (weight.shape[1], 1, 1), weight, bias, node, outer)


def _conv(
    low: SingleLowering, source: Operand, shape: tuple[int, int, int], weight: Tensor, bias: list[Tensor], node: Tensor,
    outer: Tensor,
) -> None:  # fmt: skip
    channels, height, width = shape
    out, (out_height, out_width) = node.shape[1], (*node.shape[2:], 1, 1)[:2]
    stride, (kernel_height, kernel_width) = node.attrs.get("stride", 1), (*weight.shape[2:], 1, 1)[:2]
    if stride == kernel_height == kernel_width == 1:  # Pixels see nothing of each other: tiles may go over rows' ends.
        height, width, out_height, out_width = 1, height * width, 1, out_height * out_width
    across = pitch(out, out_height * out_width)
    if across == 1:
        low.refuse(node)
    lanes = min(across, LANES)
    rows, columns = low.tiles.pixels(out_width, across // lanes, lanes)
    low.row(
        conv2d_single, x=source, weight=panels(low, weight, bias, across, columns * lanes), y=low.made(outer),
        channels=channels, height=height, width=width, out=out, out_height=out_height, out_width=out_width,
        stride=stride, relu=outer is not node, apart=stride * pitch(channels, height * width), rows=rows,
        columns=columns, lanes=lanes, kernel_height=kernel_height, kernel_width=kernel_width,
    )  # fmt: skip
