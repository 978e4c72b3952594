"""The weight's gradient where channels are many, as a product for each tap, and that of large linear layers.

What a tap sees of a few lines of pixels is copied side by side, a row for each input channel, and multiplied by the
output's gradient, whose channels are lanes: a sum of outer products over pixels and images, without lanes to add up.
"""

import math

import numpy as np

from odyssey_core.backends.numba.instruction import Fixed, Index, Repeated, instruction
from odyssey_core.backends.numba.kernels import conv, winograd_weight
from odyssey_core.backends.numba.kernels.sparse_conv import sparse_gradients
from odyssey_core.backends.numba.kernels.weight_slices import exchanged, is_large, parts
from odyssey_core.backends.numba.lower import Lowering, lowers
from odyssey_core.backends.numba.memory import load, store
from odyssey_core.backends.numba.operands import Operand, Stage, padded
from odyssey_core.backends.numba.register_tile import tile_add, tile_outer, tile_zero
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.backends.numba.vector import splat
from odyssey_core.tensor import Tensor

ZERO = np.float32(0)
# Pixels of an output line, or of several, whose products are summed in registers before they are added to memory. Part
# of the result's definition (order of additions), so it must not depend on the CPU.
PIXELS = 8


def _lines(out_width: int) -> int:
    return max(1, PIXELS // out_width)


def _panel(channels: int, out_width: int) -> tuple[int, int]:
    """Its rows lie a vector off a power of two apart."""
    return channels, (_lines(out_width) * out_width + 1) * LANES


def _shapes(d):
    shapes, pitch = conv.shapes(d), padded(d["out"])
    if not 0 < d["rows"] <= d["channels"] or not 0 < d["columns"] * LANES <= pitch:
        raise ValueError(f"tile of {d['rows']} x {d['columns']} vectors over {d['channels']} channels x {pitch}")
    grad = pitch // LANES, d["out_height"] * d["out_width"], LANES, LANES
    return {
        "x": Repeated(shapes["x"], d["blocks"], d["block_stride"]),
        "grad": Repeated(grad, d["blocks"], d["block_stride"]),
        "panel": _panel(d["channels"], d["out_width"]),
        "sums": (math.prod(shapes["weight"][1:]), pitch),
    }


@instruction(
    reads="x grad",
    writes="panel sums",
    shapes=_shapes,
    multiply_adds=lambda d: d["blocks"] * conv.multiply_adds(d),
)
def weight_product(
    memory, block, x, grad, panel, sums, channels, height, width, out, out_height, out_width, stride,
    pad_height: Index, pad_width: Index, kernel_height, kernel_width, blocks, block_stride: Index, first_block: Index,
    rows: Fixed, columns: Fixed,
):  # fmt: skip
    """sums (channels kernel height kernel width, pitch) += x grad^T over pixels and images."""
    pitch, area, pixels = (out + LANES - 1) // LANES * LANES, kernel_height * kernel_width, out_height * out_width
    lines, line = max(1, PIXELS // out_width), out_width * LANES
    across = (lines * out_width + 1) * LANES
    for first in range(0, blocks * out_height, lines):
        count = min(lines, blocks * out_height - first)
        for tap in range(area):
            k, m = tap // kernel_width - pad_height, tap % kernel_width - pad_width
            for n in range(count):
                b, i = (first + n) // out_height, (first + n) % out_height * stride + k
                j0 = (max(0, -m) + stride - 1) // stride if 0 <= i < height else out_width
                j1 = max(j0, min(out_width, (width - m + stride - 1) // stride))
                for c in range(channels):
                    at = x + b * block_stride + ((c * height + i) * width + m + j0 * stride) * LANES
                    to = panel + c * across + n * line
                    for j in range(0, j0 * LANES, LANES):
                        store(memory, to + j, splat(ZERO))
                    for j in range(j0 * LANES, j1 * LANES, LANES):
                        store(memory, to + j, load(memory, at))
                        at += stride * LANES
                    for j in range(j1 * LANES, line, LANES):
                        store(memory, to + j, splat(ZERO))
            for o0 in range(0, pitch, columns * LANES):
                o = min(o0, pitch - columns * LANES)
                for c0 in range(0, channels, rows):
                    c = min(c0, channels - rows)
                    acc = tile_zero(rows, columns, LANES)
                    for n in range(count):
                        b, i = (first + n) // out_height, (first + n) % out_height
                        right = grad + b * block_stride + (o * pixels + i * line) * LANES
                        for left in range(panel + c * across + n * line, panel + c * across + (n + 1) * line):
                            acc = tile_outer(acc, memory, left, across, right, pixels * LANES * LANES)
                            right += LANES
                    at, fresh = sums + (c * area + tap) * pitch + o, block == first_block and first == 0
                    tile_add(acc, memory, at, area * pitch, LANES, c0 - c, (o0 - o) // LANES, fresh)


def _takes(low: Lowering, node: Tensor, outer: Tensor) -> bool:
    """Whether there are channels enough, and what is not a multiple of a vector is little."""
    out, channels = node.shape[:2]
    dense = node.inputs[1] not in low.once(sparse_gradients)
    alone = node.attrs["groups"] == 1 and dense and not winograd_weight.takes(low, node, outer)
    return alone and min(out, channels) >= LANES and 4 * padded(out) <= 5 * out


def _add(low: Lowering, of_conv: dict, stage: Stage, **operands: Operand) -> None:
    """The row of `weight_product`; ``of_conv`` are its numbers."""
    channels, width = _panel(of_conv["channels"], of_conv["out_width"])
    panel = low.temporary(channels * width)
    rows, columns = low.tiles.panel(channels, padded(of_conv["out"]) // LANES)
    low.row(
        weight_product, **operands, panel=panel.shaped((channels, width)), **of_conv, rows=rows, columns=columns,
        stage=stage,
    )  # fmt: skip
    low.release(panel)


def _numbers(node: Tensor) -> dict[str, int]:
    """Of the gradient of a convolution's weight."""
    x, grad = node.inputs
    pad_height, pad_width = node.attrs["padding"]
    return {
        **conv.sizes(x.shape, grad.shape, node), "pad_height": pad_height, "pad_width": pad_width,
        "kernel_height": node.shape[2], "kernel_width": node.shape[3],
    }  # fmt: skip


@lowers("conv2d_grad_weight", when=_takes)
def _lower_grad_weight(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, grad = node.inputs
    (out, *_), taps = node.shape, math.prod(node.shape[1:])
    place = low.temporary(padded(out) * math.prod(grad.shape[2:]) * LANES)
    sums = low.sums(taps * padded(out)).shaped((taps, padded(out)))
    vectors = exchanged(low, grad, place)
    _add(low, _numbers(node), Stage.BLOCK, x=low.laned(x), grad=vectors, sums=sums)
    y = low.result(outer).shaped((out, taps))
    low.row(conv.transpose_weight, x=sums, y=y, out=out, taps=taps, first=0, all=taps, stage=Stage.GROUP)
    low.release(place)


@lowers("conv2d_grad_weight", when=lambda *given: _takes(*given) and is_large(*given[:2]), sliced=(0,))
def _lower_in_slices(low: Lowering, node: Tensor, outer: Tensor) -> None:
    numbers, area, vectors = _numbers(node), math.prod(node.shape[2:]), exchanged(low, node.inputs[1])
    for part in parts(low, node, outer, vectors):
        taps, own = part.channels * area, {"channels": part.channels, "out": part.out}
        place = low.temporary(taps * padded(part.out))
        sums = place.shaped((taps, padded(part.out)))
        grad = part.grad.shaped((padded(part.out) // LANES, *vectors.shape[1:]))
        _add(low, numbers | own, Stage.SLICE, x=part.x, grad=grad, sums=sums)
        low.row(
            conv.transpose_weight, x=sums, y=part.dw, out=part.out, taps=taps, first=part.first * area,
            all=part.dw.shape[1], stage=Stage.SLICE,
        )  # fmt: skip
        low.release(place)


@lowers("linear_grad_weight", when=lambda low, node, outer: is_large(low, node), sliced=(1,))
def _lower_linear(low: Lowering, node: Tensor, outer: Tensor) -> None:
    """As of a convolution of one pixel, whose input is the gradient: features are lanes, as they are in the weight."""
    x, grad = node.inputs
    (out, features), vectors, dw = node.shape, exchanged(low, x), low.result(outer)
    sides = dict.fromkeys(("height", "width", "out_height", "out_width", "kernel_height", "kernel_width", "stride"), 1)
    numbers = sides | {"pad_height": 0, "pad_width": 0, "out": features}
    for first, end in low.slices(out):
        count, pitch = end - first, padded(features)
        own = low.laned(grad, (out,)).place.part(first * LANES, count * LANES).shaped((count, 1, 1, LANES))
        sums = dw.part(first * pitch, count * pitch).shaped((count, pitch))
        _add(low, numbers | {"channels": count}, Stage.SLICE, x=own, grad=vectors, sums=sums)
