"""Register tiles: rows x columns of vectors as one value, whose multiply-adds are emitted unrolled.

A tile is what a kernel keeps in registers while it walks the summed dimension. Its size changes the speed and never the
order in which an element's terms are added. In plain Python a tile is an array (rows, columns, lanes) float32.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model

from odyssey_core import arithmetic
from odyssey_core.backends.numba.memory import offset
from odyssey_core.backends.numba.traced import F32, I32, LANES, register, splat_vector
from odyssey_core.backends.numba.vector import fma_vector, load_vector, store_vector


class Tile(types.Type):
    """A register tile: rows x columns vectors of all lanes, or of some that lie side by side."""

    def __init__(self, rows: int, columns: int, lanes: int):
        self.rows, self.columns, self.lanes = rows, columns, lanes
        self.vector = ir.VectorType(F32, lanes)
        self.llvm = ir.ArrayType(self.vector, rows * columns)
        super().__init__(name=f"Tile({rows}, {columns}, {lanes})")

    def grid(self):
        """(row, column, place among all) of every vector."""
        return [(i, j, i * self.columns + j) for i in range(self.rows) for j in range(self.columns)]


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.llvm)


def _sized(*sizes):
    """The tile of sizes that are known when a kernel is compiled, else None."""
    known = all(isinstance(size, types.IntegerLiteral) for size in sizes)
    return Tile(*[size.literal_value for size in sizes]) if known else None


def on_tile(result, generate):
    """Decorates a primitive whose first operand is a tile: ``generate(builder, its type, *LLVM values)``."""

    def typed(tile, *kinds):
        return result(tile) if isinstance(tile, Tile) else None

    def decorate(function):
        def aligned(builder, kinds, values):
            # Spilled vectors then lie within a cache line each: across two, the transforms take half as long again.
            builder.function.attributes.alignstack = 64
            builder.function.attributes.add("nounwind")  # llvmlite writes the alignment beside another attribute alone
            return generate(builder, kinds[0], *values)

        register(function, typed, aligned)
        return function

    return decorate


def _indices(shape, start, row_stride, column_stride):
    """Where the elements of a tile of (rows, columns, lanes) lie."""
    rows, columns, lanes = shape
    return (
        start
        + row_stride * np.arange(rows)[:, None, None]
        + column_stride * np.arange(columns)[:, None]
        + np.arange(lanes)
    )


def tile_zero(rows, columns, lanes):
    """A tile of zeros."""
    return np.zeros((rows, columns, lanes), np.float32)


register(tile_zero, _sized, lambda builder, kinds, values: ir.Constant(_sized(*kinds).llvm, None))


def _splat(builder, kinds, values):
    kind, (_, _, memory, start) = _sized(*kinds[:2], types.literal(LANES)), values
    value = ir.Constant(kind.llvm, ir.Undefined)
    for i, _, k in kind.grid():
        scalar = builder.load(builder.gep(memory, [builder.add(start, start.type(i))]))
        value = builder.insert_value(value, splat_vector(builder, scalar), k)
    return value


def tile_splat(rows, columns, memory, start):
    """Row i of the tile holds ``memory[start + i]`` in all lanes."""
    return np.broadcast_to(memory[start : start + rows][:, None, None], (rows, columns, LANES)).copy()


register(tile_splat, lambda rows, columns, memory, start: _sized(rows, columns, types.literal(LANES)), _splat)


def _lines(builder, kinds, values):
    kind, (*_, memory, start, row_stride) = _sized(*kinds[:3]), values
    value = ir.Constant(kind.llvm, ir.Undefined)
    for i, j, k in kind.grid():
        value = builder.insert_value(value, _beside(builder, kind, memory, start, row_stride, i, j), k)
    return value


def _beside(builder, kind, memory, start, row_stride, i, j):
    """The j-th of the vectors that lie side by side from row i on."""
    at = builder.add(offset(builder, start, (row_stride, i)), start.type(j * kind.lanes))
    return load_vector(builder, builder.gep(memory, [at]), kind.vector)


def tile_lines(rows, columns, lanes, memory, start, row_stride):
    """Row i of the tile holds the vectors that lie side by side from ``memory[start + i row_stride]`` on."""
    return memory[_indices((rows, columns, lanes), start, row_stride, lanes)]


register(tile_lines, lambda *kinds: _sized(*kinds[:3]), _lines)


def _zeros(builder, vector):
    """The address of a vector of zeros."""
    name, zeros = f"zeros_{vector.count}", ir.Constant(vector, None)
    found = builder.module.globals.get(name) or cgutils.global_constant(builder.module, name, zeros)
    return builder.bitcast(found, F32.as_pointer())


def _patch(builder, kinds, values):
    kind = _sized(*kinds[:3])
    *_, memory, start, row_stride, column_stride, top, bottom, left, right = values
    value, zeros = ir.Constant(kind.llvm, ir.Undefined), _zeros(builder, kind.vector)

    def inside(first, end, i):
        place = ir.Constant(first.type, i)
        return builder.and_(builder.icmp_signed("<=", first, place), builder.icmp_signed("<", place, end))

    for i, j, k in kind.grid():
        pointer = builder.gep(memory, [offset(builder, start, (row_stride, i), (column_stride, j))])
        here = builder.and_(inside(top, bottom, i), inside(left, right, j))
        vector = load_vector(builder, builder.select(here, pointer, zeros), kind.vector)
        value = builder.insert_value(value, vector, k)
    return value


def tile_patch(rows, columns, lanes, memory, start, row_stride, column_stride, top, bottom, left, right):
    """The vectors at ``memory[start + i row_stride + j column_stride]``.

    Zeros where i is not in [top, bottom) or j is not in [left, right): nothing is read there.
    """
    value = np.zeros((rows, columns, lanes), np.float32)
    places = _indices((rows, columns, lanes), start, row_stride, column_stride)[top:bottom, left:right]
    value[top:bottom, left:right] = memory[places]
    return value


register(tile_patch, lambda *kinds: _sized(*kinds[:3]), _patch)


def _prefetch(written):
    """Code that has the lines of a tile fetched, to be read or to be written."""

    def generate(builder, kinds, values):
        kind, (_, _, memory, start, row_stride, column_stride) = _sized(*kinds[:2], types.literal(LANES)), values
        byte = ir.IntType(8).as_pointer()
        prefetch = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32]), "llvm.prefetch.p0"
        )
        for i, j, _ in kind.grid():
            pointer = builder.gep(memory, [offset(builder, start, (row_stride, i), (column_stride, j))])
            builder.call(prefetch, [builder.bitcast(pointer, byte), I32(int(written)), I32(2), I32(1)])

    return generate


def _prefetched(rows, columns, *_):
    return _sized(rows, columns, types.literal(LANES)) and types.void


def tile_fetch(rows, columns, memory, start, row_stride, column_stride):
    """Has the lines of a tile that will be read fetched. It never faults."""


def tile_expect(rows, columns, memory, start, row_stride, column_stride):
    """Has the lines of a tile that will be written fetched; stores that miss wait for each other. It never faults."""


register(tile_fetch, _prefetched, _prefetch(written=False))
register(tile_expect, _prefetched, _prefetch(written=True))


def _gather(builder, kinds, values):
    kind, (_, _, memory, start, row_stride, column_stride, apart, count) = (
        _sized(*kinds[:2], types.literal(LANES)),
        values,
    )
    value, lanes = ir.Constant(kind.llvm, ir.Undefined), []
    for lane in range(LANES):
        lane = ir.Constant(count.type, lane)
        lane = builder.select(builder.icmp_signed("<", lane, count), lane, builder.sub(count, count.type(1)))
        lanes.append(builder.add(start, builder.mul(apart, lane)))
    for i, j, k in kind.grid():
        vector = ir.Constant(kind.vector, ir.Undefined)
        for lane, at in enumerate(lanes):
            scalar = builder.load(builder.gep(memory, [offset(builder, at, (row_stride, i), (column_stride, j))]))
            vector = builder.insert_element(vector, scalar, I32(lane))
        value = builder.insert_value(value, vector, k)
    return value


def tile_gather(rows, columns, memory, start, row_stride, column_stride, apart, count):
    """Lane k of vector (i, j) is ``memory[start + i row_stride + j column_stride + k apart]``.

    Lanes from ``count`` on hold what the last one before them does.
    """
    places = _indices((rows, columns, 1), start, row_stride, column_stride)
    return memory[places + apart * np.minimum(np.arange(LANES), count - 1)]


register(tile_gather, lambda rows, columns, *_: _sized(rows, columns, types.literal(LANES)), _gather)


def _maximum(builder, kind, value, memory, start, row_stride):
    for i, j, k in kind.grid():
        x, y = builder.extract_value(value, k), _beside(builder, kind, memory, start, row_stride, i, j)
        kept = builder.or_(builder.fcmp_ordered(">", x, y), builder.fcmp_unordered("uno", x, x))
        value = builder.insert_value(value, builder.select(kept, x, y), k)
    return value


@on_tile(lambda tile: tile, _maximum)
def tile_maximum(tile, memory, start, row_stride):
    """The larger of the tile and of what `tile_lines` reads there, or the NaN where one of the two is one."""
    there = memory[_indices(tile.shape, start, row_stride, tile.shape[2])]
    return np.where((tile > there) | (tile != tile), tile, there)


def _accumulate(left):
    """Code adding (left i) * (vector j) to tile[i, j]; ``left(builder, pointer, vector)`` loads the factor."""

    def generate(builder, kind, value, memory, lefts, left_stride, rights, right_stride):
        def pointer(start, stride, count):
            return builder.gep(memory, [offset(builder, start, (stride, count))])

        columns = [load_vector(builder, pointer(rights, right_stride, j), kind.vector) for j in range(kind.columns)]
        for i in range(kind.rows):
            factor = left(builder, pointer(lefts, left_stride, i), kind.vector)
            for j, column in enumerate(columns):
                k = i * kind.columns + j
                value = builder.insert_value(
                    value, fma_vector(builder, factor, column, builder.extract_value(value, k)), k
                )
        return value

    return generate


@on_tile(lambda tile: tile, _accumulate(lambda b, pointer, vector: splat_vector(b, b.load(pointer), vector)))
def tile_outer(tile, memory, lefts, left_stride, rights, right_stride):
    """tile[i, j] + memory[lefts + i left_stride] * the vector at memory[rights + j right_stride]."""
    rows, columns, lanes = tile.shape
    left = memory[lefts + left_stride * np.arange(rows)][:, None, None]
    right = memory[_indices((1, columns, lanes), rights, 0, right_stride)]
    return arithmetic.fma(left, right, tile)


@on_tile(lambda tile: tile, _accumulate(load_vector))
def tile_inner(tile, memory, lefts, left_stride, rights, right_stride):
    """tile[i, j] + the vector at memory[lefts + i left_stride] * the vector at memory[rights + j right_stride]."""
    rows, columns, lanes = tile.shape
    left = memory[_indices((rows, 1, lanes), lefts, left_stride, 0)]
    right = memory[_indices((1, columns, lanes), rights, 0, right_stride)]
    return arithmetic.fma(left, right, tile)


def _scaled(builder, kind, value, memory, factor, start, row_stride):
    left = splat_vector(builder, builder.load(builder.gep(memory, [factor])), kind.vector)
    for i, j, k in kind.grid():
        place = builder.add(offset(builder, start, (row_stride, i)), start.type(j * kind.lanes))
        right = load_vector(builder, builder.gep(memory, [place]), kind.vector)
        value = builder.insert_value(value, fma_vector(builder, left, right, builder.extract_value(value, k)), k)
    return value


@on_tile(lambda tile: tile, _scaled)
def tile_scaled(tile, memory, factor, start, row_stride):
    """tile[i, j] + memory[factor] * the j-th vector after memory[start + i row_stride], vectors side by side."""
    return arithmetic.fma(memory[factor], memory[_indices(tile.shape, start, row_stride, tile.shape[2])], tile)


def _add_scaled(builder, kinds, values):
    kind = _sized(*kinds[:3])
    *_, memory, factor, source, source_stride, target, target_stride = values
    left = splat_vector(builder, builder.load(builder.gep(memory, [factor])), kind.vector)
    for i, j, _ in kind.grid():
        pointers = []
        for start, stride in ((source, source_stride), (target, target_stride)):
            place = builder.add(offset(builder, start, (stride, i)), start.type(j * kind.lanes))
            pointers.append(builder.gep(memory, [place]))
        term, old = (load_vector(builder, pointer, kind.vector) for pointer in pointers)
        store_vector(builder, fma_vector(builder, left, term, old), pointers[1])


def add_scaled(rows, columns, lanes, memory, factor, source, source_stride, target, target_stride):
    """A tile of vectors in memory at ``target`` += memory[factor] * the one at ``source``; a row's lie side by side."""
    terms = memory[_indices((rows, columns, lanes), source, source_stride, lanes)]
    targets = _indices((rows, columns, lanes), target, target_stride, lanes)
    memory[targets] = arithmetic.fma(memory[factor], terms, memory[targets])


