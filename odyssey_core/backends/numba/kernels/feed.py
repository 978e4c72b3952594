"""What enters a step and what leaves it."""

import math
from itertools import groupby

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.instruction import Constant, Index, instruction
from odyssey_core.backends.numba.lower import Lowering, lowers
from odyssey_core.backends.numba.memory import gather, load, store, transpose
from odyssey_core.backends.numba.operands import padded
from odyssey_core.backends.numba.random import AUGMENT, philox
from odyssey_core.backends.numba.step_feed import (
    epoch,
    gather_pixels,
    given,
    image,
    images,
    lanes,
    pixel,
    put,
    seed_high,
    seed_low,
)
from odyssey_core.backends.numba.traced import LANES, on_lanes
from odyssey_core.backends.numba.vector import at_most, fma, insert, splat, to_float, to_words, where
from odyssey_core.tensor import Tensor

ZERO, ONE, HALF = np.float32(0), np.float32(1), np.float32(0.5)


def _of_images(program, d) -> str:
    end = d["first"] + (d["size"] if "size" in d else d["channels"] * d["height"] * d["width"])
    known = program.pixels or 0
    return f"images of {known} pixels, the row reads up to {end}" if end > known else ""


def _columns(d, width: int) -> str:
    return f"columns {d['column']} to {d['column'] + d['size']} of {width}" if d["column"] + d["size"] > width else ""


