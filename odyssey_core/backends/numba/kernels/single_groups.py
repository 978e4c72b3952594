"""Convolutions of one image whose output channels see a part of the input's, as `single` lays it out.

Each lane, an output channel, reads a channel of its own: the input comes with the channels that it is to see in its
lane. Where every channel is convolved for itself, it lies like that already.
"""

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.instruction import Fixed, Flag, instruction
from odyssey_core.backends.numba.kernels import conv
from odyssey_core.backends.numba.kernels.single import lowers_single
from odyssey_core.backends.numba.kernels.single_conv import bordered, check_tile, of_panels, panels
from odyssey_core.backends.numba.lower import Fusion
from odyssey_core.backends.numba.lower_single import SingleLowering, extent, pitch
from odyssey_core.backends.numba.register_tile import tile_inner, tile_lines, tile_store
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.backends.numba.vector import splat
from odyssey_core.tensor import Tensor

ZERO, NO_FLOOR = np.float32(0), np.float32(-np.inf)
_pitch, _extent = register_jitable(pitch), register_jitable(extent)


@instruction(
    reads="x",
    writes="y",
    shapes=lambda d: {
        "x": (extent(d["groups"] * d["channels"], d["pixels"]),),
        "y": (d["channels"], extent(d["groups"] * d["out"], d["pixels"])),
    },
)
def spread_single(memory, x, y, groups, channels, out, pixels):
    """y (channels of a group, pixels, outputs) = x (pixels, channels), each beside the ``out`` outputs of its group."""
    here, there = _pitch(groups * channels, pixels), _pitch(groups * out, pixels)
    for c in range(channels):
        for p in range(pixels):
            for g in range(groups):
                for o in range(out):
                    memory[y + p * there + g * out + o] = memory[x + p * here + g * channels + c]
        y += _extent(groups * out, pixels)


def _shapes(d):
    conv.shapes(d)
    pixels = d["out_height"] * d["out_width"]
    across = pitch(d["out"], pixels)
    check_tile({**d, "columns": 1}, across)
    if d["out"] == 1 or d["apart"] != d["stride"] * across:
        raise ValueError(f"patches of {d['out']} channels {d['apart']} apart, the stride is {d['stride']}")
    taps = d["channels"] * d["kernel_height"] * d["kernel_width"]
    return {
        "x": (d["channels"], extent(d["out"], d["height"] * d["width"])), "y": (extent(d["out"], pixels),),
        "weight": of_panels(across, taps, d["lanes"]),
    }  # fmt: skip


@instruction(reads="x weight", writes="y", shapes=_shapes, multiply_adds=conv.multiply_adds)
def grouped_single(
    memory, x, weight, y, channels, height, width, out, out_height, out_width, stride, relu: Flag,
    apart: Fixed, rows: Fixed, lanes: Fixed, kernel_height: Fixed, kernel_width: Fixed,
):  # fmt: skip
    """y = relu?(bias + weight * x), lane by lane: tiles of ``rows`` pixels of a row x a vector of channels.

    x is (channels of a group, pixels, outputs), as `spread_single` has it; ``weight`` as `panels_single` does. Two
    pixels' patches start ``apart`` elements from each other.
    """
    low, there = splat(ZERO if relu else NO_FLOOR), _pitch(out, out_height * out_width)
    plane = _extent(out, height * width)
    for v in range(0, there, lanes):
        for i in range(out_height):
            for j0 in range(0, out_width, rows):
                j = min(j0, out_width - rows)
                acc = tile_lines(rows, 1, lanes, memory, weight, 0)
                q = weight + lanes
                for c in range(channels):
                    for k in range(kernel_height):
                        p = x + c * plane + (i * stride + k) * width * there + j * apart + v
                        for _ in range(kernel_width):
                            acc = tile_inner(acc, memory, p, apart, q, lanes)
                            p += there
                            q += lanes
                tile_store(acc, memory, y + (i * out_width + j) * there + v, there, lanes, low)
        weight += (1 + channels * kernel_height * kernel_width) * lanes


@lowers_single("conv2d", fuses=[Fusion("relu")], when=lambda low, node, outer: node.attrs["groups"] > 1)
def _lower_conv2d(low: SingleLowering, node: Tensor, outer: Tensor) -> None:
    _, weight, *bias = node.inputs
    source, (total, height, width), border = bordered(low, node)
    groups, stride = node.attrs["groups"], node.attrs["stride"]
    channels, (out, out_height, out_width) = total // groups, node.shape[1:]
    size, spread = extent(out, height * width), None
    x = source.place.shaped((channels, size))
    if (channels, out) != (1, groups):
        spread = low.temporary(channels * size)
        x = spread.shaped((channels, size))
        low.row(
            spread_single, x=source, y=x, groups=groups, channels=channels, out=out // groups, pixels=height * width
        )
    across = pitch(out, out_height * out_width)
    lanes = min(across, LANES)
    rows, _ = low.tiles.pixels(out_width, 1, lanes)
    low.row(
        grouped_single, x=x, weight=panels(low, weight, bias, across, lanes), y=low.made(outer), channels=channels,
        height=height, width=width, out=out, out_height=out_height, out_width=out_width, stride=stride,
        relu=outer is not node, apart=stride * across, rows=rows, lanes=lanes, kernel_height=weight.shape[2],
        kernel_width=weight.shape[3],
    )  # fmt: skip
    low.release(spread)
    low.release(border)
