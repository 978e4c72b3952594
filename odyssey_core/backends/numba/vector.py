"""Explicit vectors: sixteen float32 or uint32 lanes with ordinary arithmetic, in compiled kernels and in plain Python.

Everything here has two meanings that agree to the bit. In Python a vector is a NumPy array of sixteen elements, and the
functions below are what their bodies say. In a compiled kernel the types' data models are LLVM's ``<16 x float>``,
``<16 x i32>`` and ``<16 x i1>``, so what a kernel writes is what the machine does: no fast-math, no auto-vectoriser,
the same operations in the same order on every CPU. LLVM lowers a lane vector to one AVX-512 register, two of AVX2, four
of NEON.
"""

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from odyssey_core import arithmetic
from odyssey_core.backends.numba.traced import (
    FLOAT,
    FLOATS,
    FUNCTIONS,
    I32,
    I64,
    LANES,
    VECTOR,
    WORDS,
    Traced,
    Vector,
    as_vector,
    compiled_as,
    emit,
    on_lanes,
    primitive,
)


def load_vector(builder, pointer, vector=VECTOR):
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=4)


def store_vector(builder, value, pointer):
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=4)


def fma_vector(builder, a, b, c):
    return _call(builder, f"llvm.fma.v{a.type.count}f32", a, b, c)


def _call(builder, name, *operands):
    kind = ir.FunctionType(operands[0].type, [x.type for x in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), operands)


def _pick(builder, vector, indices):
    mask = ir.Constant(ir.VectorType(I32, len(indices)), list(indices))
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


def _sum_lanes(builder, vector):
    count = LANES
    while count > 1:
        count //= 2
        vector = builder.fadd(_pick(builder, vector, range(count)), _pick(builder, vector, range(count, 2 * count)))
    return builder.extract_element(vector, I32(0))


fma = primitive(FLOATS, FLOATS, fma_vector)(arithmetic.fma)


@primitive(FLOATS, FLOATS, lambda b, x: _call(b, "llvm.sqrt.v16f32", x))
def sqrt(x):
    return np.sqrt(x)


@primitive(FLOATS, FLOATS, lambda b, x: x)
def splat(x):
    """A float32 in all lanes."""
    return np.full(LANES, x, np.float32)


@primitive(WORDS, WORDS, lambda b, x: x)
def words(x):
    """The low 32 bits of an integer in all lanes."""
    return np.full(LANES, int(x) & 0xFFFFFFFF, np.uint32)


@primitive(FLOATS, FLOAT, _sum_lanes)
def total(x):
    """The sum of the lanes, halves folded onto each other: a fixed order of additions."""
    while len(x) > 1:
        x = x[: len(x) // 2] + x[len(x) // 2 :]
    return x[0]


@on_lanes
def where(mask, yes, no):
    """``yes`` in the lanes of the mask, ``no`` elsewhere."""
    if isinstance(mask, Traced):
        kind = next((x.kind for x in (yes, no) if isinstance(x, Traced) and isinstance(x.kind, Vector)), FLOATS)

        def generate(builder, yes, no):
            return builder.select(mask.value, yes, no)

        return emit(kind, kind, generate, *(x if isinstance(x, Traced) else _like(mask, kind, x) for x in (yes, no)))
    return np.where(mask, yes, no)


def _like(mask, kind, x):
    """A number as a vector beside a mask."""
    return Traced(mask.builder, None if mask.builder is None else as_vector(mask.builder, kind, x), kind)


@on_lanes
def at_least(x, low):
    """The larger of the two; a NaN in ``x`` stays, as in the one machine instruction that there is for it."""
    return where(low > x, low, x)


@on_lanes
def at_most(x, high):
    """The smaller of the two; a NaN in ``x`` stays."""
    return where(high < x, high, x)


@on_lanes
def maximum(x, y):
    """The larger, or the NaN where one of the two is one."""
    return where((x > y) | (x != x), x, y)


@on_lanes
def minimum(x, y):
    """The smaller, or the NaN where one of the two is one."""
    return where((x < y) | (x != x), x, y)


FUNCTIONS.update({arithmetic.fma: fma, np.sqrt: sqrt, np.maximum: maximum, np.minimum: minimum})


@primitive(WORDS, FLOATS, lambda b, x: b.bitcast(x, VECTOR))
def as_float(x):
    """The float32 of the same bits."""
    return x.view(np.float32)


@primitive(FLOATS, WORDS, lambda b, x: b.bitcast(x, WORDS.llvm))
def as_words(x):
    """The uint32 of the same bits."""
    return x.view(np.uint32)


@primitive(FLOATS, WORDS, lambda b, x: b.fptosi(x, WORDS.llvm))
def to_words(x):
    """Rounded towards zero; from -2**31 to below 2**31."""
    return x.astype(np.int32).view(np.uint32)


@primitive(WORDS, FLOATS, lambda b, x: b.sitofp(x, VECTOR))
def to_float(x):
    """The nearest float32 of a signed number."""
    return x.view(np.int32).astype(np.float32)


def _high(builder, x, y):
    wide = ir.VectorType(I64, LANES)
    product = builder.mul(builder.zext(x, wide), builder.zext(y, wide))
    return builder.trunc(builder.lshr(product, ir.Constant(wide, [32] * LANES)), WORDS.llvm)


@primitive(WORDS, WORDS, _high)
def high_word(x, y):
    """The upper 32 bits of the products."""
    return (np.multiply(x, y, dtype=np.uint64) >> np.uint64(32)).astype(np.uint32)


@compiled_as(
    lambda vector, lane, x: vector,
    lambda b, vector, lane, x: b.insert_element(vector, b.trunc(x, I32) if x.type == I64 else x, b.trunc(lane, I32)),
)
def insert(vector, lane, x):
    """The vector with another number in one lane."""
    changed = vector.copy()
    changed[lane] = x if vector.dtype == np.float32 else int(x) & 0xFFFFFFFF
    return changed
