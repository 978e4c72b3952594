"""Pooling over square windows, compiled for each window size so that its loops unroll, and over whole images."""

import math

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.instruction import Fixed, Flag, Index, instruction
from odyssey_core.backends.numba.lower import Fusion, Lowering, lowers
from odyssey_core.backends.numba.memory import load, store
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.backends.numba.vector import maximum, splat, where
from odyssey_core.tensor import Tensor

ZERO, NO_FLOOR = np.float32(0), np.float32(-np.inf)


def shapes(d):
    """Shapes; raises ValueError where the output does not follow from the input."""
    size, padding = d["size"], d.get("padding", 0)
    high, wide = d["height"] + 2 * padding, d["width"] + 2 * padding
    expected = (high - size) // d["stride"] + 1, (wide - size) // d["stride"] + 1
    if size > min(high, wide) or 2 * padding > size or expected != (d["out_height"], d["out_width"]):
        raise ValueError(f"output {d['out_height']}x{d['out_width']} does not follow from the input, {expected} would")
    x = (d["channels"], d["height"], d["width"], LANES)
    y = (d["channels"], d["out_height"], d["out_width"], LANES)
    return {"x": x, "y": y, "grad": y, "dx": x}


@register_jitable
def tiled(height, width, out_height, out_width, stride, padding, size):
    """Whether every pixel lies in exactly one window."""
    return padding == 0 and stride == size and height == out_height * size and width == out_width * size


@instruction(reads="x", writes="y", shapes=shapes)
def max_pool2d(memory, x, y, channels, height, width, out_height, out_width, stride, padding: Index, size: Fixed):
    """y = the maximum of each window, of what lies inside the image."""
    for c in range(channels):
        for i in range(out_height):
            for j in range(out_width):
                top, left = i * stride - padding, j * stride - padding
                p = x + ((c * height + top) * width + left) * LANES
                best = load(memory, x + ((c * height + max(top, 0)) * width + max(left, 0)) * LANES)
                for k in range(size):
                    for m in range(size):
                        if padding == 0 or (0 <= top + k < height and 0 <= left + m < width):
                            best = maximum(best, load(memory, p + (k * width + m) * LANES))
                store(memory, y + ((c * out_height + i) * out_width + j) * LANES, best)


@instruction(reads="x y grad", writes="dx", shapes=shapes)
def max_pool2d_grad(
    memory, x, y, grad, dx, channels, height, width, out_height, out_width, stride, padding: Index, gated: Flag,
    size: Fixed,
):  # fmt: skip
    """dx: each window's gradient goes to its first maximum in row-major order; 0 where gated and x is not above 0.

    Where windows tile the image, dx may lie where x lies: a window is read before it is written.
    """
    exact = tiled(height, width, out_height, out_width, stride, padding, size)
    if not exact:
        for at in range(dx, dx + channels * height * width * LANES, LANES):
            store(memory, at, splat(ZERO))
    floor = splat(ZERO if gated else NO_FLOOR)
    for c in range(channels):
        for i in range(out_height):
            for j in range(out_width):
                top, left = i * stride - padding, j * stride - padding
                at = ((c * height + top) * width + left) * LANES
                place = ((c * out_height + i) * out_width + j) * LANES
                best, remaining = load(memory, y + place), load(memory, grad + place)
                remaining = where(best > floor, remaining, splat(ZERO))
                for k in range(size):
                    for m in range(size):
                        if padding == 0 or (0 <= top + k < height and 0 <= left + m < width):
                            here = at + (k * width + m) * LANES
                            first = load(memory, x + here) == best
                            routed = where(first, remaining, splat(ZERO))
                            remaining = where(first, splat(ZERO), remaining)
                            if exact:
                                store(memory, dx + here, routed)
                            else:
                                store(memory, dx + here, load(memory, dx + here) + routed)


@instruction(reads="x", writes="y", shapes=shapes)
def avg_pool2d(memory, x, y, channels, height, width, out_height, out_width, stride, padding: Index, size: Fixed):
    """y = the sum of each window over its area; a border counts as zeros."""
    area = splat(np.float32(size * size))
    for c in range(channels):
        for i in range(out_height):
            for j in range(out_width):
                top, left = i * stride - padding, j * stride - padding
                p = x + ((c * height + top) * width + left) * LANES
                summed = splat(ZERO)
                for k in range(size):
                    for m in range(size):
                        if padding == 0 or (0 <= top + k < height and 0 <= left + m < width):
                            summed = summed + load(memory, p + (k * width + m) * LANES)
                store(memory, y + ((c * out_height + i) * out_width + j) * LANES, summed / area)


