"""Convolutions of each channel for itself, forward and for the gradient of the input: bound by memory.

A channel is copied into a plane with a border of zeros that stays in the cache. The gradient of the input is the same
convolution of the gradient, its pixels ``stride`` apart among zeros, with the kernel turned by half a circle.
"""

import math

import numpy as np

from odyssey_core.backends.numba.instruction import Fixed, Flag, Index, instruction
from odyssey_core.backends.numba.kernels.norm import in_store
from odyssey_core.backends.numba.lower import Fusion, Lowering, lowers
from odyssey_core.backends.numba.memory import load, store
from odyssey_core.backends.numba.operands import padded
from odyssey_core.backends.numba.register_tile import (
    tile_normalized,
    tile_outer,
    tile_splat,
    tile_store,
    tile_store_where,
    tile_zero,
)
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.backends.numba.vector import splat
from odyssey_core.tensor import Tensor

ZERO, NO_FLOOR = np.float32(0), np.float32(-np.inf)


def _plane(d) -> tuple[int, int]:
    """(height, width) of what the kernel walks over."""
    return tuple((d[f"out_{side}"] - 1) * d["stride"] + d[f"kernel_{side}"] for side in ("height", "width"))


def _shapes(d):
    if not 0 < d["columns"] <= d["out_width"]:
        raise ValueError(f"tile of {d['columns']} columns over {d['out_width']}")
    y = (d["channels"], d["out_height"], d["out_width"], LANES)
    return {
        "x": (d["channels"], d["height"], d["width"], LANES), "y": y, "gate": y, "plane": (*_plane(d), LANES),
        "weight": (d["channels"], 1, d["kernel_height"], d["kernel_width"]), "bias": (d["channels"],),
        "norm": (4, padded(d["channels"])),
    }  # fmt: skip


@instruction(
    reads="x weight bias? norm? gate?",
    writes="y plane",
    shapes=_shapes,
    multiply_adds=lambda d: (
        d["channels"] * d["kernel_height"] * d["kernel_width"]
        * min(d["out_height"] * d["out_width"], d["height"] * d["width"])
    ),
)  # fmt: skip
def depthwise(
    memory, x, weight, bias, norm, gate, y, plane, channels, height, width, out_height, out_width, stride, apart,
    top: Index, left: Index, relu: Flag, columns: Fixed, kernel_height: Fixed, kernel_width: Fixed, turned: Fixed,
):  # fmt: skip
    """y = relu?(norm?(bias + weight * x)) channel by channel; 0 where the gate is closed.

    x lies in its plane from (top, left) on, its pixels ``apart`` from each other; what lies outside is left out.
    """
    low, area = splat(ZERO if relu else NO_FLOOR), kernel_height * kernel_width
    high, wide = (out_height - 1) * stride + kernel_height, (out_width - 1) * stride + kernel_width
    pitch = (channels + LANES - 1) // LANES * LANES
    for at in range(plane, plane + high * wide * LANES, LANES):
        store(memory, at, splat(ZERO))
    lines, places = (high - top + apart - 1) // apart, (wide - left + apart - 1) // apart
    for c in range(channels):
        for i in range(min(height, lines)):
            source, target = x + (c * height + i) * width * LANES, plane + ((top + i * apart) * wide + left) * LANES
            for _ in range(min(width, places)):
                store(memory, target, load(memory, source))
                source, target = source + LANES, target + apart * LANES
        for i in range(out_height):
            for j0 in range(0, out_width, columns):
                j = min(j0, out_width - columns)
                acc = tile_splat(1, columns, memory, bias + c) if bias >= 0 else tile_zero(1, columns, LANES)
                for k in range(kernel_height):
                    p = plane + ((i * stride + k) * wide + j * stride) * LANES
                    for m in range(kernel_width):
                        tap = k * kernel_width + m
                        q = weight + c * area + (area - 1 - tap if turned else tap)
                        acc = tile_outer(acc, memory, q, 1, p + m * LANES, stride * LANES)
                if norm >= 0:
                    acc = tile_normalized(acc, memory, norm + c, 1, pitch)
                at = ((c * out_height + i) * out_width + j) * LANES
                if gate >= 0:
                    tile_store_where(acc, memory, y + at, LANES, LANES, gate + at)
                else:
                    tile_store(acc, memory, y + at, LANES, LANES, low)


def _of_single_channels(low: Lowering, node: Tensor, outer: Tensor) -> bool:
    weight = node.inputs[1].shape
    return weight[:2] == (node.attrs["groups"], 1)


def _convolve(low: Lowering, x: tuple[int, ...], y: tuple[int, ...], weight: Tensor, /, **arguments) -> None:
    """The row for an input (N, C, H, W) and an output; the plane and a tile's size follow."""
    sizes = {
        "channels": x[1], "height": x[2], "width": x[3], "out_height": y[2], "out_width": y[3],
        "kernel_height": weight.shape[2], "kernel_width": weight.shape[3], "stride": arguments.pop("stride"),
    }  # fmt: skip
    shape = (*_plane(sizes), LANES)
    plane = low.temporary(math.prod(shape))
    columns = low.tiles.outer(1, y[3])[1]
    low.row(depthwise, plane=plane.shaped(shape), weight=low.held(weight), columns=columns, **sizes, **arguments)
    low.release(plane)


@lowers("conv2d", fuses=[Fusion("normalize2d"), Fusion("relu")], when=_of_single_channels)
def _lower_conv2d(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, weight, *bias = node.inputs
    top, left = node.attrs["padding"]
    _convolve(
        low, x.shape, node.shape, weight, x=low.laned(x), bias=low.held(bias[0]) if bias else None, gate=None,
        y=low.result(outer).shaped((*node.shape[1:], LANES)), stride=node.attrs["stride"], apart=1, top=top,
        left=left, turned=False, **in_store(low, outer),
    )  # fmt: skip


def _turnable(low: Lowering, node: Tensor, outer: Tensor) -> bool:
    """Whether the border of the gradient is one: padding is less than the kernel."""
    kernel = node.inputs[1].shape[2:]
    return _of_single_channels(low, node, outer) and all(
        p < k for p, k in zip(node.attrs["padding"], kernel, strict=True)
    )


@lowers("conv2d_grad_input", fuses=[Fusion("relu_grad", operand=1)], when=_turnable)
def _lower_grad_input(low: Lowering, node: Tensor, outer: Tensor) -> None:
    grad, weight = node.inputs
    top, left = (k - 1 - p for k, p in zip(weight.shape[2:], node.attrs["padding"], strict=True))
    _convolve(
        low, grad.shape, node.shape, weight, x=low.laned(grad), bias=None,
        gate=low.laned(outer.inputs[0], node.shape[1:]) if outer is not node else None,
        y=low.result(outer).shaped((*node.shape[1:], LANES)), stride=1, apart=node.attrs["stride"], top=top,
        left=left, norm=None, relu=False, turned=True,
    )  # fmt: skip
