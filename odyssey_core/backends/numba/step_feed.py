"""What kernels see of a step beside the memory: images, labels, the optimizer's numbers, and where outputs go."""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types

from odyssey_core.backends.numba.traced import (
    F32,
    FLOAT,
    FLOATS,
    I32,
    I64,
    INTEGER,
    LANES,
    VECTOR,
    WORDS,
    Pointer,
    compiled_as,
)
from odyssey_core.backends.numba.vector import fma, fma_vector, store_vector

FEED = Pointer("feed", (types.int64, I64))
FIELDS = (
    "order", "lanes", "pixels", "size", "labels", "values", "values_of_step", "inputs", "input_columns", "outputs",
    "output_columns", "seed_low", "seed_high", "epoch",
)  # fmt: skip


def address(array: np.ndarray) -> int:
    """Where an array begins; sooner said than by ``array.ctypes.data``."""
    return array.__array_interface__["data"][0]


class StepFeed(NamedTuple):
    """The feed of a call, as `backends.base.Feed` has it, in arrays that kernels can read.

    Attributes:
        order: (steps, blocks * images of a block) int64, -1 where there is no image.
        pixels: (images, C H W) uint8.
        labels: (images,) int64.
        values: (steps, S) float32.
        inputs: (steps, blocks * images of a block, F) float32.
        outputs: likewise.
        seed_low, seed_high, epoch: words of the random numbers' key and counter.
    """

    order: np.ndarray
    pixels: np.ndarray
    labels: np.ndarray
    values: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    seed_low: int
    seed_high: int
    epoch: int

    def table(self) -> np.ndarray:
        """(FIELDS,) int64: addresses and sizes, as a compiled kernel takes them. The arrays must outlive it."""
        arrays = {name: getattr(self, name) for name in ("order", "pixels", "labels", "values", "inputs", "outputs")}
        numbers = {
            "lanes": self.order.shape[1], "size": self.pixels.shape[1], "values_of_step": self.values.shape[1],
            "input_columns": self.inputs.shape[2], "output_columns": self.outputs.shape[2],
            "seed_low": self.seed_low, "seed_high": self.seed_high, "epoch": self.epoch,
        }  # fmt: skip
        return np.array([address(arrays[n]) if n in arrays else numbers[n] for n in FIELDS], np.int64)


def _field(builder, feed, name):
    """A number of the feed; LLVM may keep it, since nothing that a kernel writes changes it."""
    value = builder.load(builder.gep(feed, [I64(FIELDS.index(name))]))
    value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


def _address(builder, feed, name, element, *index):
    """The address of an element: ``index`` are pairs (number, name of how many of the next lie in one)."""
    at = I64(0)
    for number, width in index:
        at = builder.add(at, number)
        at = builder.mul(at, _field(builder, feed, width)) if width else at
    return builder.gep(builder.inttoptr(_field(builder, feed, name), element.as_pointer()), [at])


def _at_lane(builder, feed, step, lane):
    return _address(builder, feed, "order", I64, (step, "lanes"), (lane, None))


@compiled_as(INTEGER, lambda b, feed, step, lane: b.load(_at_lane(b, feed, step, lane)))
def image(feed, step, lane):
    """The image of a lane of the step, -1 where there is none."""
    return int(feed.order[step, lane])


def _images(builder, feed, step, lane):
    wide = ir.VectorType(I64, LANES)
    pointer = builder.bitcast(_at_lane(builder, feed, step, lane), wide.as_pointer())
    return builder.trunc(builder.load(pointer, align=8), WORDS.llvm)


@compiled_as(WORDS, _images)
def images(feed, step, lane):
    """The images of sixteen lanes as words."""
    return feed.order[step, lane : lane + LANES].astype(np.uint32)


@compiled_as(INTEGER, lambda b, feed: _field(b, feed, "lanes"))
def lanes(feed):
    """Lanes of a step."""
    return feed.order.shape[1]


@compiled_as(INTEGER, lambda b, feed, image: b.load(_address(b, feed, "labels", I64, (image, None))))
def label(feed, image):
    """The class of an image."""
    return int(feed.labels[image])


