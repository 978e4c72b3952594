"""Gradients of a convolution that a max-pool follows, without the zeros.

The pool's gradient has one value for each window, and none where relu was closed: of LeNet-5's second convolution one
place in fifteen is left once it has learnt something. Those are listed, and each is multiplied twice: by the patch of
the input that it came from, for the weight's gradient, and by the kernel, for the input's.

What is alive differs from image to image, so a vector holds no images but channels, eight at a time, as in
`channels_last`.
"""

import math
from typing import NamedTuple

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.instruction import Fixed, Flag, Index, instruction
from odyssey_core.backends.numba.kernels import conv, pool
from odyssey_core.backends.numba.kernels.affine import add_grad_bias, transpose_lanes
from odyssey_core.backends.numba.kernels.channels_last import (
    channels_first,
    channels_last,
    kernel_first,
    kernel_last,
    whole,
)
from odyssey_core.backends.numba.lower import Lowering, lowers
from odyssey_core.backends.numba.memory import (
    load,
    push,
    set_word,
    store,
    store_pairs,
    word_at,
)
from odyssey_core.backends.numba.operands import Operand, Stage, padded, share
from odyssey_core.backends.numba.register_tile import add_scaled, tile_add, tile_scaled, tile_zero
from odyssey_core.backends.numba.traced import HALF, LANES
from odyssey_core.backends.numba.vector import insert, splat, where, words
from odyssey_core.backends.numba.winograd_tile import takes
from odyssey_core.ops.affine import GRAD_BIAS
from odyssey_core.ops.conv import GRAD_INPUT, GRAD_WEIGHT
from odyssey_core.ops.pool import MAX_POOL2D_GRAD
from odyssey_core.tensor import Tensor

ZERO, NO_FLOOR = np.float32(0), np.float32(-np.inf)
# Images whose values stand in one list, so that they stay in the first cache while a kernel's rows are summed over it.
# Part of the result's definition (order of additions), so it must not depend on the CPU.
IMAGES = 4
LISTS = LANES // IMAGES


_whole, _padded = register_jitable(whole), register_jitable(padded)


def _listed(out: int, windows: int) -> dict[str, tuple[int, ...]]:
    """Shapes of how many are listed, and of the lists: pairs of a value and its place."""
    return {"counts": (padded(LISTS * out),), "entries": (LISTS, out, IMAGES * windows, 2)}


def _image(d) -> int:
    """Floats of an image, channels last; raises ValueError for pixels that are neither one float nor whole vectors."""
    if d["pixel"] > 1 and d["pixel"] % HALF:
        raise ValueError(f"pixels of {d['pixel']} floats")
    return padded(d["height"] * d["width"] * d["pixel"])


def _argmax_shapes(d):
    shapes = pool.shapes(d)
    image = {"height": d["image_height"], "width": d["image_width"], "stride": d["conv_stride"], "pixel": d["pixel"]}
    seen = {"out": d["channels"], "out_height": d["height"], "out_width": d["width"], "channels": 1}
    conv.shapes({**image, **seen, "kernel_height": d["kernel_height"], "kernel_width": d["kernel_width"]})
    _image(image)
    windows = d["out_height"], d["out_width"]
    gradient = {"grad": shapes["y"], "values": shapes["y"], "pairs": (*windows, LANES, 2)}
    return {"x": shapes["x"], "y": shapes["y"], **gradient, **_listed(d["channels"], windows[0] * windows[1])}


