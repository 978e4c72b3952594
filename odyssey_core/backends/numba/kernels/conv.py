"""Convolution: forward, and the gradients of its input and its weight. Layout (channels, height, width, 16 lanes)."""

import math

import numpy as np

from odyssey_core.backends.numba.simd import LANES, load, splat, store, transpose
from odyssey_core.backends.numba.table import Instruction, padded
from odyssey_core.backends.numba.tile import (
    tile_add,
    tile_inner,
    tile_outer,
    tile_splat,
    tile_store,
    tile_store_where,
    tile_zero,
)

ZERO, NO_FLOOR = np.float32(0), np.float32(-np.inf)
# Rows of output pixels summed at once in the weight's gradient: about this many pixels, so that they stay in the first
# cache. Part of the result's definition (order of additions), so it must not depend on the CPU.
CHUNK_PIXELS = 80


def build_conv2d(rows, columns, kernel_height, kernel_width):
    """y = relu?(bias + weight * x): tiles of ``rows`` output channels x ``columns`` pixels of a row."""
    area = kernel_height * kernel_width

    def conv2d(arena, row, feed, step, block):
        x, weight, bias, y = row[1], row[2], row[3], row[4]
        channels, height, width, out, out_height, out_width = row[5], row[6], row[7], row[8], row[9], row[10]
        stride, relu = row[11], row[12]
        low = splat(ZERO if relu else NO_FLOOR)
        taps = channels * area
        for i in range(out_height):
            for j0 in range(0, out_width, columns):
                j = min(j0, out_width - columns)
                for o0 in range(0, out, rows):
                    o = min(o0, out - rows)
                    acc = tile_splat(rows, columns, arena, bias + o) if bias >= 0 else tile_zero(rows, columns, LANES)
                    for c in range(channels):
                        q = weight + o * taps + c * area
                        p = x + ((c * height + i * stride) * width + j * stride) * LANES
                        for k in range(kernel_height):
                            for m in range(kernel_width):
                                at = q + k * kernel_width + m
                                acc = tile_outer(acc, arena, at, taps, p + m * LANES, stride * LANES)
                            p += width * LANES
                    at = y + ((o * out_height + i) * out_width + j) * LANES
                    tile_store(acc, arena, at, out_height * out_width * LANES, LANES, low)

    return conv2d


