"""Images gathered by index from uint8 pixels, normalised, and in training distorted on the way."""

import math
from itertools import groupby

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.instruction import Constant, Flag, Index, instruction
from odyssey_core.backends.numba.lower import Lowering, lowers
from odyssey_core.backends.numba.memory import gather, load, store, transpose
from odyssey_core.backends.numba.operands import padded
from odyssey_core.backends.numba.random import AUGMENT, philox
from odyssey_core.backends.numba.step_feed import (
    epoch,
    gather_pixels,
    image,
    images,
    pixel,
    seed_high,
    seed_low,
)
from odyssey_core.backends.numba.traced import LANES, on_lanes
from odyssey_core.backends.numba.vector import at_most, fma, high_word, insert, splat, to_float, to_words, where, words
from odyssey_core.tensor import Tensor

ZERO, ONE, HALF, WHITE = np.float32(0), np.float32(1), np.float32(0.5), np.float32(255)
# Sixteen float32 for each of what a lane's image is distorted by: six coefficients of the map from a pixel to where it
# is sampled, brightness and contrast, row and column of the middle of what is cut out.
BRIGHTNESS, CONTRAST, ROW, COLUMN, DRAWN = 6 * LANES, 7 * LANES, 8 * LANES, 9 * LANES, 10 * LANES


def _of_images(program, d) -> str:
    end = d["first"] + (d["size"] if "size" in d else d["channels"] * d["height"] * d["width"])
    known = program.pixels or 0
    return f"images of {known} pixels, the row reads up to {end}" if end > known else ""


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


@on_lanes
def _whole(word, amount):
    """Whole numbers, uniform from -amount to amount."""
    return to_float(high_word(word, words(2 * amount + 1))) - to_float(words(amount))


def _series(square, a, b, c):
    """1 - square / a (1 - square / b (1 - square / c))."""
    return 1.0 - square / a * (1.0 - square / b * (1.0 - square / c))


@on_lanes
def _coefficients(images, epoch, low, high, height, width, rotation, scaling, shear, shift_by, flip, alternate, crop):
    """Six vectors: x = c0 j + c1 i + c2, y = c3 j + c4 i + c5, in a frame with a border of one pixel.

    A flip and a crop are such maps too, and sampled between no two pixels they give the pixels as they are.
    """
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
    c2, c5 = c2 + _whole(second[2], crop), c5 + _whole(second[3], crop)
    # What is drawn for the first epoch holds in every second one, its opposite in the others.
    alternated = ((philox(3, images, 0, AUGMENT, low, high)[0] >> 31) ^ words(epoch)) & words(alternate)
    mirrored = (((second[1] >> 31) & words(flip)) | alternated) != 0
    c0, c1, c2 = where(mirrored, -c0, c0), where(mirrored, -c1, c1), where(mirrored, splat(width + ONE) - c2, c2)
    return c0, c1, c2, c3, c4, c5


@on_lanes
def _tone_and_place(images, epoch, low, high, height, width, brightness, contrast):
    """Four vectors: factors of brightness and contrast, row and column of the middle of what is cut out."""
    drawn = philox(2, images, epoch, AUGMENT, low, high)
    row, column = high_word(drawn[2], words(height)), high_word(drawn[3], words(width))
    return 1.0 + _uniform(drawn[0], brightness), 1.0 + _uniform(drawn[1], contrast), to_float(row), to_float(column)


@register_jitable
def _store_frame(memory, frame, feed, which, start, height, width, brightness, contrast):
    """One channel of an image as float32 inside a border of zeros, its contrast and brightness changed by factors."""
    toned = brightness != ONE or contrast != ONE
    gain, lift = brightness * contrast, ZERO
    if toned:
        total = 0
        for i in range(height * width):
            total += int(pixel(feed, which, start + i))
        mean = np.float32(total) / np.float32(height * width)
        lift = brightness * (mean - contrast * mean)
    pitch = width + 2
    for j in range(pitch):
        memory[frame + j] = ZERO
        memory[frame + (height + 1) * pitch + j] = ZERO
    for i in range(height):
        at = frame + (i + 1) * pitch
        memory[at] = ZERO
        for j in range(width):
            value = pixel(feed, which, start + i * width + j)
            memory[at + 1 + j] = min(max(value * gain + lift, ZERO), WHITE) if toned else value
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
def _position(j, i, along, across, start, most, last, reflect):
    """Where a coordinate is sampled: the pixel before it, and how far behind that it lies."""
    x = fma(along, j, fma(across, i, start))
    # Pixels lie from 1 to ``last`` in the frame: what is outside is mirrored at the outermost ones.
    inner = where(x < 1.0, 2.0 - x, x)
    x = where(reflect != 0.0, where(inner > last, 2.0 * last - inner, inner), x)
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
def _store_sampled(memory, frame, target, coefficients, columns, rows, height, width, reflect, scale, shift):
    """Bilinear samples of a frame, normalised, for every pixel of one image and up to the next whole vector."""
    c0, c1, c2 = memory[coefficients], memory[coefficients + LANES], memory[coefficients + 2 * LANES]
    c3, c4 = memory[coefficients + 3 * LANES], memory[coefficients + 4 * LANES]
    c5, pitch, mirror = memory[coefficients + 5 * LANES], width + 2, splat(np.float32(reflect))
    for p in range(0, height * width, LANES):
        j, i = load(memory, columns + p), load(memory, rows + p)
        x0, fx = _position(j, i, c0, c1, c2, np.float32(width + 1), np.float32(width), mirror)
        y0, fy = _position(j, i, c3, c4, c5, np.float32(height + 1), np.float32(height), mirror)
        at = _cell(x0, y0, np.float32(pitch))
        top = _between(fx, gather(memory, frame, at), gather(memory, frame + 1, at))
        bottom = _between(fx, gather(memory, frame + pitch, at), gather(memory, frame + pitch + 1, at))
        store(memory, target + p, fma(_between(fy, top, bottom), scale, shift))