@instruction(reads="x y grad", writes="values pairs counts entries", shapes=_argmax_shapes)
def max_pool2d_argmax(
    memory, x, y, grad, values, pairs, counts, entries, channels, height, width, out_height, out_width, stride,
    gated: Flag, image_height, image_width, pixel, conv_stride, size: Fixed, kernel_height: Fixed, kernel_width: Fixed,
):  # fmt: skip
    """The gradient of each window's first maximum, and lists of those that are not 0 with the places they came from.

    Nothing is listed where gated and the maximum is not above 0. A place is where the patch starts that the
    convolution, of a kernel so large, saw of its images. There is a list for each ``IMAGES`` images and channel.
    """
    image = _padded(image_height * image_width * pixel)
    down, across = image_width * pixel * conv_stride, pixel * conv_stride
    floor = splat(ZERO if gated else NO_FLOOR)
    windows = out_height * out_width * LANES
    starts = words(0)
    for lane in range(LANES):
        starts = insert(starts, lane, lane * image)
    for c in range(channels):
        for i in range(out_height):
            for j in range(out_width):
                at = x + ((c * height + i * stride) * width + j * stride) * LANES
                window = (i * out_width + j) * LANES
                best, routed = load(memory, y + c * windows + window), load(memory, grad + c * windows + window)
                routed = where(best > floor, routed, splat(ZERO))
                place = words(0)
                for t in range(size * size - 1, -1, -1):  # backwards: the first maximum has the last word
                    k, m = t // size, t % size
                    here = words(k * down + m * across)
                    place = where(load(memory, at + (k * width + m) * LANES) == best, here, place)
                start = words(i * stride * down + j * stride * across)
                store(memory, values + c * windows + window, routed)
                store_pairs(memory, pairs + 2 * window, routed, place + (starts + start))
        for part in range(LISTS):
            target = entries + (part * channels + c) * 2 * IMAGES * out_height * out_width
            n = 0
            for window in range(part * IMAGES, windows, LANES):
                for lane in range(window, window + IMAGES):
                    n += push(memory, pairs + 2 * lane, target + 2 * n)
            set_word(memory, counts + part * channels + c, n)


def _patches(d, kernel: str) -> dict[str, tuple[int, ...]]:
    """Shapes of lists and of a kernel that lies as images do; raises ValueError where it does not fit into them."""
    if d["kernel_height"] > d["height"] or d["kernel_width"] > d["width"]:
        raise ValueError(f"kernel {d['kernel_height']}x{d['kernel_width']} in images of {d['height']}x{d['width']}")
    line = whole(d["kernel_width"] * d["pixel"])
    return {**_listed(d["out"], d["windows"]), kernel: (d["out"], d["kernel_height"], line)}


def _grad_weight_shapes(d):
    columns, high, wide = d["columns"], d["kernel_height"], d["kernel_width"]
    if not 0 <= d["first_row"] < d["first_row"] + d["rows"] <= high or columns * HALF > wide * d["pixel"] + HALF - 1:
        rows = f"{d['rows']} rows from {d['first_row']} on"
        raise ValueError(f"{rows} by {columns} vectors of a kernel {high}x{wide} of {d['pixel']} floats")
    # One channel's vectors reach over the end of the last image, never by a whole one.
    return {"x": (LANES * _image(d) + LANES,), **_patches(d, "dw")}


@instruction(reads="x counts entries", writes="dw", shapes=_grad_weight_shapes)
def sparse_grad_weight(
    memory, block, x, counts, entries, dw, out, windows, height, width, pixel, first_block: Index, columns: Fixed,
    first_row: Fixed, rows: Fixed, kernel_height: Fixed, kernel_width: Fixed,
):  # fmt: skip
    """dw (out, kernel height, line) += each listed value * the patch of the image that it came from.

    For ``rows`` rows of the kernel from ``first_row`` on, in tiles of all of them x ``columns`` vectors.
    """
    line, vectors = width * pixel, _whole(kernel_width * pixel) // HALF
    image, most = _padded(height * line), IMAGES * windows
    last = LANES * image + LANES - (kernel_height - 1) * line - vectors * HALF
    for part in range(LISTS):
        for o in range(out):
            count = min(word_at(memory, counts + part * out + o), most)
            value = entries + (part * out + o) * 2 * most
            for v0 in range(0, vectors, columns):
                v = min(v0, vectors - columns)
                acc, shift = tile_zero(rows, columns, HALF), x + first_row * line + v * HALF
                for e in range(value, value + 2 * count, 2):
                    place = min(word_at(memory, e + 1), last)
                    acc = tile_scaled(acc, memory, e, shift + place, line)
                at = dw + ((o * kernel_height + first_row) * vectors + v) * HALF
                tile_add(acc, memory, at, vectors * HALF, HALF, 0, v0 - v, block == first_block and part == 0)


def _grad_input_shapes(d):
    if d["pixel"] == 1:
        raise ValueError("pixels of one float are no whole vectors")
    return {**_patches(d, "weight"), "dx": (LANES, _image(d))}