register(add_scaled, lambda *kinds: None if _sized(*kinds[:3]) is None else types.void, _add_scaled)


def _sum(builder, kind, value, other):
    for *_, k in kind.grid():
        summed = builder.fadd(builder.extract_value(other, k), builder.extract_value(value, k))
        value = builder.insert_value(value, summed, k)
    return value


@on_tile(lambda tile: tile, _sum)
def tile_sum(tile, other):
    """The sum of two tiles of one size."""
    return other + tile


def _each_stored(builder, kind, value, rows, columns):
    """(row, column, vector) of what is stored: all, or what lies in the first ``rows`` and ``columns``."""
    for i, j, k in kind.grid():
        vector = builder.extract_value(value, k)
        if rows is None:
            yield i, j, vector
        else:
            row = builder.icmp_signed("<", ir.Constant(rows.type, i), rows)
            column = builder.icmp_signed("<", ir.Constant(columns.type, j), columns)
            with builder.if_then(builder.and_(row, column)):
                yield i, j, vector


def _store(builder, kind, value, memory, start, row_stride, column_stride, low, rows=None, columns=None):
    low = builder.shuffle_vector(low, low, ir.Constant(ir.VectorType(I32, kind.lanes), [*range(kind.lanes)]))
    for i, j, vector in _each_stored(builder, kind, value, rows, columns):
        vector = builder.select(builder.fcmp_ordered(">", low, vector), low, vector)
        store_vector(
            builder, vector, builder.gep(memory, [offset(builder, start, (row_stride, i), (column_stride, j))])
        )


