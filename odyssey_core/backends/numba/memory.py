"""Memory as kernels see it: one long array of float32, read and written in vectors, pairs and transposed blocks.

As in `vector`, everything has two meanings that agree to the bit: its body in Python, LLVM instructions in a kernel.
"""

import operator

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import lower_builtin

from odyssey_core.backends.numba.traced import (
    EIGHT,
    F32,
    FLOATS,
    HALF,
    I32,
    I64,
    INTEGER,
    LANES,
    VECTOR,
    Pointer,
    compiled_as,
    typed_as,
)
from odyssey_core.backends.numba.vector import load_vector, store_vector


def offset(builder, start, *steps):
    """start + the sum of stride * count over (stride, count) pairs, count known now."""
    for stride, count in steps:
        start = builder.add(start, builder.mul(stride, stride.type(count)))
    return start


def _element(pointer, index, *value):
    if not (isinstance(pointer, Pointer) and isinstance(index, types.Integer)):
        return None
    return types.void if value else pointer.element


typed_as(operator.getitem, _element)
typed_as(operator.setitem, _element)


@lower_builtin(operator.getitem, Pointer, types.Integer)
def _(context, builder, signature, values):
    return builder.load(builder.gep(values[0], [values[1]]))


@lower_builtin(operator.setitem, Pointer, types.Integer, types.Number)
def _(context, builder, signature, values):
    builder.store(values[2], builder.gep(values[0], [values[1]]))


@compiled_as(FLOATS, lambda b, memory, at: load_vector(b, b.gep(memory, [at])))
def load(memory, at):
    """Sixteen consecutive float32."""
    return memory[at : at + LANES].copy()


@compiled_as(types.void, lambda b, memory, at, x: store_vector(b, x, b.gep(memory, [at])))
def store(memory, at, x):
    """Writes sixteen consecutive float32."""
    memory[at : at + LANES] = x


def _gather(builder, memory, base, indices):
    vector = ir.Constant(VECTOR, ir.Undefined)
    for k in range(LANES):
        index = builder.add(base, builder.zext(builder.extract_element(indices, I32(k)), base.type))
        vector = builder.insert_element(vector, builder.load(builder.gep(memory, [index])), I32(k))
    return vector


@compiled_as(FLOATS, _gather)
def gather(memory, base, indices):
    """The float32 at ``base + indices[k]`` for each lane k; indices are words below 2**31."""
    return memory[base + indices.astype(np.int64)]


def _transpose(builder, memory, source, stride, target, pitch):
    # Blocks of 8 x 8 fit AVX2's registers; the 16 x 16 at once took three times as long there.
    for top, left in ((0, 0), (0, 8), (8, 0), (8, 8)):
        rows = []
        for i in range(8):
            at = builder.add(offset(builder, source, (stride, top + i)), stride.type(left))
            rows.append(load_vector(builder, builder.gep(memory, [at]), EIGHT))
        for i, row in enumerate(_transposed(builder, rows)):
            at = builder.add(offset(builder, target, (pitch, left + i)), pitch.type(top))
            store_vector(builder, row, builder.gep(memory, [at]))


@compiled_as(types.void, _transpose)
def transpose(memory, source, stride, target, pitch):
    """Writes the 16 x 16 block whose rows start ``stride`` apart transposed, its rows ``pitch`` apart."""
    block = np.stack([load(memory, source + i * stride) for i in range(LANES)])
    for i in range(LANES):
        store(memory, target + i * pitch, block[:, i])


@compiled_as(INTEGER, lambda b, memory, at: b.zext(b.bitcast(b.load(b.gep(memory, [at])), I32), I64))
def word_at(memory, at):
    """The uint32 whose bits an element holds."""
    return int(memory[at : at + 1].view(np.uint32)[0])


@compiled_as(
    types.void, lambda b, memory, at, x: b.store(b.bitcast(b.trunc(x, I32), F32), b.gep(memory, [at])) and None
)
def set_word(memory, at, x):
    """Writes the low 32 bits of an integer into an element."""
    memory[at : at + 1].view(np.uint32)[0] = x


