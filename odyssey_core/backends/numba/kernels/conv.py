"""Convolution: forward, and the gradient of its weight. Layout (channels, height, width, 16 lanes).

With groups, ``channels`` and ``out`` are those of one group; its channels see the input channels of their group alone.
"""

import math

import numpy as np

from odyssey_core.backends.numba.instruction import Count, Fixed, Flag, Index, instruction
from odyssey_core.backends.numba.kernels.affine import totals, transpose_lanes
from odyssey_core.backends.numba.kernels.norm import in_store
from odyssey_core.backends.numba.kernels.packed import packed, packed_size, pixels_at_once
from odyssey_core.backends.numba.lower import Fusion, Lowering, lowers
from odyssey_core.backends.numba.memory import load, store, transpose
from odyssey_core.backends.numba.operands import Operand, Place, Stage, padded
from odyssey_core.backends.numba.register_tile import (
    tile_add,
    tile_inner,
    tile_normalized,
    tile_outer,
    tile_splat,
    tile_store,
    tile_zero,
)
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.backends.numba.vector import splat
from odyssey_core.tensor import Tensor

ZERO, NO_FLOOR = np.float32(0), np.float32(-np.inf)
# Rows of output pixels summed at once in the weight's gradient: about this many pixels, so that they stay in the first
# cache. Part of the result's definition (order of additions), so it must not depend on the CPU.
CHUNK_PIXELS = 80


def shapes(d):
    """Shapes of a convolution's parts; raises ValueError where the output does not follow from the input."""
    high, wide = d["height"] + 2 * d.get("pad_height", 0), d["width"] + 2 * d.get("pad_width", 0)
    expected = (high - d["kernel_height"]) // d["stride"] + 1, (wide - d["kernel_width"]) // d["stride"] + 1
    if d["kernel_height"] > high or d["kernel_width"] > wide or expected != (d["out_height"], d["out_width"]):
        raise ValueError(f"output {d['out_height']}x{d['out_width']} does not follow from the input, {expected} would")
    groups = d.get("groups", 1)
    x = (groups * d["channels"], d["height"], d["width"], LANES)
    y = (groups * d["out"], d["out_height"], d["out_width"], LANES)
    weight = (groups * d["out"], d["channels"], d["kernel_height"], d["kernel_width"])
    return {"x": x, "y": y, "grad": y, "weight": weight, "bias": (groups * d["out"],)}


def multiply_adds(d) -> int:
    taps = d["channels"] * d["kernel_height"] * d["kernel_width"]
    return d.get("groups", 1) * d["out"] * d["out_height"] * d["out_width"] * taps


def _tiled(d, **spans):
    """As `shapes`; raises ValueError for a tile larger than what it walks over: it would start before it."""
    for size, span in spans.items():
        if not 0 < d[size] <= d[span]:
            raise ValueError(f"tile of {d[size]} {size} over {span} of {d[span]}")
    return shapes(d)


def _forward_shapes(d):
    taps = d["channels"] * d["kernel_height"] * d["kernel_width"]
    weight = packed_size(d["groups"], d["out"], taps, d["rows"]) if d["rows"] else 0
    norm = (4, padded(d["groups"] * d["out"]))
    return {**_tiled(d, rows="out", columns="out_width"), "weight": (weight,), "norm": norm}