@instruction(reads="grad", writes="dx", shapes=shapes)
def avg_pool2d_grad(
    memory, grad, dx, channels, height, width, out_height, out_width, stride, padding: Index, size: Fixed
):
    """dx: each window's gradient is shared equally by its pixels."""
    area = splat(np.float32(size * size))
    for at in range(dx, dx + channels * height * width * LANES, LANES):
        store(memory, at, splat(ZERO))
    for c in range(channels):
        for i in range(out_height):
            for j in range(out_width):
                top, left = i * stride - padding, j * stride - padding
                at = dx + ((c * height + top) * width + left) * LANES
                part = load(memory, grad + ((c * out_height + i) * out_width + j) * LANES) / area
                for k in range(size):
                    for m in range(size):
                        if padding == 0 or (0 <= top + k < height and 0 <= left + m < width):
                            here = at + (k * width + m) * LANES
                            store(memory, here, load(memory, here) + part)


def _global_shapes(d):
    x, y = (d["channels"], d["pixels"], LANES), (d["channels"], LANES)
    return {"x": x, "y": y, "grad": y, "dx": x}


@instruction(reads="x", writes="y", shapes=_global_shapes)
def global_avg_pool2d(memory, x, y, channels, pixels):
    """y = the mean of each channel."""
    count = splat(np.float32(pixels))
    for c in range(channels):
        summed = splat(ZERO)
        for at in range(x + c * pixels * LANES, x + (c + 1) * pixels * LANES, LANES):
            summed = summed + load(memory, at)
        store(memory, y + c * LANES, summed / count)


@instruction(reads="grad", writes="dx", shapes=_global_shapes)
def global_avg_pool2d_grad(memory, grad, dx, channels, pixels):
    """dx: each channel's gradient is shared equally by its pixels."""
    count = splat(np.float32(pixels))
    for c in range(channels):
        part = load(memory, grad + c * LANES) / count
        for at in range(dx + c * pixels * LANES, dx + (c + 1) * pixels * LANES, LANES):
            store(memory, at, part)


def sizes(x: Tensor, y: Tensor, node: Tensor) -> dict[str, int]:
    """A pool's sizes from its input, its output and its attributes."""
    (_, channels, height, width), (*_, out_height, out_width) = x.shape, y.shape
    return {
        "channels": channels, "height": height, "width": width, "out_height": out_height, "out_width": out_width,
        "stride": node.attrs["stride"], "size": node.attrs["kernel_size"],
    }  # fmt: skip


def _pool(instruction):
    def lower(low: Lowering, node: Tensor, outer: Tensor) -> None:
        (x,) = node.inputs
        y = low.result(outer).shaped((*node.shape[1:], LANES))
        low.row(instruction, x=low.laned(x), y=y, **sizes(x, node, node), padding=node.attrs["padding"])

    return lower


lowers("max_pool2d")(_pool(max_pool2d))
lowers("avg_pool2d")(_pool(avg_pool2d))


@lowers(
    "max_pool2d_grad",
    fuses=[Fusion("relu_grad", operand=1, possible=lambda inner, outer: inner.inputs[0] is outer.inputs[0])],
)
def _lower_max_pool2d_grad(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, y, grad = node.inputs
    exact = tiled(*x.shape[2:], *y.shape[2:], node.attrs["stride"], node.attrs["padding"], node.attrs["kernel_size"])
    low.row(
        max_pool2d_grad, x=low.laned(x), y=low.laned(y), grad=low.laned(grad, y.shape[1:]),
        dx=low.result(outer, reuse=x if exact else None).shaped((*x.shape[1:], LANES)), **sizes(x, y, node),
        padding=node.attrs["padding"], gated=outer is not node,
    )  # fmt: skip


@lowers("avg_pool2d_grad")
def _lower_avg_pool2d_grad(low: Lowering, node: Tensor, outer: Tensor) -> None:
    (grad,) = node.inputs
    dx = low.result(outer).shaped((*node.shape[1:], LANES))
    low.row(avg_pool2d_grad, grad=low.laned(grad), dx=dx, **sizes(node, grad, node), padding=node.attrs["padding"])


@lowers("global_avg_pool2d")
def _lower_global(low: Lowering, node: Tensor, outer: Tensor) -> None:
    (x,) = node.inputs
    channels, pixels = x.shape[1], math.prod(x.shape[2:])
    y = low.result(outer).shaped((channels, LANES))
    low.row(global_avg_pool2d, x=low.laned(x, (channels, pixels)), y=y, channels=channels, pixels=pixels)


@lowers("global_avg_pool2d_grad")
def _lower_global_grad(low: Lowering, node: Tensor, outer: Tensor) -> None:
    (grad,) = node.inputs
    channels, pixels = node.shape[1], math.prod(node.shape[2:])
    dx = low.result(outer).shaped((channels, pixels, LANES))
    low.row(global_avg_pool2d_grad, grad=low.laned(grad), dx=dx, channels=channels, pixels=pixels)
