"""Register tiles loaded from a patch of an image, which its border may cut, and lines of the cache fetched for them."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from odyssey_core.backends.numba.memory import offset
from odyssey_core.backends.numba.register_tile import indices, sized
from odyssey_core.backends.numba.traced import F32, HALF, I1, I32, LANES, register, splat_vector
from odyssey_core.backends.numba.vector import load_vector


def _zeros(builder, count):
    """The address of so many zeros."""
    name, zeros = f"zeros_{count}", ir.Constant(ir.ArrayType(F32, count), None)
    found = builder.module.globals.get(name) or cgutils.global_constant(builder.module, name, zeros)
    found.align = 64
    return builder.bitcast(found, F32.as_pointer())


def _masked_load(builder, pointer, vector, here):
    """The vector where ``here`` is true; else zeros, and nothing is read."""
    mask = splat_vector(builder, here, ir.VectorType(I1, vector.count))
    kind = ir.FunctionType(vector, [pointer.type, I32, mask.type, vector])
    load = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.load.v{vector.count}f32.p0")
    return builder.call(load, [pointer, I32(4), mask, ir.Constant(vector, None)])


def _patch(builder, kinds, values):
    kind, apart = sized(*kinds[:3]), kinds[6]
    *_, memory, start, row_stride, column_stride, top, bottom, left, right = values

    def inside(first, end, count):
        places = [ir.Constant(first.type, i) for i in range(count)]
        return [builder.and_(builder.icmp_signed("<=", first, i), builder.icmp_signed("<", i, end)) for i in places]

    # An address for each row and a mask for each column: with an address for each vector ResNet-20 trains 4 % slower.
    # Short registers have no masks.
    masked = isinstance(apart, types.IntegerLiteral) and kind.lanes >= HALF
    zeros = _zeros(builder, kind.lanes + ((kind.columns - 1) * apart.literal_value if masked else 0))
    across, tile = inside(left, right, kind.columns), ir.Constant(kind.llvm, ir.Undefined)
    for i, here in enumerate(inside(top, bottom, kind.rows)):
        line = builder.gep(memory, [offset(builder, start, (row_stride, i))])
        line = builder.select(here, line, zeros) if masked else line
        for j, also in enumerate(across):
            pointer = builder.gep(line, [builder.mul(column_stride, column_stride.type(j))])
            if masked:
                vector = _masked_load(builder, pointer, kind.vector, also)
            else:
                vector = load_vector(builder, builder.select(builder.and_(here, also), pointer, zeros), kind.vector)
            tile = builder.insert_value(tile, vector, i * kind.columns + j)
    return tile


def tile_patch(rows, columns, lanes, memory, start, row_stride, column_stride, top, bottom, left, right):
    """The vectors at ``memory[start + i row_stride + j column_stride]``.

    Zeros where i is not in [top, bottom) or j is not in [left, right): nothing is read there.
    """
    value = np.zeros((rows, columns, lanes), np.float32)
    places = indices((rows, columns, lanes), start, row_stride, column_stride)[top:bottom, left:right]
    value[top:bottom, left:right] = memory[places]
    return value


register(tile_patch, lambda *kinds: sized(*kinds[:3]), _patch)


def _prefetch(written):
    """Code that has the lines of a tile fetched, to be read or to be written."""

    def generate(builder, kinds, values):
        kind, (_, _, memory, start, row_stride, column_stride) = sized(*kinds[:2], types.literal(LANES)), values
        byte = ir.IntType(8).as_pointer()
        prefetch = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32]), "llvm.prefetch.p0"
        )
        for i, j, _ in kind.grid():
            pointer = builder.gep(memory, [offset(builder, start, (row_stride, i), (column_stride, j))])
            builder.call(prefetch, [builder.bitcast(pointer, byte), I32(int(written)), I32(2), I32(1)])

    return generate


def _prefetched(rows, columns, *_):
    return sized(rows, columns, types.literal(LANES)) and types.void


def tile_fetch(rows, columns, memory, start, row_stride, column_stride):
    """Has the lines of a tile that will be read fetched. It never faults."""


def tile_expect(rows, columns, memory, start, row_stride, column_stride):
    """Has the lines of a tile that will be written fetched; stores that miss wait for each other. It never faults."""


register(tile_fetch, _prefetched, _prefetch(written=False))
register(tile_expect, _prefetched, _prefetch(written=True))
