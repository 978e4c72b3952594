"""Images and convolutions' kernels with their channels innermost (NHWC, OHWI), and back.

A pixel takes ``pixel`` floats: its channels rounded up to eights, or 1 where one channel is all there is; then a vector
runs along the row. An image is rounded up to sixteen floats.
"""

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.instruction import Fixed, Index, instruction
from odyssey_core.backends.numba.memory import channels_to_lanes, lanes_to_channels, load, store
from odyssey_core.backends.numba.operands import padded
from odyssey_core.backends.numba.traced import HALF, LANES
from odyssey_core.backends.numba.vector import splat, where

ZERO = np.float32(0)


def whole(count: int) -> int:
    """The count rounded up to whole vectors of eight."""
    return -(-count // HALF) * HALF


_whole, _padded = register_jitable(whole), register_jitable(padded)


@instruction(
    reads="x",
    writes="y",
    shapes=lambda d: {
        "x": (d["channels"], d["pixels"], LANES),
        "y": (LANES, padded(d["pixels"] * whole(d["channels"]))),
    },
)
def channels_last(memory, x, y, channels, pixels):
    """y (16, image) = x (channels, pixels, 16); the last channel also fills what rounds the channels up."""
    pixel = _whole(channels)
    image = _padded(pixels * pixel)
    for p in range(pixels):
        for c in range(0, pixel, HALF):
            source = x + (c * pixels + p) * LANES
            lanes_to_channels(memory, source, pixels * LANES, channels - c, y + p * pixel + c, image)


def _channels_first_shapes(d):
    y = (d["channels"], d["height"], d["width"], LANES)
    pixels = (d["height"] + 2 * d["pad_height"]) * (d["width"] + 2 * d["pad_width"])
    return {"x": (LANES, padded(pixels * whole(d["channels"]))), "gate": y, "y": y}


@instruction(reads="x gate?", writes="y", shapes=_channels_first_shapes)
def channels_first(memory, x, gate, y, channels, height, width, pad_height: Index, pad_width: Index):
    """y (channels, height, width, 16) = x (16, ...), without its border; 0 where the gate is closed."""
    pixel, across = _whole(channels), width + 2 * pad_width
    image = _padded((height + 2 * pad_height) * across * pixel)
    plane = height * width * LANES
    for i in range(height):
        for j in range(width):
            for c in range(0, pixel, HALF):
                source = x + ((i + pad_height) * across + j + pad_width) * pixel + c
                target = y + c * plane + (i * width + j) * LANES
                channels_to_lanes(memory, source, image, target, plane, channels - c)
    if gate >= 0:
        for i in range(0, channels * plane, LANES):
            kept = where(load(memory, gate + i) > ZERO, load(memory, y + i), splat(ZERO))
            store(memory, y + i, kept)


def _kernel_shapes(d):
    """A kernel both ways round: with its channels first, as a parameter lies, and last."""
    pixel = d.get("pixel", whole(d["channels"]))
    if pixel != whole(d["channels"]) and not pixel == d["channels"] == 1:
        raise ValueError(f"pixels of {pixel} floats for {d['channels']} channels")
    last = (d["out"], d["kernel_height"], whole(d["kernel_width"] * pixel))
    return {"first": (d["out"], d["channels"], d["kernel_height"], d["kernel_width"]), "last": last}


@instruction(reads="first", writes="last", shapes=_kernel_shapes)
def kernel_last(
    memory, block, first, last, channels, out, first_block: Index, kernel_height: Fixed, kernel_width: Fixed
):
    """last (out, kernel height, line) = the kernel with its channels last: once for all blocks of a group."""
    pixel = _whole(channels)
    line = kernel_width * pixel
    if block == first_block:
        for o in range(out):
            for c in range(pixel):
                q = first + (o * channels + min(c, channels - 1)) * kernel_height * kernel_width
                for k in range(kernel_height):
                    p = last + (o * kernel_height + k) * line + c
                    for m in range(kernel_width):
                        memory[p + m * pixel] = memory[q + k * kernel_width + m]


@instruction(reads="last", writes="first", shapes=_kernel_shapes)
def kernel_first(memory, last, first, channels, out, pixel, kernel_height: Fixed, kernel_width: Fixed):
    """first (out, channels, kernel height, kernel width) = last (out, kernel height, line), its channels last."""
    line = _whole(kernel_width * pixel)
    for o in range(out):
        for c in range(channels):
            q = first + (o * channels + c) * kernel_height * kernel_width
            for k in range(kernel_height):
                p = last + (o * kernel_height + k) * line + c
                for m in range(kernel_width):
                    memory[q + k * kernel_width + m] = memory[p + m * pixel]
