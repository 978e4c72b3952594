"""Convolutions of one pixel: a product of the weight and the pixels, forward and for the gradient of the input.

Planes of a power of two pixels lie such that the vectors of one pixel in all channels fall into a few sets of the first
cache. So the pixels of a few register tiles are copied side by side before they are multiplied: of 0.25 to 0.5 of the
peak 0.8 came.
"""

import math

import numpy as np

from odyssey_core.backends.numba.instruction import Fixed, Flag, instruction
from odyssey_core.backends.numba.kernels.norm import in_store
from odyssey_core.backends.numba.kernels.packed import packed, packed_size
from odyssey_core.backends.numba.lower import Fusion, Lowering, lowers
from odyssey_core.backends.numba.memory import load, store
from odyssey_core.backends.numba.operands import Operand, padded
from odyssey_core.backends.numba.register_tile import (
    tile_normalized,
    tile_outer,
    tile_splat,
    tile_store,
    tile_store_where,
    tile_zero,
)
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.backends.numba.vector import splat, where
from odyssey_core.tensor import Tensor

ZERO, NO_FLOOR = np.float32(0), np.float32(-np.inf)
# Vectors that are copied side by side: 256 KB, half of the second cache of a small core.
PANEL = 4096


def _shapes(d):
    """Shapes; raises ValueError where the pixels do not follow from the input, or a tile is larger than its range."""
    expected = (d["height"] - 1) // d["stride"] + 1, (d["width"] - 1) // d["stride"] + 1
    if expected != (d["out_height"], d["out_width"]):
        raise ValueError(f"output {d['out_height']}x{d['out_width']} does not follow from the input, {expected} would")
    pixels = d["out_height"] * d["out_width"]
    if not (0 < d["rows"] <= d["out"] and 0 < d["columns"] <= pixels):
        raise ValueError(f"tile of {d['rows']} x {d['columns']} over {d['out']} channels and {pixels} pixels")
    y = (d["out"], d["out_height"], d["out_width"], LANES)
    return {
        "x": (d["channels"], d["height"], d["width"], LANES), "y": y, "gate": y, "bias": (d["out"],),
        "norm": (4, padded(d["out"])), "weight": (packed_size(1, d["out"], d["channels"], d["rows"]),),
        "panel": (d["tiles"], d["channels"], d["columns"], LANES),
    }  # fmt: skip