@instruction(reads="x weight bias? norm?", writes="y", shapes=_forward_shapes, multiply_adds=multiply_adds)
def conv2d(
    memory, x, weight, bias, norm, y, channels, height, width, out, out_height, out_width, stride, groups, span,
    relu: Flag, rows: Fixed, columns: Fixed, kernel_height: Fixed, kernel_width: Fixed,
):  # fmt: skip
    """y = relu?(norm?(bias + weight * x)): tiles of ``rows`` output channels x ``columns`` pixels of a row.

    The weights of a tile, which lie as `packed` has them, are read for ``span`` pixels before the next ones are.
    """
    low = splat(ZERO if relu else NO_FLOOR)
    taps, tiles = channels * kernel_height * kernel_width, (out + rows - 1) // rows
    pitch = (groups * out + LANES - 1) // LANES * LANES
    for g in range(groups):
        for i in range(out_height):
            for s0 in range(0, out_width, span):
                for tile in range(tiles):
                    o = g * out + min(tile * rows, out - rows)
                    for j0 in range(s0, min(out_width, s0 + span), columns):
                        j = min(j0, out_width - columns)
                        acc = (
                            tile_splat(rows, columns, memory, bias + o)
                            if bias >= 0
                            else tile_zero(rows, columns, LANES)
                        )
                        q = weight + (g * tiles + tile) * taps * rows
                        p = x + ((g * channels * height + i * stride) * width + j * stride) * LANES
                        for _ in range(channels):
                            for k in range(kernel_height):
                                for m in range(kernel_width):
                                    at = p + (k * width + m) * LANES
                                    acc = tile_outer(acc, memory, q, 1, at, stride * LANES)
                                    q += rows
                            p += height * width * LANES
                        if norm >= 0:
                            acc = tile_normalized(acc, memory, norm + o, 1, pitch)
                        at = y + ((o * out_height + i) * out_width + j) * LANES
                        tile_store(acc, memory, at, out_height * out_width * LANES, LANES, low)


def _grad_weight_shapes(d):
    if d["columns"] > d["kernel_width"] or LANES % d["lanes"]:
        raise ValueError(f"tile of {d['columns']} taps x {d['lanes']} lanes over {d['kernel_width']} taps")
    s = _tiled(d, rows="out")
    return {"x": s["x"], "grad": s["y"], "dw": (*s["weight"], LANES)}


