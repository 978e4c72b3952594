"""What enters a step and what leaves it."""

import numpy as np
from numba import njit

from odyssey_core.backends.numba.simd import LANES, float_of, gather_pixels, insert, splat
from odyssey_core.backends.numba.table import Instruction

ZERO = np.float32(0)


def build_gather():
    """Pixels of the block's sixteen images as ``p scale + shift``; zeros in a lane without an image."""

    @njit(cache=True, nogil=True)
    def gather(arena, row, feed, step, block):
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

    return gather


def build_ingest():
    """Values of an ``input`` node from the feed's columns."""

    @njit(cache=True, nogil=True)
    def ingest(arena, row, feed, step, block):
        y, size, column = row[1], row[2], row[3]
        for i in range(size):
            for lane in range(LANES):
                arena[y + i * LANES + lane] = feed.inputs[step, block * LANES + lane, column + i]

    return ingest


def build_emit():
    """An output's values to its columns of the results."""

    @njit(cache=True, nogil=True)
    def emit(arena, row, feed, step, block):
        x, size, column = row[1], row[2], row[3]
        for i in range(size):
            for lane in range(LANES):
                feed.outputs[step, block * LANES + lane, column + i] = arena[x + i * LANES + lane]

    return emit


def build_batch_weight():
    """1 / (images in the step) in every lane with an image, 0 elsewhere."""

    @njit(cache=True, nogil=True)
    def batch_weight(arena, row, feed, step, block):
        for lane in range(LANES):
            alive = feed.order[step, block * LANES + lane] >= 0
            arena[row[1] + lane] = feed.scalars[step, 0] if alive else ZERO

    return batch_weight


GATHER = Instruction(
    "gather", build_gather, (), ("y",), ("size",), lambda d: {"y": (d["size"], LANES)}, constants=("scale", "shift")
)
INGEST = Instruction(
    "ingest", build_ingest, (), ("y",), ("size", "column"), lambda d: {"y": (d["size"], LANES)}, flags=("column",)
)
EMIT = Instruction(
    "emit", build_emit, ("x",), (), ("size", "column"), lambda d: {"x": (d["size"], LANES)}, flags=("column",)
)
BATCH_WEIGHT = Instruction("batch_weight", build_batch_weight, (), ("y",), (), lambda d: {"y": (LANES,)})