@instruction(
    reads="x weight bias? norm? gate?",
    writes="y panel",
    shapes=_shapes,
    multiply_adds=lambda d: d["channels"] * d["out"] * d["out_height"] * d["out_width"],
)
def pointwise(
    memory, x, weight, bias, norm, gate, y, panel, channels, height, width, out, out_height, out_width, stride,
    relu: Flag, tiles, rows: Fixed, columns: Fixed,
):  # fmt: skip
    """y = relu?(norm?(bias + weight x)) over channels, of every ``stride``-th pixel; 0 where the gate is closed.

    ``tiles`` tiles of ``rows`` output channels x ``columns`` pixels share a panel. The weight lies as `packed` has it.
    """
    low = splat(ZERO if relu else NO_FLOOR)
    pixels, plane = out_height * out_width, height * width * LANES
    pitch = (out + LANES - 1) // LANES * LANES
    for p0 in range(0, pixels, tiles * columns):
        count = (min(pixels - p0, tiles * columns) + columns - 1) // columns
        for t in range(count):
            p = min(p0 + t * columns, pixels - columns)
            target = panel + t * channels * columns * LANES
            for c in range(channels):
                j = p % out_width
                source = x + c * plane + (p // out_width * width + j) * stride * LANES
                for _ in range(columns):
                    store(memory, target, load(memory, source))
                    j, target, source = j + 1, target + LANES, source + stride * LANES
                    if j == out_width:
                        j, source = 0, source + (width - out_width) * stride * LANES
        for o0 in range(0, out, rows):
            o = min(o0, out - rows)
            for t in range(count):
                acc = tile_splat(rows, columns, memory, bias + o) if bias >= 0 else tile_zero(rows, columns, LANES)
                q, at = weight + o0 * channels, panel + t * channels * columns * LANES
                for _ in range(channels):
                    acc = tile_outer(acc, memory, q, 1, at, LANES)
                    q, at = q + rows, at + columns * LANES
                if norm >= 0:
                    acc = tile_normalized(acc, memory, norm + o, 1, pitch)
                at = (o * pixels + min(p0 + t * columns, pixels - columns)) * LANES
                if gate >= 0:
                    tile_store_where(acc, memory, y + at, pixels * LANES, LANES, gate + at)
                else:
                    tile_store(acc, memory, y + at, pixels * LANES, LANES, low)


def _spread_shapes(d):
    small = (d["height"] - 1) // d["stride"] + 1, (d["width"] - 1) // d["stride"] + 1
    y = (d["channels"], d["height"], d["width"], LANES)
    return {"x": (d["channels"], *small, LANES), "y": y, "gate": y}


@instruction(reads="x gate?", writes="y", shapes=_spread_shapes)
def spread(memory, x, gate, y, channels, height, width, stride):
    """y = x at every ``stride``-th pixel, 0 at the others and where the gate is closed."""
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                at, value = ((c * height + i) * width + j) * LANES, splat(ZERO)
                if i % stride == 0 and j % stride == 0:
                    value = load(memory, x)
                    x += LANES
                if gate >= 0:
                    value = where(load(memory, gate + at) > ZERO, value, splat(ZERO))
                store(memory, y + at, value)


def _of_one_pixel(low: Lowering, node: Tensor, outer: Tensor) -> bool:
    kernel = node.inputs[1].shape[2:]
    return kernel == (1, 1) and node.attrs["groups"] == 1 and node.attrs["padding"] == (0, 0)


def _product(
    low: Lowering, x: tuple[int, ...], y: tuple[int, ...], weight: Tensor, transposed: bool, /, **arguments
) -> None:
    """The row for an input (N, C, H, W) and an output; a tile's sizes follow."""
    (_, channels, height, width), (_, out, out_height, out_width) = x, y
    rows, columns = low.tiles.outer(out, out_height * out_width)
    tiles = max(1, min(PANEL // channels, out_height * out_width) // columns)
    panel = low.temporary(tiles * channels * columns * LANES)
    low.row(
        pointwise, panel=panel.shaped((tiles, channels, columns, LANES)), channels=channels, height=height,
        width=width, out=out, out_height=out_height, out_width=out_width, tiles=tiles, rows=rows, columns=columns,
        weight=packed(low, weight, 1, rows, transposed=transposed), **arguments,
    )  # fmt: skip
    low.release(panel)


@lowers("conv2d", fuses=[Fusion("normalize2d"), Fusion("relu")], when=_of_one_pixel)
def _lower_conv2d(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, weight, *bias = node.inputs
    _product(
        low, x.shape, node.shape, weight, False, x=low.laned(x), bias=low.held(bias[0]) if bias else None, gate=None,
        y=low.result(outer).shaped((*node.shape[1:], LANES)), stride=node.attrs["stride"], **in_store(low, outer),
    )  # fmt: skip


@lowers("conv2d_grad_input", fuses=[Fusion("relu_grad", operand=1)], when=_of_one_pixel)
def _lower_grad_input(low: Lowering, node: Tensor, outer: Tensor) -> None:
    grad, weight = node.inputs
    stride, (_, channels, height, width) = node.attrs["stride"], node.shape
    dx = low.result(outer).shaped((*node.shape[1:], LANES))
    gate = low.laned(outer.inputs[0], node.shape[1:]) if outer is not node else None
    small: Operand | None = None
    if stride > 1:
        shape = (channels, *grad.shape[2:], LANES)
        small = low.temporary(math.prod(shape)).shaped(shape)
    _product(
        low, grad.shape, (*node.shape[:2], *grad.shape[2:]), weight, True, x=low.laned(grad), bias=None,
        gate=None if small else gate, y=small or dx, stride=1, norm=None, relu=False,
    )  # fmt: skip
    if small:
        low.row(spread, x=small, gate=gate, y=dx, channels=channels, height=height, width=width, stride=stride)
        low.release(small.place)
