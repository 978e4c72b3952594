"""Pooling over square windows, built for one window size so that its loops unroll."""

import numpy as np
from numba import njit

from odyssey_core.backends.numba.simd import LANES, add, div, load, maximum, splat, store, where_equal, where_greater
from odyssey_core.backends.numba.table import Instruction

ZERO = np.float32(0)


@njit
def clear(arena, start, vectors):
    """Zeros."""
    for i in range(vectors):
        store(arena, start + i * LANES, splat(ZERO))


def build_max_pool2d(size):
    """y = the maximum of each window."""

    def max_pool2d(arena, row, feed, step, block):
        x, y, channels, height, width = row[1], row[2], row[3], row[4], row[5]
        out_height, out_width, stride = row[6], row[7], row[8]
        for c in range(channels):
            for i in range(out_height):
                for j in range(out_width):
                    p = x + ((c * height + i * stride) * width + j * stride) * LANES
                    best = load(arena, p)
                    for k in range(size):
                        for m in range(size):
                            best = maximum(best, load(arena, p + (k * width + m) * LANES))
                    store(arena, y + ((c * out_height + i) * out_width + j) * LANES, best)

    return max_pool2d


def build_max_pool2d_grad(size):
    """dx: each window's gradient goes to its first maximum in row-major order; 0 where gated and x is not above 0.

    Where windows tile the image, dx may lie where x lies: a window is read before it is written.
    """

    def max_pool2d_grad(arena, row, feed, step, block):
        x, y, grad, dx, channels, height, width = row[1], row[2], row[3], row[4], row[5], row[6], row[7]
        out_height, out_width, stride, gated = row[8], row[9], row[10], row[11]
        exact = stride == size and height == out_height * size and width == out_width * size
        if not exact:
            clear(arena, dx, channels * height * width)
        floor = splat(ZERO if gated else np.float32(-np.inf))
        for c in range(channels):
            for i in range(out_height):
                for j in range(out_width):
                    at = ((c * height + i * stride) * width + j * stride) * LANES
                    place = ((c * out_height + i) * out_width + j) * LANES
                    best, unpaid = load(arena, y + place), load(arena, grad + place)
                    unpaid = where_greater(best, floor, unpaid, splat(ZERO))
                    for k in range(size):
                        for m in range(size):
                            here = at + (k * width + m) * LANES
                            value = load(arena, x + here)
                            paid = where_equal(value, best, unpaid, splat(ZERO))
                            unpaid = where_equal(value, best, splat(ZERO), unpaid)
                            if exact:
                                store(arena, dx + here, paid)
                            else:
                                store(arena, dx + here, add(load(arena, dx + here), paid))

    return max_pool2d_grad


def build_avg_pool2d(size):
    """y = the mean of each window."""

    def avg_pool2d(arena, row, feed, step, block):
        x, y, channels, height, width = row[1], row[2], row[3], row[4], row[5]
        out_height, out_width, stride = row[6], row[7], row[8]
        area = splat(np.float32(size * size))
        for c in range(channels):
            for i in range(out_height):
                for j in range(out_width):
                    p = x + ((c * height + i * stride) * width + j * stride) * LANES
                    summed = splat(ZERO)
                    for k in range(size):
                        for m in range(size):
                            summed = add(summed, load(arena, p + (k * width + m) * LANES))
                    store(arena, y + ((c * out_height + i) * out_width + j) * LANES, div(summed, area))

    return avg_pool2d


def build_avg_pool2d_grad(size):
    """dx: each window's gradient is shared equally by its pixels."""

    def avg_pool2d_grad(arena, row, feed, step, block):
        grad, dx, channels, height, width = row[1], row[2], row[3], row[4], row[5]
        out_height, out_width, stride = row[6], row[7], row[8]
        area = splat(np.float32(size * size))
        clear(arena, dx, channels * height * width)
        for c in range(channels):
            for i in range(out_height):
                for j in range(out_width):
                    at = dx + ((c * height + i * stride) * width + j * stride) * LANES
                    share = div(load(arena, grad + ((c * out_height + i) * out_width + j) * LANES), area)
                    for k in range(size):
                        for m in range(size):
                            here = at + (k * width + m) * LANES
                            store(arena, here, add(load(arena, here), share))

    return avg_pool2d_grad


def shapes(d):
    """Shapes; raises ValueError where the output reaches over the input. The window is the kernel's variant."""
    size = d["variant"][0]
    expected = (d["height"] - size) // d["stride"] + 1, (d["width"] - size) // d["stride"] + 1
    if size > min(d["height"], d["width"]) or expected != (d["out_height"], d["out_width"]):
        raise ValueError(f"output {d['out_height']}x{d['out_width']} does not follow from the input, {expected} would")
    x = (d["channels"], d["height"], d["width"], LANES)
    y = (d["channels"], d["out_height"], d["out_width"], LANES)
    return {"x": x, "y": y, "grad": y, "dx": x}


SIZES = ("channels", "height", "width", "out_height", "out_width", "stride")
MAX_POOL2D = Instruction("max_pool2d", build_max_pool2d, ("x",), ("y",), SIZES, shapes)
MAX_POOL2D_GRAD = Instruction(
    "max_pool2d_grad", build_max_pool2d_grad, ("x", "y", "grad"), ("dx",), (*SIZES, "gated"), shapes,
    flags=("gated",),
)  # fmt: skip
AVG_POOL2D = Instruction("avg_pool2d", build_avg_pool2d, ("x",), ("y",), SIZES, shapes)
AVG_POOL2D_GRAD = Instruction("avg_pool2d_grad", build_avg_pool2d_grad, ("grad",), ("dx",), SIZES, shapes)