@register_jitable
def _cut_out(memory, target, row, column, side, channels, height, width):
    """Zeros in a square of all channels, as much of it as lies within the image."""
    top, left = row - side // 2, column - side // 2
    for c in range(channels):
        for i in range(max(top, 0), min(top + side, height)):
            at = target + (c * height + i) * width
            for j in range(max(left, 0), min(left + side, width)):
                memory[at + j] = ZERO


def _distorted_shapes(d):
    size = d["channels"] * d["height"] * d["width"]
    return {"y": (size, LANES), "work": (distorted_work(d["channels"], d["height"], d["width"]),)}


@instruction(writes="y work", shapes=_distorted_shapes, bounds=_of_images)
def gather_distorted(
    memory, feed, step, block, y, work, first: Index, channels, height, width, scale: Constant, shift: Constant,
    rotation: Constant, scaling: Constant, shear: Constant, shift_by: Constant, brightness: Constant,
    contrast: Constant, flip: Flag, alternate: Flag, crop: Index, reflect: Flag, cutout: Index,
):  # fmt: skip
    """Some channels as `gather_images` gives them, each image distorted on the way; see `ops.images`.

    ``work`` holds what is drawn for each lane, a framed image, the pixels' columns and rows, and the distorted images
    before lanes and pixels are exchanged.
    """
    plane = height * width
    size = channels * plane
    pitch = (size + LANES - 1) // LANES * LANES
    frame = work + DRAWN
    columns = frame + ((height + 2) * (width + 2) + LANES - 1) // LANES * LANES
    rows = columns + (plane + LANES - 1) // LANES * LANES
    distorted = rows + (plane + LANES - 1) // LANES * LANES
    which = images(feed, step, block * LANES)
    c0, c1, c2, c3, c4, c5 = _coefficients(
        which, epoch(feed), seed_low(feed), seed_high(feed), np.float32(height), np.float32(width), rotation, scaling,
        shear, shift_by, flip, alternate, crop,
    )  # fmt: skip
    bright, strong, row, column = _tone_and_place(
        which, epoch(feed), seed_low(feed), seed_high(feed), height, width, brightness, contrast
    )
    store(memory, work, c0)
    store(memory, work + LANES, c1)
    store(memory, work + 2 * LANES, c2)
    store(memory, work + 3 * LANES, c3)
    store(memory, work + 4 * LANES, c4)
    store(memory, work + 5 * LANES, c5)
    store(memory, work + BRIGHTNESS, bright)
    store(memory, work + CONTRAST, strong)
    store(memory, work + ROW, row)
    store(memory, work + COLUMN, column)
    _store_grid(memory, columns, rows, height, width)
    for lane in range(LANES):
        one = image(feed, step, block * LANES + lane)
        target = distorted + lane * pitch
        if one < 0:
            for i in range(size):
                memory[target + i] = ZERO
        else:
            for c in range(channels):
                _store_frame(
                    memory, frame, feed, one, first + c * plane, height, width, memory[work + BRIGHTNESS + lane],
                    memory[work + CONTRAST + lane],
                )  # fmt: skip
                part = target + c * plane
                _store_sampled(memory, frame, part, work + lane, columns, rows, height, width, reflect, scale, shift)
            if cutout > 0:
                middle = int(memory[work + ROW + lane]), int(memory[work + COLUMN + lane])
                _cut_out(memory, target, middle[0], middle[1], cutout, channels, height, width)
    for i in range(0, size - LANES + 1, LANES):
        transpose(memory, distorted + i, pitch, y + i * LANES, LANES)
    for i in range(size // LANES * LANES, size):
        for lane in range(LANES):
            memory[y + i * LANES + lane] = memory[distorted + lane * pitch + i]


def distorted_work(channels: int, height: int, width: int) -> int:
    """float32 elements that gather_distorted works in."""
    plane = height * width
    return DRAWN + padded((height + 2) * (width + 2)) + 2 * padded(plane) + LANES * padded(channels * plane) + LANES


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
            work = low.temporary(distorted_work(channels, height, width))
            shape = {"channels": channels, "height": height, "width": width}
            low.row(gather_distorted, **given, work=work.shaped((work.size,)), **shape, **node.attrs["augment"])
            low.release(work)
        first += size
