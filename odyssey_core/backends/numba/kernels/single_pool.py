"""Pooling and batch normalisation of one image, as `single` lays it out."""

import math

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.instruction import Constant, Fixed, Flag, Index, instruction
from odyssey_core.backends.numba.kernels import pool
from odyssey_core.backends.numba.kernels.single import add_exchange, lowers_single
from odyssey_core.backends.numba.kernels.single_conv import check_tile
from odyssey_core.backends.numba.lower import Fusion
from odyssey_core.backends.numba.lower_single import SingleLowering, extent, pitch
from odyssey_core.backends.numba.memory import load, store
from odyssey_core.backends.numba.operands import Stage, padded
from odyssey_core.backends.numba.register_tile import tile_lines, tile_maximum, tile_store
from odyssey_core.backends.numba.traced import LANES, on_lanes
from odyssey_core.backends.numba.vector import fma, splat, sqrt, where
from odyssey_core.tensor import Tensor

ZERO, ONE, NO_FLOOR = np.float32(0), np.float32(1), np.float32(-np.inf)
_pitch = register_jitable(pitch)


def _pool_shapes(d):
    shapes = pool.shapes(d)
    channels = d["channels"]
    if channels == 1:
        raise ValueError("one channel, whose pixels lie side by side")
    return {name: (extent(channels, math.prod(shapes[name][1:3])),) for name in ("x", "y")}


def _max_pool_shapes(d):
    check_tile(d, pitch(d["channels"], d["out_height"] * d["out_width"]))
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


def _has_lanes(low: SingleLowering, node: Tensor, outer: Tensor) -> bool:
    return node.inputs[0].shape[1] > 1


def _pool(low: SingleLowering, node: Tensor, outer: Tensor) -> dict:
    (x,) = node.inputs
    return {"x": low.value(x), "y": low.made(outer), **pool.sizes(x, node, node), "padding": node.attrs["padding"]}


@lowers_single("max_pool2d", when=_has_lanes)
def _lower_max_pool2d(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    across, (channels, pixels) = pitch(*low.sizes(node)), low.sizes(node.inputs[0])
    lanes = min(across, LANES)
    rows, columns = low.tiles.pixels(1 if node.attrs["padding"] else node.shape[3], across // lanes, lanes)
    apart = node.attrs["stride"] * pitch(channels, pixels)
    low.row(max_pool2d_single, **_pool(low, node, outer), apart=apart, rows=rows, columns=columns, lanes=lanes)


@lowers_single("avg_pool2d", when=_has_lanes)
def _lower_avg_pool2d(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    low.row(avg_pool2d_single, **_pool(low, node, outer))


@lowers_single("global_avg_pool2d", when=_has_lanes)
def _lower_global(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    (x,) = node.inputs
    channels, pixels = low.sizes(x)
    y = low.made(outer)
    low.row(global_avg_pool2d_single, x=low.value(x), y=y, channels=channels, pixels=pixels)


@lowers_single("normalize2d", fuses=[Fusion("relu")], when=_has_lanes)
def _lower_normalize2d(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    x, *held = node.inputs
    channels, pixels = low.sizes(x)
    lanes = {}
    for name, parameter in zip(("weight", "bias", "mean", "variance"), held, strict=True):
        place = low.shared(channels)
        add_exchange(low, low.places[parameter], place, channels, 1, 1, place.size, Stage.WRITTEN)
        lanes[name] = place.shaped((place.size,))
    low.row(
        normalize2d_single, x=low.value(x), y=low.made(outer), **lanes, channels=channels,
        pixels=pixels, relu=outer is not node, eps=node.attrs["eps"],
    )  # fmt: skip
