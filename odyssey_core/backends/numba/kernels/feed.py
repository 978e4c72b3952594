"""What enters a step and what leaves it."""

import numpy as np
from numba import njit

from odyssey_core.backends.numba.random import AUGMENT, philox, seeded
from odyssey_core.backends.numba.simd import (
    LANES,
    add,
    at_least,
    at_most,
    div,
    float_of,
    fma,
    gather,
    gather_pixels,
    insert,
    load,
    mul,
    splat,
    store,
    sub,
    transpose,
    u_from_float,
    u_shift_right,
    u_splat,
    u_to_float,
)
from odyssey_core.backends.numba.table import Instruction, padded

ZERO, ONE = np.float32(0), np.float32(1)


def build_gather():
    """Pixels of the block's sixteen images as ``p scale + shift``; zeros in a lane without an image."""

    def gather_block(arena, row, feed, step, block):
        y, size, scale, shift = row[1], row[2], float_of(row[3]), float_of(row[4])
        scales, shifts, lane0 = splat(ZERO), splat(ZERO), block * LANES
        for lane in range(LANES):
            if feed.order[step, lane0 + lane] >= 0:
                scales, shifts = insert(scales, lane, scale), insert(shifts, lane, shift)
        for i in range(0, size - LANES + 1, LANES):
            gather_pixels(feed.pixels, feed.order, step, lane0, i, scales, shifts, arena, y + i * LANES)
        for i in range(size // LANES * LANES, size):
            for lane in range(LANES):
                image = feed.order[step, lane0 + lane]
                value = np.float32(feed.pixels[image, i]) * scale + shift if image >= 0 else ZERO
                arena[y + i * LANES + lane] = value

    return gather_block


@njit
def _uniform(word, amount):
    """amount * u, u uniform in [-1, 1), from a vector of random words."""
    drawn = u_to_float(u_shift_right(word, u_splat(np.uint32(8))))
    return mul(fma(drawn, splat(np.float32(2**-23)), splat(-ONE)), splat(amount))


@njit
def _series(square, a, b, c):
    """1 - square / a (1 - square / b (1 - square / c)), of vectors."""
    one = splat(ONE)
    inner = sub(one, div(square, splat(np.float32(c))))
    inner = sub(one, mul(div(square, splat(np.float32(b))), inner))
    return sub(one, mul(div(square, splat(np.float32(a))), inner))


@njit
def _store_coefficients(arena, at, row, feed, step, block):
    """Six vectors of lanes: x = c0 j + c1 i + c2, y = c3 j + c4 i + c5, in a frame with a border of one pixel."""
    height, width = np.float32(row[4]), np.float32(row[5])
    middle_x, middle_y = splat((width - ONE) * np.float32(0.5)), splat((height - ONE) * np.float32(0.5))
    lanes, epoch = seeded(feed.order, step, block * LANES), np.uint32(feed.key[2])
    first = philox(np.uint32(0), lanes, epoch, AUGMENT, feed.key[0], feed.key[1])
    second = philox(np.uint32(1), lanes, epoch, AUGMENT, feed.key[0], feed.key[1])
    angle, size = _uniform(first[0], float_of(row[8])), add(splat(ONE), _uniform(first[1], float_of(row[9])))
    k, shift_x = _uniform(first[2], float_of(row[10])), _uniform(first[3], float_of(row[11]))
    shift_y = _uniform(second[0], float_of(row[11]))
    square = mul(angle, angle)
    sine = mul(angle, _series(square, 6, 20, 42))
    cosine = sub(splat(ONE), mul(div(square, splat(np.float32(2))), _series(square, 12, 30, 56)))
    c0, c1 = mul(size, cosine), mul(size, sub(mul(cosine, k), sine))
    c3, c4 = mul(size, sine), mul(size, add(mul(sine, k), cosine))
    store(arena, at, c0)
    store(arena, at + LANES, c1)
    c2 = add(add(middle_x, splat(ONE)), shift_x)
    store(arena, at + 2 * LANES, sub(c2, add(mul(c0, middle_x), mul(c1, middle_y))))
    store(arena, at + 3 * LANES, c3)
    store(arena, at + 4 * LANES, c4)
    c5 = add(add(middle_y, splat(ONE)), shift_y)
    store(arena, at + 5 * LANES, sub(c5, add(mul(c3, middle_x), mul(c4, middle_y))))


@njit
def _frame(arena, frame, pixels, image, start, height, width):
    """One channel of an image as float32 inside a border of zeros."""
    pitch = width + 2
    for j in range(pitch):
        arena[frame + j] = ZERO
        arena[frame + (height + 1) * pitch + j] = ZERO
    for i in range(height):
        at = frame + (i + 1) * pitch
        arena[at] = ZERO
        for j in range(width):
            arena[at + 1 + j] = np.float32(pixels[image, start + i * width + j])
        arena[at + pitch - 1] = ZERO


@njit
def _store_grid(arena, columns, rows, height, width):
    """The column and the row of every pixel, for whole vectors of pixels."""
    for i in range(height):
        for j in range(width):
            arena[columns + i * width + j] = np.float32(j)
            arena[rows + i * width + j] = np.float32(i)
    plane = height * width
    for p in range(plane, (plane + LANES - 1) // LANES * LANES):
        arena[columns + p] = arena[rows + p] = ZERO


@njit
def _sample(arena, frame, target, coefficients, columns, rows, height, width, scale, shift):
    """Bilinear samples of a frame, normalised, for every pixel of one image and up to the next whole vector."""
    c0, c1 = splat(arena[coefficients]), splat(arena[coefficients + LANES])
    c2, c3 = splat(arena[coefficients + 2 * LANES]), splat(arena[coefficients + 3 * LANES])
    c4, c5 = splat(arena[coefficients + 4 * LANES]), splat(arena[coefficients + 5 * LANES])
    most_x, most_y = splat(np.float32(width + 1)), splat(np.float32(height + 1))
    # The last cell's right and lower neighbours are the border, reached with a fraction of 1.
    last_x, last_y = splat(np.float32(width)), splat(np.float32(height))
    pitch, zero = width + 2, splat(ZERO)
    for p in range(0, height * width, LANES):
        j, i = load(arena, columns + p), load(arena, rows + p)
        x = at_most(at_least(fma(c0, j, fma(c1, i, c2)), zero), most_x)
        y = at_most(at_least(fma(c3, j, fma(c4, i, c5)), zero), most_y)
        x0 = at_most(u_to_float(u_from_float(x)), last_x)
        y0 = at_most(u_to_float(u_from_float(y)), last_y)
        fx, fy = sub(x, x0), sub(y, y0)
        at = u_from_float(fma(y0, splat(np.float32(pitch)), x0))
        left, right = gather(arena, frame, at), gather(arena, frame + 1, at)
        top = fma(fx, sub(right, left), left)
        left, right = gather(arena, frame + pitch, at), gather(arena, frame + pitch + 1, at)
        bottom = fma(fx, sub(right, left), left)
        value = fma(fy, sub(bottom, top), top)
        store(arena, target + p, fma(value, splat(scale), splat(shift)))


def build_gather_affine():
    """As gather, each image distorted on the way; see `ops.images`.

    ``work`` holds the lanes' coefficients, a framed image, the pixels' columns and rows, and the distorted images
    before lanes and pixels are exchanged.
    """

    def gather_affine(arena, row, feed, step, block):
        y, work, channels, height, width = row[1], row[2], row[3], row[4], row[5]
        scale, shift = float_of(row[6]), float_of(row[7])
        plane = height * width
        size = channels * plane
        pitch = (size + LANES - 1) // LANES * LANES
        frame = work + 6 * LANES
        columns = frame + ((height + 2) * (width + 2) + LANES - 1) // LANES * LANES
        rows = columns + (plane + LANES - 1) // LANES * LANES
        images = rows + (plane + LANES - 1) // LANES * LANES
        _store_coefficients(arena, work, row, feed, step, block)
        _store_grid(arena, columns, rows, height, width)
        for lane in range(LANES):
            image = feed.order[step, block * LANES + lane]
            target = images + lane * pitch
            if image < 0:
                for i in range(size):
                    arena[target + i] = ZERO
            else:
                for c in range(channels):
                    _frame(arena, frame, feed.pixels, image, c * plane, height, width)
                    part = target + c * plane
                    _sample(arena, frame, part, work + lane, columns, rows, height, width, scale, shift)
        for i in range(0, size - LANES + 1, LANES):
            transpose(arena, images + i, pitch, arena, y + i * LANES, LANES)
        for i in range(size // LANES * LANES, size):
            for lane in range(LANES):
                arena[y + i * LANES + lane] = arena[images + lane * pitch + i]

    return gather_affine


def affine_work(channels, height, width):
    """float32 elements that gather_affine works in."""
    plane = height * width
    return 6 * LANES + padded((height + 2) * (width + 2)) + 2 * padded(plane) + LANES * padded(channels * plane) + LANES


def build_ingest():
    """Values of an ``input`` node from the feed's columns."""

    def ingest(arena, row, feed, step, block):
        y, size, column = row[1], row[2], row[3]
        for i in range(size):
            for lane in range(LANES):
                arena[y + i * LANES + lane] = feed.inputs[step, block * LANES + lane, column + i]

    return ingest


def build_emit():
    """An output's values to its columns of the results."""

    def emit(arena, row, feed, step, block):
        x, size, column = row[1], row[2], row[3]
        for i in range(size):
            for lane in range(LANES):
                feed.outputs[step, block * LANES + lane, column + i] = arena[x + i * LANES + lane]

    return emit


def build_batch_weight():
    """1 / (images in the step) in every lane with an image, 0 elsewhere."""

    def batch_weight(arena, row, feed, step, block):
        count = 0
        for i in range(feed.order.shape[1]):
            count += feed.order[step, i] >= 0
        store(arena, row[1], div(splat(ONE), splat(np.float32(max(count, 1)))))
        for lane in range(LANES):
            if feed.order[step, block * LANES + lane] < 0:
                arena[row[1] + lane] = ZERO

    return batch_weight


GATHER = Instruction(
    "gather",
    build_gather,
    (),
    ("y",),
    ("size",),
    lambda d: {"y": (d["size"], LANES)},
    constants=("scale", "shift"),
    per_block=True,
)
GATHER_AFFINE = Instruction(
    "gather_affine", build_gather_affine, (), ("y", "work"), ("channels", "height", "width"),
    lambda d: {
        "y": (d["channels"] * d["height"] * d["width"], LANES),
        "work": (affine_work(d["channels"], d["height"], d["width"]),),
    },
    constants=("scale", "shift", "rotation", "scaling", "shear", "shift_by"), per_block=True,
)  # fmt: skip
INGEST = Instruction(
    "ingest",
    build_ingest,
    (),
    ("y",),
    ("size", "column"),
    lambda d: {"y": (d["size"], LANES)},
    flags=("column",),
    per_block=True,
)
EMIT = Instruction(
    "emit",
    build_emit,
    ("x",),
    (),
    ("size", "column"),
    lambda d: {"x": (d["size"], LANES)},
    flags=("column",),
    per_block=True,
)
BATCH_WEIGHT = Instruction(
    "batch_weight", build_batch_weight, (), ("y",), (), lambda d: {"y": (LANES,)}, per_block=True
)