def _store_pairs(builder, memory, at, values, places):
    mask = ir.Constant(ir.VectorType(I32, 2 * LANES), [k // 2 + LANES * (k % 2) for k in range(2 * LANES)])
    pairs = builder.shuffle_vector(values, builder.bitcast(places, VECTOR), mask)
    store_vector(builder, pairs, builder.gep(memory, [at]))


@compiled_as(types.void, _store_pairs)
def store_pairs(memory, at, values, places):
    """Writes sixteen float32, each followed by the word of its lane."""
    memory[at : at + 2 * LANES : 2] = values
    memory[at + 1 : at + 2 * LANES : 2] = places.view(np.float32)


def _push(builder, memory, source, target):
    source, target = (builder.bitcast(builder.gep(memory, [at]), I64.as_pointer()) for at in (source, target))
    bits = builder.load(source, align=4)
    builder.store(bits, target, align=4)
    return builder.zext(builder.icmp_unsigned("!=", builder.and_(bits, I64(0x7FFFFFFF)), I64(0)), I64)


@compiled_as(INTEGER, _push)
def push(memory, source, target):
    """Copies a pair as `store_pairs` wrote it; 1, or 0 where its float is 0.

    What comes next is written over a pair of 0: without a branch, which no processor could foresee.
    """
    memory[target : target + 2] = memory[source : source + 2]
    return int(memory[source] != 0)


def _rows_of_eight(builder, start, stride, count):
    """Where eight rows start, ``stride`` apart; the last of ``count`` stands for those behind it."""
    rows = []
    for i in range(HALF):
        row = ir.Constant(count.type, i)
        row = builder.select(builder.icmp_signed("<", row, count), row, builder.sub(count, count.type(1)))
        rows.append(builder.add(start, builder.mul(stride, row)))
    return rows


def _lanes_to_channels(builder, memory, source, plane, channels, target, image):
    sources = _rows_of_eight(builder, source, plane, channels)
    for half in (0, HALF):
        pointers = [builder.gep(memory, [builder.add(at, at.type(half))]) for at in sources]
        rows = [load_vector(builder, pointer, EIGHT) for pointer in pointers]
        for i, row in enumerate(_transposed(builder, rows)):
            store_vector(builder, row, builder.gep(memory, [offset(builder, target, (image, half + i))]))


@compiled_as(types.void, _lanes_to_channels)
def lanes_to_channels(memory, source, plane, channels, target, image):
    """From up to eight channels of sixteen images to sixteen images of eight channels, the last for those that lack.

    Channels lie ``plane`` apart, images ``image``.
    """
    rows = np.stack([load(memory, source + min(c, channels - 1) * plane) for c in range(HALF)])
    for i in range(LANES):
        memory[target + i * image : target + i * image + HALF] = rows[:, i]


def _channels_to_lanes(builder, memory, source, image, target, plane, channels):
    targets = _rows_of_eight(builder, target, plane, channels)
    for half in (0, HALF):
        places = [offset(builder, source, (image, half + i)) for i in range(HALF)]
        rows = [load_vector(builder, builder.gep(memory, [at]), EIGHT) for at in places]
        # Backwards, so that the last channel is written after what stands for those that lack.
        for at, row in reversed(list(zip(targets, _transposed(builder, rows), strict=True))):
            store_vector(builder, row, builder.gep(memory, [builder.add(at, at.type(half))]))


@compiled_as(types.void, _channels_to_lanes)
def channels_to_lanes(memory, source, image, target, plane, channels):
    """The way back from `lanes_to_channels`; channels behind the last are left out."""
    images = np.stack([memory[source + i * image : source + i * image + HALF] for i in range(LANES)])
    for c in range(min(channels, HALF)):
        store(memory, target + c * plane, images[:, c])


def _transposed(builder, rows):
    """Eight vectors of eight: three rounds of exchanging between pairs of rows what one AVX instruction exchanges."""
    rounds = (
        (1, (0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15)),
        (2, (0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15)),
        (4, (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)),
    )
    for apart, *masks in rounds:
        low, high = (ir.Constant(ir.VectorType(I32, 8), mask) for mask in masks)
        for i in range(8):
            if not i & apart:
                a, b = rows[i], rows[i + apart]
                rows[i], rows[i + apart] = builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)
    return [rows[i] for i in (0, 2, 1, 3, 4, 6, 5, 7)]