def build_conv2d_grad_input(rows, kernel_height, kernel_width):
    """dx of ``rows`` input channels at a time; each term once, nothing added for taps that fall outside."""
    area = kernel_height * kernel_width

    def conv2d_grad_input(arena, row, feed, step, block):
        grad, weight, gate, dx = row[1], row[2], row[3], row[4]
        channels, height, width, out, out_height, out_width = row[5], row[6], row[7], row[8], row[9], row[10]
        stride, padding = row[11], row[12]
        for y in range(height):
            i0 = max(0, (y + padding - kernel_height + stride) // stride)
            i1 = min(out_height - 1, (y + padding) // stride)
            for x in range(width):
                j0 = max(0, (x + padding - kernel_width + stride) // stride)
                j1 = min(out_width - 1, (x + padding) // stride)
                for c0 in range(0, channels, rows):
                    c = min(c0, channels - rows)
                    acc = tile_zero(rows, 1, LANES)
                    for o in range(out):
                        for i in range(i0, i1 + 1):
                            q = weight + (o * channels + c) * area + (y + padding - i * stride) * kernel_width
                            q += x + padding - j0 * stride
                            p = grad + ((o * out_height + i) * out_width + j0) * LANES
                            for _ in range(j0, j1 + 1):
                                acc = tile_outer(acc, arena, q, area, p, LANES)
                                q -= stride
                                p += LANES
                    at = ((c * height + y) * width + x) * LANES
                    if gate >= 0:
                        tile_store_where(acc, arena, dx + at, height * width * LANES, LANES, gate + at)
                    else:
                        tile_store(acc, arena, dx + at, height * width * LANES, LANES, splat(NO_FLOOR))

    return conv2d_grad_input


def build_conv2d_grad_weight(rows, columns, lanes, kernel_height, kernel_width):
    """dw, lane by lane, += grad * x over pixels: tiles of ``rows`` output channels x ``columns`` taps of a row.

    A tile is ``lanes`` wide, one register: tiles of whole vectors would be so small that loads hold them up, 69 GFLOP/s
    in place of 90. The lanes are summed by `TOTALS` when all blocks are done: a sum over lanes costs as much as a row
    of pixels.
    """
    area = kernel_height * kernel_width

    def conv2d_grad_weight(arena, row, feed, step, block):
        x, grad, dw = row[1], row[2], row[3]
        channels, height, width, out, out_height, out_width = row[4], row[5], row[6], row[7], row[8], row[9]
        stride, first = row[10], row[11]
        plane = out_height * out_width * LANES
        chunk = max(1, CHUNK_PIXELS // out_width)
        for i0 in range(0, out_height, chunk):
            i1 = min(out_height, i0 + chunk)
            fresh = block == first and i0 == 0
            for o0 in range(0, out, rows):
                o = min(o0, out - rows)
                for t in range(channels * kernel_height):
                    c, k = t // kernel_height, t % kernel_height
                    for m0 in range(0, kernel_width, columns):
                        m = min(m0, kernel_width - columns)
                        for lane in range(0, LANES, lanes):
                            acc = tile_zero(rows, columns, lanes)
                            for i in range(i0, i1):
                                p = x + ((c * height + i * stride + k) * width + m) * LANES + lane
                                g = grad + (o * out_height + i) * out_width * LANES + lane
                                for _ in range(out_width):
                                    acc = tile_inner(acc, arena, g, plane, p, LANES)
                                    p += stride * LANES
                                    g += LANES
                            at = dw + ((o * channels + c) * area + k * kernel_width + m) * LANES + lane
                            tile_add(acc, arena, at, channels * area * LANES, LANES, o0 - o, m0 - m, fresh)

    return conv2d_grad_weight


def build_conv2d_grad_weight_wide(rows, columns, kernel_height, kernel_width):
    """dw^T (taps, channels) += x grad^T over pixels and lanes, ``rows`` taps x ``columns`` vectors of output channels.

    ``grad`` comes with lanes and channels exchanged. A third faster than `build_conv2d_grad_weight` where the output
    channels fill whole vectors.
    """

    def conv2d_grad_weight_wide(arena, row, feed, step, block):
        x, grad, dw = row[1], row[2], row[3]
        channels, height, width, out, out_height, out_width = row[4], row[5], row[6], row[7], row[8], row[9]
        stride, first = row[10], row[11]
        pitch, fresh = (out + LANES - 1) // LANES * LANES, block == first
        for v0 in range(0, pitch, columns * LANES):
            v = min(v0, pitch - columns * LANES)
            for c in range(channels):
                for k in range(kernel_height):
                    for m0 in range(0, kernel_width, rows):
                        m = min(m0, kernel_width - rows)
                        acc = tile_zero(rows, columns, LANES)
                        g = grad + v
                        for i in range(out_height):
                            p = x + ((c * height + i * stride + k) * width + m) * LANES
                            for _ in range(out_width):
                                for lane in range(LANES):
                                    acc = tile_outer(acc, arena, p + lane, LANES, g, LANES)
                                    g += pitch
                                p += stride * LANES
                        at = dw + ((c * kernel_height + k) * kernel_width + m) * pitch + v
                        tile_add(acc, arena, at, pitch, LANES, m0 - m, (v0 - v) // LANES, fresh)

    return conv2d_grad_weight_wide


def build_turn():
    """y (out, taps) = x (taps, pitch) transposed, without the padding."""

    def turn(arena, row, feed, step, block):
        x, y, out, taps = row[1], row[2], row[3], row[4]
        pitch = (out + LANES - 1) // LANES * LANES
        whole = out // LANES * LANES if taps >= LANES else 0
        for i0 in range(0, taps, LANES):
            i = min(i0, taps - LANES)
            for o in range(0, whole, LANES):
                transpose(arena, x + i * pitch + o, pitch, arena, y + o * taps + i, taps)
        for o in range(whole, out):
            for i in range(taps):
                arena[y + o * taps + i] = arena[x + i * pitch + o]

    return turn


def build_pad():
    """y = x inside a border of zeros."""

    def pad(arena, row, feed, step, block):
        x, y, channels, height, width, padding = row[1], row[2], row[3], row[4], row[5], row[6]
        wide, high = width + 2 * padding, height + 2 * padding
        for c in range(channels):
            for i in range(high):
                inside = padding <= i < height + padding
                for j in range(wide):
                    at = y + ((c * high + i) * wide + j) * LANES
                    if inside and padding <= j < width + padding:
                        store(arena, at, load(arena, x + ((c * height + i - padding) * width + j - padding) * LANES))
                    else:
                        store(arena, at, splat(ZERO))

    return pad


def shapes(d):
    """Shapes of a convolution's parts; raises ValueError where the output does not follow from the input.

    The kernel's height and width, the last two numbers of the variant, are compiled in, so that their loops unroll.
    """
    kernel_height, kernel_width = d["variant"][-2:]
    high, wide = d["height"] + 2 * d.get("padding", 0), d["width"] + 2 * d.get("padding", 0)
    expected = (high - kernel_height) // d["stride"] + 1, (wide - kernel_width) // d["stride"] + 1
    if kernel_height > high or kernel_width > wide or expected != (d["out_height"], d["out_width"]):
        raise ValueError(f"output {d['out_height']}x{d['out_width']} does not follow from the input, {expected} would")
    return {
        "x": (d["channels"], d["height"], d["width"], LANES),
        "weight": (d["out"], d["channels"], kernel_height, kernel_width),
        "bias": (d["out"],),
        "y": (d["out"], d["out_height"], d["out_width"], LANES),
    }


def _grad_input_shapes(d):
    s = shapes(d)
    return {"grad": s["y"], "weight": s["weight"], "gate": s["x"], "dx": s["x"]}


def _grad_weight_shapes(d):
    s = shapes(d)
    return {"x": s["x"], "grad": s["y"], "dw": (*s["weight"], LANES)}


def _grad_weight_wide_shapes(d):
    s = shapes(d)
    taps, pitch = math.prod(s["weight"][1:]), padded(d["out"])
    return {"x": s["x"], "grad": (d["out_height"] * d["out_width"], LANES, pitch), "dw": (taps, pitch)}


def _pad_shapes(d):
    high, wide = d["height"] + 2 * d["padding"], d["width"] + 2 * d["padding"]
    return {"x": (d["channels"], d["height"], d["width"], LANES), "y": (d["channels"], high, wide, LANES)}


SIZES = ("channels", "height", "width", "out", "out_height", "out_width", "stride")
CONV2D = Instruction(
    "conv2d", build_conv2d, ("x", "weight", "bias"), ("y",), (*SIZES, "relu"), shapes,
    optional=("bias",), flags=("relu",),
)  # fmt: skip
CONV2D_GRAD_INPUT = Instruction(
    "conv2d_grad_input", build_conv2d_grad_input, ("grad", "weight", "gate"), ("dx",), (*SIZES, "padding"),
    _grad_input_shapes, optional=("gate",), flags=("padding",),
)  # fmt: skip
CONV2D_GRAD_WEIGHT = Instruction(
    "conv2d_grad_weight", build_conv2d_grad_weight, ("x", "grad"), ("dw",), (*SIZES, "first_block"),
    _grad_weight_shapes, flags=("first_block",),
)  # fmt: skip
CONV2D_GRAD_WEIGHT_WIDE = Instruction(
    "conv2d_grad_weight_wide", build_conv2d_grad_weight_wide, ("x", "grad"), ("dw",), (*SIZES, "first_block"),
    _grad_weight_wide_shapes, flags=("first_block",),
)  # fmt: skip
TURN = Instruction(
    "turn", build_turn, ("x",), ("y",), ("out", "taps"),
    lambda d: {"x": (d["taps"], padded(d["out"])), "y": (d["out"], d["taps"])},
)  # fmt: skip
PAD = Instruction("pad", build_pad, ("x",), ("y",), ("channels", "height", "width", "padding"), _pad_shapes)