@instruction(reads="counts entries weight", writes="dx", shapes=_grad_input_shapes)
def sparse_grad_input(
    memory, counts, entries, weight, dx, out, windows, height, width, pixel, kernel_height: Fixed, kernel_width: Fixed
):
    """dx (16, image): to the patch that each listed value came from, value * kernel is added."""
    line, vectors = width * pixel, kernel_width * pixel // HALF
    image, most = _padded(height * line), IMAGES * windows
    last = LANES * image - (kernel_height - 1) * line - vectors * HALF
    for at in range(dx, dx + LANES * image, LANES):
        store(memory, at, splat(ZERO))
    for part in range(LISTS):
        for o in range(out):
            count = min(word_at(memory, counts + part * out + o), most)
            value = entries + (part * out + o) * 2 * most
            for v in range(0, vectors, kernel_width):
                q = weight + (o * kernel_height * vectors + v) * HALF
                for e in range(value, value + 2 * count, 2):
                    p = dx + min(word_at(memory, e + 1), last) + v * HALF
                    add_scaled(kernel_height, kernel_width, HALF, memory, e, q, vectors * HALF, p, line)


class Patches(NamedTuple):
    """How the images lie whose patches a convolution saw that a max-pool follows.

    Attributes:
        windows: (output channels, height, width) of what the pool leaves.
        kernel: (height, width) of the convolution's.
        stride: of the convolution.
        height, width: of an image, its border of zeros included.
        pixel: floats that a pixel takes.
    """

    windows: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: int
    height: int
    width: int
    pixel: int


def sparse_gradients(low: Lowering) -> dict[Tensor, Patches]:
    """Gradients of max-pools that only a convolution's gradients read, and that are zero in most places.

    Three quarters is most: from there on a list of what is not zero costs less than the zeros, but for a convolution
    that is Winograd's: there the zeros cost a quarter, and 64 to 512 channels are three to four times as fast.
    """
    readers: dict[Tensor, list[Tensor]] = {}
    for node in low.order:
        for x in node.inputs:
            readers.setdefault(x, []).append(node)
    found = {}
    for node in low.order:
        if node.op is MAX_POOL2D_GRAD and not node.attrs["padding"]:
            grad, (x, y, _) = low.fused.get(node, node), node.inputs
            reading = readers.get(grad, [])
            convolutions = [r for r in reading if r.op in (GRAD_WEIGHT, GRAD_INPUT)]
            patches = {_patches_of(y, r) for r in convolutions}
            rare = 4 * math.prod(y.shape[2:]) <= math.prod(x.shape[2:])
            alone = low.uses[grad] == len(reading) and {r.op for r in reading} <= {GRAD_WEIGHT, GRAD_INPUT, GRAD_BIAS}
            weights = [r if r.op is GRAD_WEIGHT else r.inputs[1] for r in convolutions]
            direct = all(
                r.attrs["groups"] == 1 and not takes(x.shape, weight.shape, r.attrs)
                for r, weight in zip(convolutions, weights, strict=True)
            )
            if rare and alone and direct and len({p._replace(pixel=whole(p.pixel)) for p in patches}) == 1:
                found[grad] = max(patches, key=lambda p: p.pixel)
    return found


def _patches_of(pooled: Tensor, reader: Tensor) -> Patches:
    """How the images lie for one of the convolution's two gradients."""
    weights = reader.op is GRAD_WEIGHT
    _, channels, height, width = (reader.inputs[0] if weights else reader).shape
    kernel = (reader if weights else reader.inputs[1]).shape[2:]
    high, wide = reader.attrs["padding"]
    # An input's gradient is added to in whole vectors, one channel's too.
    pixel = 1 if weights and channels == 1 else whole(channels)
    return Patches(pooled.shape[1:], kernel, reader.attrs["stride"], height + 2 * high, width + 2 * wide, pixel)


def _parts(patches: Patches) -> dict[str, tuple[int, ...]]:
    """Shapes of what is kept of a sparse gradient, one after the other."""
    out, *windows = patches.windows
    return {"values": (out, *windows, LANES), **_listed(out, math.prod(windows))}


def _lists(low: Lowering, grad: Tensor) -> dict[str, Operand]:
    place, operands, start = low.places[grad], {}, 0
    for name, shape in _parts(low.once(sparse_gradients)[grad]).items():
        operands[name] = place.part(start, math.prod(shape)).shaped(shape)
        start += math.prod(shape)
    return operands


def _over_lists(low: Lowering, grad: Tensor) -> dict[str, Operand | int]:
    """The arguments of a row over the lists of a sparse gradient and the images that its convolution saw."""
    patches, lists = low.once(sparse_gradients)[grad], _lists(low, grad)
    out, *windows = patches.windows
    return {
        "counts": lists["counts"], "entries": lists["entries"], "out": out, "windows": math.prod(windows),
        "height": patches.height, "width": patches.width, "pixel": patches.pixel,
        "kernel_height": patches.kernel[0], "kernel_width": patches.kernel[1],
    }  # fmt: skip


