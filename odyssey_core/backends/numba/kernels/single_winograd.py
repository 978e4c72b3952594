"""Winograd's F(4x4, 3x3) of one image, as `single` lays it out: what `winograd` computes, its lanes over channels.

Between lie v (position, tile, channels) and m (position, tile, output channels), the channels as `pitch` lays them out.
"""

import math

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.instruction import Fixed, Flag, Index, instruction
from odyssey_core.backends.numba.kernels.single import lowers_single
from odyssey_core.backends.numba.kernels.winograd import BIAS_AT, output_sides, transformed_weight
from odyssey_core.backends.numba.lower import Fusion
from odyssey_core.backends.numba.lower_single import SingleLowering, extent
from odyssey_core.backends.numba.operands import padded
from odyssey_core.backends.numba.register_patch import tile_patch
from odyssey_core.backends.numba.register_tile import tile_lines, tile_outer, tile_store, tile_zero
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.backends.numba.vector import splat
from odyssey_core.backends.numba.winograd_tile import (
    KERNEL,
    PATCH,
    POSITIONS,
    STEP,
    takes,
    tiles_of,
    winograd_input,
    winograd_output,
)
from odyssey_core.tensor import Tensor

ZERO, NO_FLOOR = np.float32(0), np.float32(-np.inf)
_padded = register_jitable(padded)


def _shapes(d):
    high, wide = output_sides(d)
    if high < 1 or wide < 1 or min(d["channels"], d["out"]) < LANES:
        raise ValueError(f"{d['channels']} to {d['out']} channels, an output of {high} x {wide} pixels")
    tiles, here, there = tiles_of(high, wide), padded(d["channels"]), padded(d["out"])
    if d["apart"] != here or not 0 < d["rows"] <= tiles or d["columns"] * LANES > there or LANES % d["lanes"]:
        raise ValueError(f"register tile of {d['rows']} x {d['columns']} over {tiles} tiles of {there} channels")
    return {
        "x": (extent(d["channels"], d["height"] * d["width"]),), "y": (extent(d["out"], high * wide),),
        "bias": (there,), "weight": (there // LANES, POSITIONS, d["channels"], LANES),
        "v": (POSITIONS, tiles * here + LANES), "m": (POSITIONS, tiles * there + LANES),
    }  # fmt: skip


@instruction(
    reads="x weight bias?", writes="y v m", shapes=_shapes,
    multiply_adds=lambda d: KERNEL * d["channels"] * d["out"] * math.prod(output_sides(d)),
)  # fmt: skip
def winograd_single(
    memory, x, weight, bias, y, v, m, channels, height, width, out, pad_height: Index, pad_width: Index, relu: Flag,
    apart: Fixed, rows: Fixed, columns: Fixed, lanes: Fixed,
):  # fmt: skip
    """y = relu?(bias + weight * x): register tiles of ``rows`` tiles x ``columns`` vectors of output channels.

    Two tiles' channels start ``apart`` elements from each other; the transforms work on ``lanes`` channels at a time.
    """
    low, no_floor = splat(ZERO if relu else NO_FLOOR), splat(NO_FLOOR)
    high, wide = height + 2 * pad_height - 2, width + 2 * pad_width - 2
    across = (wide + STEP - 1) // STEP
    tiles, there = (high + STEP - 1) // STEP * across, _padded(out)
    plane_v, plane_m, next_group = tiles * apart + LANES, tiles * there + LANES, POSITIONS * channels * LANES
    for t in range(tiles):
        i, j = t // across * STEP - pad_height, t % across * STEP - pad_width
        top, bottom, left, right = max(0, -i), min(PATCH, height - i), max(0, -j), min(PATCH, width - j)
        for c in range(0, apart, lanes):
            at = x + (i * width + j) * apart + c
            patch = tile_patch(PATCH, PATCH, lanes, memory, at, width * apart, apart, top, bottom, left, right)
            tile_store(winograd_input(patch), memory, v + t * apart + c, PATCH * plane_v, plane_v, no_floor)
    for p in range(POSITIONS):
        for o0 in range(0, there, columns * LANES):
            o = min(o0, there - columns * LANES)
            for t0 in range(0, tiles, rows):
                t = min(t0, tiles - rows)
                acc = tile_zero(rows, columns, LANES)
                if bias >= 0 and p == BIAS_AT:
                    acc = tile_lines(rows, columns, LANES, memory, bias + o, 0)
                q = weight + o // LANES * next_group + p * channels * LANES
                first = v + p * plane_v + t * apart
                for at in range(first, first + channels):
                    acc = tile_outer(acc, memory, at, apart, q, next_group)
                    q += LANES
                tile_store(acc, memory, m + p * plane_m + t * there + o, there, LANES, no_floor)
    for t in range(tiles):
        i, j = t // across * STEP, t % across * STEP
        for o in range(0, there, lanes):
            at = m + t * there + o
            products = tile_patch(PATCH, PATCH, lanes, memory, at, PATCH * plane_m, plane_m, 0, PATCH, 0, PATCH)
            to = y + (i * wide + j) * there + o
            tile_store(winograd_output(products), memory, to, wide * there, there, low, high - i, wide - j)


@lowers_single(
    "conv2d", fuses=[Fusion("relu")],
    when=lambda low, node, outer: takes(node.shape, node.inputs[1].shape, node.attrs),
)  # fmt: skip
def _lower_conv2d(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    x, weight, *bias = node.inputs
    channels, height, width = x.shape[1:]
    pad_height, pad_width = node.attrs["padding"]
    there = padded(node.shape[1])
    rows, columns = low.tiles.pixels(tiles_of(*node.shape[2:]), there // LANES, LANES)
    sizes = {
        "channels": channels, "height": height, "width": width, "out": node.shape[1], "pad_height": pad_height,
        "pad_width": pad_width, "apart": padded(channels), "rows": rows, "columns": columns, "lanes": low.tiles.lanes,
    }  # fmt: skip
    shapes = _shapes(sizes)
    v, m = (low.temporary(math.prod(shapes[name])) for name in ("v", "m"))
    low.row(
        winograd_single, x=low.value(x), weight=transformed_weight(low, weight, turned=False),
        bias=low.places[bias[0]].shaped((there,)) if bias else None, y=low.made(outer),
        v=v.shaped(shapes["v"]), m=m.shaped(shapes["m"]), relu=outer is not node, **sizes,
    )  # fmt: skip
    low.release(m)
    low.release(v)