@instruction(reads="x grad", writes="dw", shapes=_grad_weight_shapes, multiply_adds=multiply_adds)
def conv2d_grad_weight(
    memory, block, x, grad, dw, channels, height, width, out, out_height, out_width, stride, groups,
    first_block: Index, rows: Fixed, columns: Fixed, lanes: Fixed, kernel_height: Fixed, kernel_width: Fixed,
):  # fmt: skip
    """dw, lane by lane, += grad * x over pixels: tiles of ``rows`` output channels x ``columns`` taps of a row.

    A tile is ``lanes`` wide, one register: tiles of whole vectors would be so small that loads hold them up, 69 GFLOP/s
    in place of 90. The lanes are summed by `totals` when all blocks are done: a sum over lanes costs as much as a row
    of pixels.
    """
    area = kernel_height * kernel_width
    plane = out_height * out_width * LANES
    chunk = max(1, CHUNK_PIXELS // out_width)
    for group in range(groups):
        for i0 in range(0, out_height, chunk):
            i1 = min(out_height, i0 + chunk)
            fresh = block == first_block and i0 == 0
            for o0 in range(0, out, rows):
                o = min(o0, out - rows)
                for t in range(channels * kernel_height):
                    c, k = group * channels + t // kernel_height, t % kernel_height
                    for m0 in range(0, kernel_width, columns):
                        m = min(m0, kernel_width - columns)
                        for lane in range(0, LANES, lanes):
                            acc = tile_zero(rows, columns, lanes)
                            for i in range(i0, i1):
                                p = x + ((c * height + i * stride + k) * width + m) * LANES + lane
                                g = grad + ((group * out + o) * out_height + i) * out_width * LANES + lane
                                for _ in range(out_width):
                                    acc = tile_inner(acc, memory, g, plane, p, LANES)
                                    p += stride * LANES
                                    g += LANES
                            at = ((group * out + o) * channels + t // kernel_height) * area + k * kernel_width + m
                            at = dw + at * LANES + lane
                            tile_add(acc, memory, at, channels * area * LANES, LANES, o0 - o, m0 - m, fresh)


def _grad_weight_wide_shapes(d):
    if d["rows"] > d["kernel_width"] or d["columns"] * LANES > padded(d["out"]):
        raise ValueError(
            f"tile of {d['rows']} taps x {d['columns']} vectors over {d['kernel_width']} taps and {d['out']} channels"
        )
    s = shapes(d)
    taps, pitch = math.prod(s["weight"][1:]), padded(d["out"])
    return {"x": s["x"], "grad": (d["out_height"] * d["out_width"], LANES, pitch), "dw": (taps, pitch)}


@instruction(reads="x grad", writes="dw", shapes=_grad_weight_wide_shapes, multiply_adds=multiply_adds)
def conv2d_grad_weight_wide(
    memory, block, x, grad, dw, channels, height, width, out, out_height, out_width, stride, first_block: Index,
    rows: Fixed, columns: Fixed, kernel_height: Fixed, kernel_width: Fixed,
):  # fmt: skip
    """dw^T (taps, channels) += x grad^T over pixels and lanes, ``rows`` taps x ``columns`` vectors of output channels.

    ``grad`` comes with lanes and channels exchanged. A third faster than `conv2d_grad_weight` where the output channels
    fill whole vectors.
    """
    pitch, fresh = (out + LANES - 1) // LANES * LANES, block == first_block
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
                                acc = tile_outer(acc, memory, p + lane, LANES, g, LANES)
                                g += pitch
                            p += stride * LANES
                    at = dw + ((c * kernel_height + k) * kernel_width + m) * pitch + v
                    tile_add(acc, memory, at, pitch, LANES, m0 - m, (v0 - v) // LANES, fresh)


def _transpose_weight_shapes(d):
    if d["first"] + d["taps"] > d["all"]:
        raise ValueError(f"taps {d['first']} to {d['first'] + d['taps']} of {d['all']}")
    return {"x": (d["taps"], padded(d["out"])), "y": (d["out"], d["all"])}


@instruction(reads="x", writes="y", shapes=_transpose_weight_shapes)
def transpose_weight(memory, x, y, out, taps, first: Index, all: Count):
    """y (out, all taps), from the ``first`` on, = x (taps, pitch) transposed, without the padding."""
    pitch = (out + LANES - 1) // LANES * LANES
    whole = out // LANES * LANES if taps >= LANES else 0
    y += first
    for i0 in range(0, taps, LANES):
        i = min(i0, taps - LANES)
        for o in range(0, whole, LANES):
            transpose(memory, x + i * pitch + o, pitch, y + o * all + i, all)
    for o in range(whole, out):
        for i in range(taps):
            memory[y + o * all + i] = memory[x + i * pitch + o]


def _pad_shapes(d):
    high, wide = d["height"] + 2 * d["pad_height"], d["width"] + 2 * d["pad_width"]
    return {"x": (d["channels"], d["height"], d["width"], LANES), "y": (d["channels"], high, wide, LANES)}


@instruction(reads="x", writes="y", shapes=_pad_shapes)
def pad(memory, x, y, channels, height, width, pad_height: Index, pad_width: Index):
    """y = x inside a border of zeros."""
    wide, high = width + 2 * pad_width, height + 2 * pad_height
    for c in range(channels):
        for i in range(high):
            inside = pad_height <= i < height + pad_height
            for j in range(wide):
                at = y + ((c * high + i) * wide + j) * LANES
                if inside and pad_width <= j < width + pad_width:
                    from_ = x + ((c * height + i - pad_height) * width + j - pad_width) * LANES
                    store(memory, at, load(memory, from_))
                else:
                    store(memory, at, splat(ZERO))


def sizes(x: tuple[int, ...], y: tuple[int, ...], node: Tensor) -> dict[str, int]:
    """A convolution's sizes from the shapes (N, C, H, W) of its input and its output."""
    groups = node.attrs["groups"]
    return {
        "channels": x[1] // groups, "height": x[2], "width": x[3], "stride": node.attrs["stride"],
        "out": y[1] // groups, "out_height": y[2], "out_width": y[3],
    }  # fmt: skip


def bordered(low: Lowering, x: Tensor, padding: tuple[int, int]) -> tuple[Operand, tuple[int, ...], Place | None]:
    """The input of a convolution inside its border of zeros, its shape, and what to release afterwards."""
    n, c, h, w = x.shape
    if not any(padding):
        return low.laned(x), x.shape, None
    shape = (n, c, h + 2 * padding[0], w + 2 * padding[1])
    place = low.temporary(math.prod(shape[1:]) * LANES)
    inside = place.shaped((*shape[1:], LANES))
    border = {"pad_height": padding[0], "pad_width": padding[1]}
    low.row(pad, x=low.laned(x), y=inside, channels=c, height=h, width=w, **border)
    return inside, shape, place


def _kernel(weight: tuple[int, ...]) -> dict[str, int]:
    return {"kernel_height": weight[2], "kernel_width": weight[3]}


@lowers("conv2d", fuses=[Fusion("normalize2d"), Fusion("relu")])
def _lower_conv2d(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, weight, *bias = node.inputs
    result = low.result(outer)
    source, shape, border = bordered(low, x, node.attrs["padding"])
    groups = node.attrs["groups"]
    rows, columns = low.tiles.outer(node.shape[1] // groups, node.shape[3])
    pixels = pixels_at_once(columns, weight.shape[1] * weight.shape[2] * node.attrs["stride"])
    low.row(
        conv2d, x=source, weight=packed(low, weight, groups, rows), bias=low.held(bias[0]) if bias else None,
        y=result.shaped((*node.shape[1:], LANES)), **sizes(shape, node.shape, node), groups=groups, span=pixels,
        rows=rows, columns=columns, **_kernel(weight.shape), **in_store(low, outer),
    )  # fmt: skip
    low.release(border)


@lowers("conv2d_grad_weight")
def _lower_grad_weight(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, grad = node.inputs
    source, shape, border = bordered(low, x, node.attrs["padding"])
    out, groups = node.shape[0], node.attrs["groups"]
    # The choice decides the order of additions, so it looks at shapes alone.
    emit = _wide if groups == 1 and 4 * padded(out) <= 5 * out else _narrow
    emit(low, node, grad, source, sizes(shape, grad.shape, node), low.result(outer))
    low.release(border)


def _narrow(low: Lowering, node: Tensor, grad: Tensor, source: Operand, of_conv: dict, result: Place) -> None:
    count, groups = math.prod(node.shape), node.attrs["groups"]
    lanes = low.sums(count * LANES)
    rows, columns, wide = low.tiles.inner(node.shape[0] // groups, node.shape[3])
    low.row(
        conv2d_grad_weight, x=source, grad=low.laned(grad), dw=lanes.shaped((*node.shape, LANES)), **of_conv,
        groups=groups, rows=rows, columns=columns, lanes=wide, **_kernel(node.shape),
    )  # fmt: skip
    summed = {"x": lanes.shaped((count, LANES)), "y": result.shaped((count,))}
    low.row(totals, **summed, count=count, stage=Stage.GROUP)


def _wide(low: Lowering, node: Tensor, grad: Tensor, source: Operand, of_conv: dict, result: Place) -> None:
    out, taps, pixels = node.shape[0], math.prod(node.shape[1:]), math.prod(grad.shape[2:])
    pitch = padded(out)
    place = low.temporary(pixels * LANES * pitch)
    exchanged = place.shaped((pixels, LANES, pitch))
    low.row(transpose_lanes, x=low.laned(grad, (out, pixels)), y=exchanged, features=out, pixels=pixels)
    sums = low.sums(taps * pitch).shaped((taps, pitch))
    rows, columns = low.tiles.outer(node.shape[3], pitch // LANES)
    low.row(
        conv2d_grad_weight_wide, x=source, grad=exchanged, dw=sums, **of_conv, rows=rows, columns=columns,
        **_kernel(node.shape),
    )  # fmt: skip
    low.row(
        transpose_weight, x=sums, y=result.shaped((out, taps)), out=out, taps=taps, first=0, all=taps, stage=Stage.GROUP
    )
    low.release(place)
