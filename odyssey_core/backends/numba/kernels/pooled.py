"""Gradients of a convolution that a max-pool follows, without the zeros.

The pool's gradient has one value for each window, and none where relu was closed: of LeNet-5's second convolution one
place in fifteen is left once it has learnt something. Those are listed, and each is multiplied twice: by the patch of
the input that it came from, for the weight's gradient, and by the kernel, for the input's.

What is alive differs from image to image, so a vector holds no images but channels, eight at a time: an image lies
channels innermost (NHWC), a kernel likewise (OHWI). A pixel takes ``pixel`` floats: its channels rounded up to eights,
or 1 where one channel is all there is; then a vector runs along the row. An image is rounded up to sixteen floats.
"""

import numpy as np
from numba import njit

from odyssey_core.backends.numba.kernels import conv, pool
from odyssey_core.backends.numba.simd import (
    HALF,
    LANES,
    channels_to_lanes,
    lanes_to_channels,
    load,
    push,
    set_unsigned,
    splat,
    store,
    store_pairs,
    u_add,
    u_insert,
    u_splat,
    u_where_equal,
    unsigned_at,
    where_greater,
)
from odyssey_core.backends.numba.table import Instruction, padded
from odyssey_core.backends.numba.tile import add_scaled, tile_add, tile_scaled, tile_zero

ZERO = np.float32(0)
# Images whose values stand in one list, so that they stay in the first cache while a kernel's rows are summed over it.
# Part of the result's definition (order of additions), so it must not depend on the CPU.
IMAGES = 4
LISTS = LANES // IMAGES