@compiled_as(
    FLOAT,
    lambda b, feed, image, i: b.uitofp(
        b.load(_address(b, feed, "pixels", ir.IntType(8), (image, "size"), (i, None))), F32
    ),
)
def pixel(feed, image, i):
    """A pixel of an image, 0 to 255."""
    return np.float32(feed.pixels[image, i])


def _pixels(builder, feed, image, i):
    place = _address(builder, feed, "pixels", ir.IntType(8), (image, "size"), (i, None))
    raw = builder.load(builder.bitcast(place, ir.VectorType(ir.IntType(8), LANES).as_pointer()), align=1)
    return builder.uitofp(raw, VECTOR)


@compiled_as(FLOATS, _pixels)
def pixel_vector(feed, image, i):
    """Sixteen pixels of an image, 0 to 255."""
    return feed.pixels[image, i : i + LANES].astype(np.float32)


@compiled_as(
    FLOAT,
    lambda b, feed, step, column: b.load(_address(b, feed, "values", F32, (step, "values_of_step"), (column, None))),
)
def step_value(feed, step, column):
    """One of the numbers that belong to a step."""
    return feed.values[step, column]


def _at_column(builder, feed, name, columns, step, lane, column):
    return _address(builder, feed, name, F32, (step, "lanes"), (lane, columns), (column, None))


@compiled_as(FLOAT, lambda b, feed, *index: b.load(_at_column(b, feed, "inputs", "input_columns", *index)))
def given(feed, step, lane, column):
    """A value of an ``input`` node."""
    return feed.inputs[step, lane, column]


def _put(builder, feed, step, lane, column, x):
    builder.store(x, _at_column(builder, feed, "outputs", "output_columns", step, lane, column))


@compiled_as(types.void, _put)
def put(feed, step, lane, column, x):
    """Writes a value of an output."""
    feed.outputs[step, lane, column] = x


@compiled_as(INTEGER, lambda b, feed: _field(b, feed, "seed_low"))
def seed_low(feed):
    """The low word of the seed."""
    return feed.seed_low


@compiled_as(INTEGER, lambda b, feed: _field(b, feed, "seed_high"))
def seed_high(feed):
    """The high word of the seed."""
    return feed.seed_high


@compiled_as(INTEGER, lambda b, feed: _field(b, feed, "epoch"))
def epoch(feed):
    """The epoch of the call."""
    return feed.epoch


def _gather_pixels(builder, feed, step, lane, column, scale, shift, memory, target):
    bytes_, index = ir.VectorType(ir.IntType(8), LANES), ir.VectorType(I32, LANES)
    rows = []
    for i in range(LANES):
        image = builder.load(_at_lane(builder, feed, step, builder.add(lane, I64(i))))
        image = builder.select(builder.icmp_signed("<", image, I64(0)), I64(0), image)
        place = _address(builder, feed, "pixels", ir.IntType(8), (image, "size"), (column, None))
        rows.append(builder.load(builder.bitcast(place, bytes_.as_pointer()), align=1))
    low = ir.Constant(index, [k // 2 + LANES * (k % 2) for k in range(LANES)])
    high = ir.Constant(index, [k // 2 + LANES // 2 + LANES * (k % 2) for k in range(LANES)])
    half = LANES // 2
    for _ in range(4):
        rows = [builder.shuffle_vector(rows[i], rows[i + half], mask) for i in range(half) for mask in (low, high)]
    for i, row in enumerate(rows):
        value = fma_vector(builder, builder.uitofp(row, VECTOR), scale, shift)
        store_vector(builder, value, builder.gep(memory, [builder.add(target, I64(i * LANES))]))


@compiled_as(types.void, _gather_pixels)
def gather_pixels(feed, step, lane, column, scale, shift, memory, target):
    """Sixteen pixels of sixteen images, transposed: row k of the target is pixel ``column + k`` of each lane's image.

    Args:
        feed, step, lane: where the sixteen images are named; a lane without one reads image 0, its ``scale`` and
            ``shift`` are 0.
        column: first pixel; the caller keeps ``column + 16`` within an image.
        scale, shift: per lane, ``p scale + shift``.
        memory, target: where the (16, 16) float32 block goes.
    """
    images = np.maximum(feed.order[step, lane : lane + LANES], 0)
    for k in range(LANES):
        at = target + k * LANES
        memory[at : at + LANES] = fma(feed.pixels[images, column + k].astype(np.float32), scale, shift)