@instruction(writes="y", shapes=lambda d: {"y": (d["size"], LANES)}, bounds=_of_images)
def gather_images(memory, feed, step, block, y, first: Index, size, scale: Constant, shift: Constant):
    """``size`` pixels of the block's sixteen images, from the ``first`` on, as ``p scale + shift``.

    A lane without an image gets zeros.
    """
    scales, shifts, lane0 = splat(ZERO), splat(ZERO), block * LANES
    for lane in range(LANES):
        if image(feed, step, lane0 + lane) >= 0:
            scales, shifts = insert(scales, lane, scale), insert(shifts, lane, shift)
    for i in range(0, size - LANES + 1, LANES):
        gather_pixels(feed, step, lane0, first + i, scales, shifts, memory, y + i * LANES)
    for i in range(size // LANES * LANES, size):
        for lane in range(LANES):
            which = image(feed, step, lane0 + lane)
            memory[y + i * LANES + lane] = pixel(feed, which, first + i) * scale + shift if which >= 0 else ZERO


@on_lanes
def _uniform(word, amount):
    """amount * u, u uniform in [-1, 1), from random words."""
    return fma(to_float(word >> 8), 2**-23, -1.0) * amount


def _series(square, a, b, c):
    """1 - square / a (1 - square / b (1 - square / c))."""
    return 1.0 - square / a * (1.0 - square / b * (1.0 - square / c))


@on_lanes
def _coefficients(images, epoch, low, high, height, width, rotation, scaling, shear, shift_by):
    """Six vectors: x = c0 j + c1 i + c2, y = c3 j + c4 i + c5, in a frame with a border of one pixel."""
    middle_x, middle_y = splat((width - ONE) * HALF), splat((height - ONE) * HALF)
    first = philox(0, images, epoch, AUGMENT, low, high)
    second = philox(1, images, epoch, AUGMENT, low, high)
    angle, size, k = _uniform(first[0], rotation), 1.0 + _uniform(first[1], scaling), _uniform(first[2], shear)
    shift_x, shift_y = _uniform(first[3], shift_by), _uniform(second[0], shift_by)
    square = angle * angle
    sine = angle * _series(square, 6.0, 20.0, 42.0)
    cosine = 1.0 - square / 2.0 * _series(square, 12.0, 30.0, 56.0)
    c0, c1 = size * cosine, size * (cosine * k - sine)
    c3, c4 = size * sine, size * (sine * k + cosine)
    c2 = middle_x + 1.0 + shift_x - (c0 * middle_x + c1 * middle_y)
    c5 = middle_y + 1.0 + shift_y - (c3 * middle_x + c4 * middle_y)
    return c0, c1, c2, c3, c4, c5


@register_jitable
def _store_frame(memory, frame, feed, which, start, height, width):
    """One channel of an image as float32 inside a border of zeros."""
    pitch = width + 2
    for j in range(pitch):
        memory[frame + j] = ZERO
        memory[frame + (height + 1) * pitch + j] = ZERO
    for i in range(height):
        at = frame + (i + 1) * pitch
        memory[at] = ZERO
        for j in range(width):
            memory[at + 1 + j] = pixel(feed, which, start + i * width + j)
        memory[at + pitch - 1] = ZERO


@register_jitable
def _store_grid(memory, columns, rows, height, width):
    """The column and the row of every pixel, for whole vectors of pixels."""
    for i in range(height):
        for j in range(width):
            memory[columns + i * width + j] = np.float32(j)
            memory[rows + i * width + j] = np.float32(i)
    plane = height * width
    for p in range(plane, (plane + LANES - 1) // LANES * LANES):
        memory[columns + p] = ZERO
        memory[rows + p] = ZERO


@on_lanes
def _position(j, i, along, across, start, most, last):
    """Where a coordinate is sampled: the pixel before it, and how far behind that it lies."""
    x = fma(along, j, fma(across, i, start))
    x = where(x > 0.0, at_most(x, most), 0.0)  # 0 for a NaN too: nothing outside the frame is ever read
    # The last cell's right and lower neighbours are the border, reached with a fraction of 1.
    x0 = at_most(to_float(to_words(x)), last)
    return x0, x - x0


@on_lanes
def _cell(x0, y0, pitch):
    return to_words(fma(y0, pitch, x0))


@on_lanes
def _between(fraction, left, right):
    return fma(fraction, right - left, left)


@register_jitable
def _store_sampled(memory, frame, target, coefficients, columns, rows, height, width, scale, shift):
    """Bilinear samples of a frame, normalised, for every pixel of one image and up to the next whole vector."""
    c0, c1, c2 = memory[coefficients], memory[coefficients + LANES], memory[coefficients + 2 * LANES]
    c3, c4 = memory[coefficients + 3 * LANES], memory[coefficients + 4 * LANES]
    c5, pitch = memory[coefficients + 5 * LANES], width + 2
    for p in range(0, height * width, LANES):
        j, i = load(memory, columns + p), load(memory, rows + p)
        x0, fx = _position(j, i, c0, c1, c2, np.float32(width + 1), np.float32(width))
        y0, fy = _position(j, i, c3, c4, c5, np.float32(height + 1), np.float32(height))
        at = _cell(x0, y0, np.float32(pitch))
        top = _between(fx, gather(memory, frame, at), gather(memory, frame + 1, at))
        bottom = _between(fx, gather(memory, frame + pitch, at), gather(memory, frame + pitch + 1, at))
        store(memory, target + p, fma(_between(fy, top, bottom), scale, shift))


def _affine_shapes(d):
    size = d["channels"] * d["height"] * d["width"]
    return {"y": (size, LANES), "work": (affine_work(d["channels"], d["height"], d["width"]),)}


@instruction(writes="y work", shapes=_affine_shapes, bounds=_of_images)
def gather_affine(
    memory, feed, step, block, y, work, first: Index, channels, height, width, scale: Constant, shift: Constant,
    rotation: Constant, scaling: Constant, shear: Constant, shift_by: Constant,
):  # fmt: skip
    """Some channels as `gather_images` gives them, each image distorted on the way; see `ops.images`.

    ``work`` holds the lanes' coefficients, a framed image, the pixels' columns and rows, and the distorted images
    before lanes and pixels are exchanged.
    """
    plane = height * width
    size = channels * plane
    pitch = (size + LANES - 1) // LANES * LANES
    frame = work + 6 * LANES
    columns = frame + ((height + 2) * (width + 2) + LANES - 1) // LANES * LANES
    rows = columns + (plane + LANES - 1) // LANES * LANES
    distorted = rows + (plane + LANES - 1) // LANES * LANES
    which = images(feed, step, block * LANES)
    c0, c1, c2, c3, c4, c5 = _coefficients(
        which, epoch(feed), seed_low(feed), seed_high(feed), np.float32(height), np.float32(width), rotation, scaling,
        shear, shift_by,
    )  # fmt: skip
    store(memory, work, c0)
    store(memory, work + LANES, c1)
    store(memory, work + 2 * LANES, c2)
    store(memory, work + 3 * LANES, c3)
    store(memory, work + 4 * LANES, c4)
    store(memory, work + 5 * LANES, c5)
    _store_grid(memory, columns, rows, height, width)
    for lane in range(LANES):
        one = image(feed, step, block * LANES + lane)
        target = distorted + lane * pitch
        if one < 0:
            for i in range(size):
                memory[target + i] = ZERO
        else:
            for c in range(channels):
                _store_frame(memory, frame, feed, one, first + c * plane, height, width)
                part = target + c * plane
                _store_sampled(memory, frame, part, work + lane, columns, rows, height, width, scale, shift)
    for i in range(0, size - LANES + 1, LANES):
        transpose(memory, distorted + i, pitch, y + i * LANES, LANES)
    for i in range(size // LANES * LANES, size):
        for lane in range(LANES):
            memory[y + i * LANES + lane] = memory[distorted + lane * pitch + i]


def affine_work(channels: int, height: int, width: int) -> int:
    """float32 elements that gather_affine works in."""
    plane = height * width
    return 6 * LANES + padded((height + 2) * (width + 2)) + 2 * padded(plane) + LANES * padded(channels * plane) + LANES


@instruction(
    writes="y", shapes=lambda d: {"y": (d["size"], LANES)}, bounds=lambda program, d: _columns(d, program.inputs)
)
def ingest(memory, feed, step, block, y, size, column: Index):
    """Values of an ``input`` node from the feed's columns."""
    for i in range(size):
        for lane in range(LANES):
            memory[y + i * LANES + lane] = given(feed, step, block * LANES + lane, column + i)


@instruction(
    reads="x", shapes=lambda d: {"x": (d["size"], LANES)}, bounds=lambda program, d: _columns(d, program.outputs)
)
def emit(memory, feed, step, block, x, size, column: Index):
    """An output's values to its columns of the results."""
    for i in range(size):
        for lane in range(LANES):
            put(feed, step, block * LANES + lane, column + i, memory[x + i * LANES + lane])


@instruction(writes="y", shapes=lambda d: {"y": (LANES,)})
def batch_weight(memory, feed, step, block, y):
    """1 / (images in the step) in every lane with an image, 0 elsewhere."""
    count = 0
    for i in range(lanes(feed)):
        count += 1 if image(feed, step, i) >= 0 else 0
    for lane in range(LANES):
        here = image(feed, step, block * LANES + lane) >= 0
        memory[y + lane] = ONE / np.float32(max(count, 1)) if here else ZERO


@lowers("images")
def _lower_images(low: Lowering, node: Tensor, outer: Tensor) -> None:
    """Adds a row for each run of channels with one mean and one deviation."""
    _, height, width = node.shape[1:]
    low.pixels, plane, first = math.prod(node.shape[1:]), height * width, 0
    y = low.result(outer)
    for (mean, std), run in groupby(zip(node.attrs["mean"], node.attrs["std"], strict=True)):
        channels = len(list(run))
        size = channels * plane
        part = y.part(first * LANES, size * LANES).shaped((size, LANES))
        given = {"y": part, "first": first, "scale": 1 / (255 * std), "shift": -mean / std}
        if node.attrs["augment"] is None:
            low.row(gather_images, **given, size=size)
        else:
            work = low.temporary(affine_work(channels, height, width))
            shape = {"channels": channels, "height": height, "width": width}
            low.row(gather_affine, **given, work=work.shaped((work.size,)), **shape, **node.attrs["augment"])
            low.release(work)
        first += size


@lowers("labels")
def _lower_labels(low: Lowering, node: Tensor, outer: Tensor) -> None:
    """Nothing: the losses' kernels read labels from the feed."""


@lowers("input")
def _lower_input(low: Lowering, node: Tensor, outer: Tensor) -> None:
    before = low.inputs[: low.inputs.index(node)]
    size = math.prod(node.shape[1:])
    y = low.result(outer).shaped((size, LANES))
    low.row(ingest, y=y, size=size, column=sum(math.prod(x.shape[1:]) for x in before))


@lowers("batch_weight")
def _lower_batch_weight(low: Lowering, node: Tensor, outer: Tensor) -> None:
    low.row(batch_weight, y=low.result(outer).shaped((LANES,)))