@on_tile(lambda tile: types.void, _store)
def tile_store(tile, memory, start, row_stride, column_stride, low, rows=None, columns=None):
    """Writes the tile's vectors, none of their elements below ``low`` (a vector); or its first rows and columns."""
    low, tile = low[: tile.shape[2]], tile[:rows, :columns]
    memory[_indices(tile.shape, start, row_stride, column_stride)] = np.where(low > tile, low, tile)


def _store_where(builder, kind, value, memory, start, row_stride, column_stride, gate, rows=None, columns=None):
    zero = ir.Constant(kind.vector, None)
    for i, j, vector in _each_stored(builder, kind, value, rows, columns):
        steps = (row_stride, i), (column_stride, j)
        open_ = load_vector(builder, builder.gep(memory, [offset(builder, gate, *steps)]), kind.vector)
        kept = builder.select(builder.fcmp_ordered(">", open_, zero), vector, zero)
        store_vector(builder, kept, builder.gep(memory, [offset(builder, start, *steps)]))


@on_tile(lambda tile: types.void, _store_where)
def tile_store_where(tile, memory, start, row_stride, column_stride, gate, rows=None, columns=None):
    """As `tile_store`, but 0 where the vector at the same place relative to ``gate`` is not above 0."""
    tile = tile[:rows, :columns]
    open_ = memory[_indices(tile.shape, gate, row_stride, column_stride)]
    memory[_indices(tile.shape, start, row_stride, column_stride)] = np.where(open_ > 0, tile, np.float32(0))