@lowers("max_pool2d_grad", when=lambda low, node, outer: outer in low.once(sparse_gradients))
def _lower_argmax(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, y, grad = node.inputs
    patches, windows = low.once(sparse_gradients)[outer], y.shape[2:]
    low.result(outer, size=sum(math.prod(shape) for shape in _parts(patches).values()))
    pairs = low.temporary(2 * math.prod(windows) * LANES)
    low.row(
        max_pool2d_argmax, x=low.laned(x), y=low.laned(y), grad=low.laned(grad, y.shape[1:]), **_lists(low, outer),
        pairs=pairs.shaped((*windows, LANES, 2)), **pool.sizes(x, y, node), gated=outer is not node,
        image_height=patches.height, image_width=patches.width, pixel=patches.pixel, conv_stride=patches.stride,
        kernel_height=patches.kernel[0], kernel_width=patches.kernel[1],
    )  # fmt: skip
    low.release(pairs)


@lowers("grad_bias", when=lambda low, node, outer: node.inputs[0] in low.once(sparse_gradients))
def _lower_grad_bias(low: Lowering, node: Tensor, outer: Tensor) -> None:
    (grad,) = node.inputs
    add_grad_bias(low, outer, _lists(low, grad)["values"], grad.shape[1])


@lowers("conv2d_grad_weight", when=lambda low, node, outer: node.inputs[1] in low.once(sparse_gradients))
def _lower_grad_weight(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, grad = node.inputs
    source, _, border = conv.bordered(low, x, node.attrs["padding"])
    (out, channels, *kernel), patches = node.shape, low.once(sparse_gradients)[grad]
    result, pixel, pixels = low.result(outer), patches.pixel, patches.height * patches.width
    image = padded(pixels * pixel)
    images = low.temporary(LANES * image + LANES)
    if pixel == 1:
        exchanged = {"x": source.place.shaped((pixels, 1, LANES)), "y": images.shaped((1, LANES, image))}
        low.row(transpose_lanes, **exchanged, features=pixels, pixels=1)
    else:
        exchanged = {"x": source.place.shaped((channels, pixels, LANES)), "y": images.shaped((LANES, image))}
        low.row(channels_last, **exchanged, channels=channels, pixels=pixels)
    last = (out, kernel[0], whole(kernel[1] * pixel))
    sums = low.sums(math.prod(last)).shaped(last)
    rows, columns = low.tiles.patch(kernel[0], last[2] // HALF)
    parts = -(-kernel[0] // rows)
    for part in range(parts):
        first_row, end_row = share(kernel[0], parts, part)
        low.row(
            sparse_grad_weight, x=images.shaped((images.size,)), dw=sums, **_over_lists(low, grad), columns=columns,
            first_row=first_row, rows=end_row - first_row,
        )  # fmt: skip
    low.row(
        kernel_first, last=sums, first=result.shaped(node.shape), channels=channels, out=out, pixel=pixel,
        kernel_height=kernel[0], kernel_width=kernel[1], stage=Stage.GROUP,
    )  # fmt: skip
    low.release(images)
    low.release(border)


@lowers("conv2d_grad_input", when=lambda low, node, outer: node.inputs[0] in low.once(sparse_gradients))
def _lower_grad_input(low: Lowering, node: Tensor, outer: Tensor) -> None:
    grad, weight = node.inputs
    (out, channels, *kernel), patches = weight.shape, low.once(sparse_gradients)[grad]
    last = (out, kernel[0], kernel[1] * patches.pixel)
    reordered = low.sums(math.prod(last)).shaped(last)
    sizes = {"channels": channels, "out": out, "kernel_height": kernel[0], "kernel_width": kernel[1]}
    low.row(kernel_last, first=low.held(weight), last=reordered, **sizes)
    image, (_, _, height, width) = padded(patches.height * patches.width * patches.pixel), node.shape
    result, images = low.result(outer), low.temporary(LANES * image)
    dx = images.shaped((LANES, image))
    low.row(sparse_grad_input, **_over_lists(low, grad), weight=reordered, dx=dx)
    pad_height, pad_width = node.attrs["padding"]
    low.row(
        channels_first, x=dx, gate=low.laned(outer.inputs[0], node.shape[1:]) if outer is not node else None,
        y=result.shaped((*node.shape[1:], LANES)), channels=channels, height=height, width=width,
        pad_height=pad_height, pad_width=pad_width,
    )  # fmt: skip
    low.release(images)