def whole(count: int) -> int:
    """The count rounded up to whole vectors of eight."""
    return -(-count // HALF) * HALF


_whole, _padded = njit(whole), njit(padded)


def build_max_pool2d_switches(size, kernel_height, kernel_width):
    """The gradient of each window's first maximum, and lists of those that are not 0 with the places they came from.

    Nothing is paid where gated and the maximum is not above 0. A place is where the patch starts that the convolution,
    of a kernel so large, saw of its images. There is a list for each ``IMAGES`` images and channel. "Switches" as in
    Zeiler and Fergus, 2014, section 2.1.
    """

    def max_pool2d_switches(arena, row, feed, step, block):
        x, y, grad, values, pairs, counts, entries = row[1], row[2], row[3], row[4], row[5], row[6], row[7]
        channels, height, width, out_height, out_width = row[8], row[9], row[10], row[11], row[12]
        stride, gated, image_height, image_width, pixel = row[13], row[14], row[15], row[16], row[17]
        image = _padded(image_height * image_width * pixel)
        down, across = image_width * pixel * row[18], pixel * row[18]
        floor = splat(ZERO if gated else np.float32(-np.inf))
        windows = out_height * out_width * LANES
        starts = u_splat(np.uint32(0))
        for lane in range(LANES):
            starts = u_insert(starts, lane, np.uint32(lane * image))
        for c in range(channels):
            for i in range(out_height):
                for j in range(out_width):
                    at = x + ((c * height + i * stride) * width + j * stride) * LANES
                    window = (i * out_width + j) * LANES
                    best, paid = load(arena, y + c * windows + window), load(arena, grad + c * windows + window)
                    paid = where_greater(best, floor, paid, splat(ZERO))
                    place = u_splat(np.uint32(0))
                    for t in range(size * size - 1, -1, -1):  # backwards: the first maximum has the last word
                        k, m = t // size, t % size
                        here = u_splat(np.uint32(k * down + m * across))
                        place = u_where_equal(load(arena, at + (k * width + m) * LANES), best, here, place)
                    start = u_splat(np.uint32(i * stride * down + j * stride * across))
                    store(arena, values + c * windows + window, paid)
                    store_pairs(arena, pairs + 2 * window, paid, u_add(place, u_add(starts, start)))
            for part in range(LISTS):
                target = entries + (part * channels + c) * 2 * IMAGES * out_height * out_width
                n = 0
                for window in range(part * IMAGES, windows, LANES):
                    for lane in range(window, window + IMAGES):
                        n += push(arena, pairs + 2 * lane, target + 2 * n)
                set_unsigned(arena, counts + part * channels + c, n)

    return max_pool2d_switches


def build_channels_last():
    """y (16, image) = x (channels, pixels, 16); the last channel also fills what rounds the channels up."""

    def channels_last(arena, row, feed, step, block):
        x, y, channels, pixels = row[1], row[2], row[3], row[4]
        pixel = _whole(channels)
        image = _padded(pixels * pixel)
        for p in range(pixels):
            for c in range(0, pixel, HALF):
                source = x + (c * pixels + p) * LANES
                lanes_to_channels(arena, source, pixels * LANES, channels - c, y + p * pixel + c, image)

    return channels_last


def build_channels_first():
    """y (channels, height, width, 16) = x (16, ...), without its border of ``padding``; 0 where the gate is closed."""

    def channels_first(arena, row, feed, step, block):
        x, gate, y = row[1], row[2], row[3]
        channels, height, width, padding = row[4], row[5], row[6], row[7]
        pixel, across = _whole(channels), width + 2 * padding
        image = _padded((height + 2 * padding) * across * pixel)
        plane = height * width * LANES
        for i in range(height):
            for j in range(width):
                for c in range(0, pixel, HALF):
                    source = x + ((i + padding) * across + j + padding) * pixel + c
                    target = y + c * plane + (i * width + j) * LANES
                    channels_to_lanes(arena, source, image, target, plane, channels - c)
        if gate >= 0:
            for i in range(0, channels * plane, LANES):
                kept = where_greater(load(arena, gate + i), splat(ZERO), load(arena, y + i), splat(ZERO))
                store(arena, y + i, kept)

    return channels_first


def build_kernel_last(kernel_height, kernel_width):
    """y (out, kernel height, line) = the kernel with its channels last: once for all blocks of a group."""

    def kernel_last(arena, row, feed, step, block):
        weight, y, channels, out, first = row[1], row[2], row[3], row[4], row[5]
        pixel = _whole(channels)
        line = kernel_width * pixel
        if block == first:
            for o in range(out):
                for c in range(pixel):
                    q = weight + (o * channels + min(c, channels - 1)) * kernel_height * kernel_width
                    for k in range(kernel_height):
                        p = y + (o * kernel_height + k) * line + c
                        for m in range(kernel_width):
                            arena[p + m * pixel] = arena[q + k * kernel_width + m]

    return kernel_last


def build_kernel_first(kernel_height, kernel_width):
    """y (out, channels, kernel height, kernel width) = x (out, kernel height, line), whose channels stand last."""

    def kernel_first(arena, row, feed, step, block):
        x, y, channels, out, pixel = row[1], row[2], row[3], row[4], row[5]
        line = _whole(kernel_width * pixel)
        for o in range(out):
            for c in range(channels):
                q = y + (o * channels + c) * kernel_height * kernel_width
                for k in range(kernel_height):
                    p = x + (o * kernel_height + k) * line + c
                    for m in range(kernel_width):
                        arena[q + k * kernel_width + m] = arena[p + m * pixel]

    return kernel_first


def build_pooled_grad_weight(columns, first_row, end_row, kernel_height, kernel_width):
    """dw (out, kernel height, line) += each listed value * the patch of the image that it came from.

    For the kernel's rows from ``first_row`` to ``end_row``, in tiles of all of them x ``columns`` vectors.
    """
    rows = end_row - first_row

    def pooled_grad_weight(arena, row, feed, step, block):
        x, counts, entries, dw = row[1], row[2], row[3], row[4]
        out, windows, height, width, pixel, first = row[5], row[6], row[7], row[8], row[9], row[10]
        line, vectors = width * pixel, _whole(kernel_width * pixel) // HALF
        image, most = _padded(height * line), IMAGES * windows
        last = LANES * image + LANES - (kernel_height - 1) * line - vectors * HALF
        for part in range(LISTS):
            for o in range(out):
                count = min(unsigned_at(arena, counts + part * out + o), most)
                value = entries + (part * out + o) * 2 * most
                for v0 in range(0, vectors, columns):
                    v = min(v0, vectors - columns)
                    acc, shift = tile_zero(rows, columns, HALF), x + first_row * line + v * HALF
                    for e in range(value, value + 2 * count, 2):
                        place = min(unsigned_at(arena, e + 1), last)
                        acc = tile_scaled(acc, arena, e, shift + place, line)
                    at = dw + ((o * kernel_height + first_row) * vectors + v) * HALF
                    tile_add(acc, arena, at, vectors * HALF, HALF, 0, v0 - v, block == first and part == 0)

    return pooled_grad_weight


def build_pooled_grad_input(kernel_height, kernel_width):
    """dx (16, image): to the patch that each listed value came from, value * kernel is added."""

    def pooled_grad_input(arena, row, feed, step, block):
        counts, entries, weight, dx = row[1], row[2], row[3], row[4]
        out, windows, height, width, pixel = row[5], row[6], row[7], row[8], row[9]
        line, vectors = width * pixel, kernel_width * pixel // HALF
        image, most = _padded(height * line), IMAGES * windows
        last = LANES * image - (kernel_height - 1) * line - vectors * HALF
        pool.clear(arena, dx, image)
        for part in range(LISTS):
            for o in range(out):
                count = min(unsigned_at(arena, counts + part * out + o), most)
                value = entries + (part * out + o) * 2 * most
                for v in range(0, vectors, kernel_width):
                    q = weight + (o * kernel_height * vectors + v) * HALF
                    for e in range(value, value + 2 * count, 2):
                        p = dx + min(unsigned_at(arena, e + 1), last) + v * HALF
                        add_scaled(kernel_height, kernel_width, HALF, arena, e, q, vectors * HALF, p, line)

    return pooled_grad_input


def lists(out: int, windows: int) -> dict[str, tuple[int, ...]]:
    """Shapes of how many are listed, and of the lists: pairs of a value and its place."""
    return {"counts": (padded(LISTS * out),), "entries": (LISTS, out, IMAGES * windows, 2)}


def _image(d) -> int:
    """Floats of an image, channels last; raises ValueError for pixels that are neither one float nor whole vectors."""
    if d["pixel"] > 1 and d["pixel"] % HALF:
        raise ValueError(f"pixels of {d['pixel']} floats")
    return padded(d["height"] * d["width"] * d["pixel"])


def _switches_shapes(d):
    size, *kernel = d["variant"]
    shapes = pool.shapes({**d, "variant": (size,)})
    image = {"height": d["image_height"], "width": d["image_width"], "stride": d["conv_stride"], "pixel": d["pixel"]}
    seen = {"out": d["channels"], "out_height": d["height"], "out_width": d["width"], "channels": 1}
    conv.shapes({**image, **seen, "variant": kernel})
    _image(image)
    windows = d["out_height"], d["out_width"]
    gradient = {"grad": shapes["y"], "values": shapes["y"], "pairs": (*windows, LANES, 2)}
    return {"x": shapes["x"], "y": shapes["y"], **gradient, **lists(d["channels"], windows[0] * windows[1])}


def _channels_last_shapes(d):
    image = padded(d["pixels"] * whole(d["channels"]))
    return {"x": (d["channels"], d["pixels"], LANES), "y": (LANES, image)}


def _channels_first_shapes(d):
    y = (d["channels"], d["height"], d["width"], LANES)
    pixels = (d["height"] + 2 * d["padding"]) * (d["width"] + 2 * d["padding"])
    return {"x": (LANES, padded(pixels * whole(d["channels"]))), "gate": y, "y": y}


def _kernel_shapes(d):
    """A kernel both ways round: with its channels first, as a parameter lies, and last."""
    kernel_height, kernel_width = d["variant"]
    pixel = d.get("pixel", whole(d["channels"]))
    if pixel != whole(d["channels"]) and not pixel == d["channels"] == 1:
        raise ValueError(f"pixels of {pixel} floats for {d['channels']} channels")
    last = (d["out"], kernel_height, whole(kernel_width * pixel))
    return {"first": (d["out"], d["channels"], kernel_height, kernel_width), "last": last}


def _patches(d, kernel: str) -> dict[str, tuple[int, ...]]:
    """Shapes of lists and of a kernel that lies as images do; raises ValueError where it does not fit into them."""
    kernel_height, kernel_width = d["variant"][-2:]
    if kernel_height > d["height"] or kernel_width > d["width"]:
        raise ValueError(f"kernel {kernel_height}x{kernel_width} in images of {d['height']}x{d['width']}")
    return {**lists(d["out"], d["windows"]), kernel: (d["out"], kernel_height, whole(kernel_width * d["pixel"]))}


def _grad_weight_shapes(d):
    # One channel's vectors reach over the end of the last image, never by a whole one.
    return {"x": (LANES * _image(d) + LANES,), **_patches(d, "dw")}


def _grad_input_shapes(d):
    if d["pixel"] == 1:
        raise ValueError("pixels of one float are no whole vectors")
    return {**_patches(d, "weight"), "dx": (LANES, _image(d))}


MAX_POOL2D_SWITCHES = Instruction(
    "max_pool2d_switches", build_max_pool2d_switches, ("x", "y", "grad"), ("values", "pairs", "counts", "entries"),
    (*pool.SIZES, "gated", "image_height", "image_width", "pixel", "conv_stride"), _switches_shapes,
    flags=("gated",),
)  # fmt: skip
CHANNELS_LAST = Instruction(
    "channels_last", build_channels_last, ("x",), ("y",), ("channels", "pixels"), _channels_last_shapes
)
CHANNELS_FIRST = Instruction(
    "channels_first", build_channels_first, ("x", "gate"), ("y",), ("channels", "height", "width", "padding"),
    _channels_first_shapes, optional=("gate",), flags=("padding",),
)  # fmt: skip
KERNEL_LAST = Instruction(
    "kernel_last", build_kernel_last, ("first",), ("last",), ("channels", "out", "first_block"), _kernel_shapes,
    flags=("first_block",),
)  # fmt: skip
KERNEL_FIRST = Instruction(
    "kernel_first", build_kernel_first, ("last",), ("first",), ("channels", "out", "pixel"), _kernel_shapes
)
SIZES = ("out", "windows", "height", "width", "pixel")
POOLED_GRAD_WEIGHT = Instruction(
    "pooled_grad_weight", build_pooled_grad_weight, ("x", "counts", "entries"), ("dw",), (*SIZES, "first_block"),
    _grad_weight_shapes, flags=("first_block",),
)  # fmt: skip
POOLED_GRAD_INPUT = Instruction(
    "pooled_grad_input", build_pooled_grad_input, ("counts", "entries", "weight"), ("dx",), SIZES, _grad_input_shapes
)