def _add(builder, kind, value, memory, start, row_stride, column_stride, skip_rows, skip_columns, fresh):
    fresh = builder.icmp_unsigned("!=", fresh, ir.Constant(fresh.type, 0))
    for i, j, k in kind.grid():
        row = builder.icmp_signed("<=", skip_rows, ir.Constant(skip_rows.type, i))
        column = builder.icmp_signed("<=", skip_columns, ir.Constant(skip_columns.type, j))
        with builder.if_then(builder.and_(row, column)):
            pointer = builder.gep(memory, [offset(builder, start, (row_stride, i), (column_stride, j))])
            term = builder.extract_value(value, k)
            summed = builder.fadd(load_vector(builder, pointer, term.type), term)
            store_vector(builder, builder.select(fresh, term, summed), pointer)


@on_tile(lambda tile: types.void, _add)
def tile_add(tile, memory, start, row_stride, column_stride, skip_rows, skip_columns, fresh):
    """Adds the tile's vectors to memory, or writes them where ``fresh``.

    Tiles at an edge overlap their neighbours: the first ``skip_rows`` and ``skip_columns``, which a neighbour has added
    already, are left out, so that nothing is added twice.
    """
    places = _indices(tile.shape, start, row_stride, column_stride)[skip_rows:, skip_columns:]
    term = tile[skip_rows:, skip_columns:]
    memory[places] = term if fresh else memory[places] + term
