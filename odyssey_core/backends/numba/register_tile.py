"""Register tiles: rows x columns of vectors as one value, whose multiply-adds are emitted unrolled.

A tile is what a kernel keeps in registers while it walks the summed dimension. Its size changes the speed and never the
order in which an element's terms are added. In plain Python a tile is an array (rows, columns, lanes) float32.
"""

import numpy as np
from llvmlite import ir
from numba import types
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


def sized(*sizes):
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


def indices(shape, start, row_stride, column_stride):
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


register(tile_zero, sized, lambda builder, kinds, values: ir.Constant(sized(*kinds).llvm, None))


def _splat(builder, kinds, values):
    kind, (_, _, memory, start) = sized(*kinds[:2], types.literal(LANES)), values
    value = ir.Constant(kind.llvm, ir.Undefined)
    for i, _, k in kind.grid():
        scalar = builder.load(builder.gep(memory, [builder.add(start, start.type(i))]))
        value = builder.insert_value(value, splat_vector(builder, scalar), k)
    return value


def tile_splat(rows, columns, memory, start):
    """Row i of the tile holds ``memory[start + i]`` in all lanes."""
    return np.broadcast_to(memory[start : start + rows][:, None, None], (rows, columns, LANES)).copy()


register(tile_splat, lambda rows, columns, memory, start: sized(rows, columns, types.literal(LANES)), _splat)


def _lines(builder, kinds, values):
    kind, (*_, memory, start, row_stride) = sized(*kinds[:3]), values
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
    return memory[indices((rows, columns, lanes), start, row_stride, lanes)]


register(tile_lines, lambda *kinds: sized(*kinds[:3]), _lines)


def _gather(builder, kinds, values):
    kind, (_, _, memory, start, row_stride, column_stride, apart, count) = (
        sized(*kinds[:2], types.literal(LANES)),
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
    places = indices((rows, columns, 1), start, row_stride, column_stride)
    return memory[places + apart * np.minimum(np.arange(LANES), count - 1)]


register(tile_gather, lambda rows, columns, *_: sized(rows, columns, types.literal(LANES)), _gather)


def _maximum(builder, kind, value, memory, start, row_stride):
    for i, j, k in kind.grid():
        x, y = builder.extract_value(value, k), _beside(builder, kind, memory, start, row_stride, i, j)
        kept = builder.or_(builder.fcmp_ordered(">", x, y), builder.fcmp_unordered("uno", x, x))
        value = builder.insert_value(value, builder.select(kept, x, y), k)
    return value


@on_tile(lambda tile: tile, _maximum)
def tile_maximum(tile, memory, start, row_stride):
    """The larger of the tile and of what `tile_lines` reads there, or the NaN where one of the two is one."""
    there = memory[indices(tile.shape, start, row_stride, tile.shape[2])]
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
    right = memory[indices((1, columns, lanes), rights, 0, right_stride)]
    return arithmetic.fma(left, right, tile)


@on_tile(lambda tile: tile, _accumulate(load_vector))
def tile_inner(tile, memory, lefts, left_stride, rights, right_stride):
    """tile[i, j] + the vector at memory[lefts + i left_stride] * the vector at memory[rights + j right_stride]."""
    rows, columns, lanes = tile.shape
    left = memory[indices((rows, 1, lanes), lefts, left_stride, 0)]
    right = memory[indices((1, columns, lanes), rights, 0, right_stride)]
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
    return arithmetic.fma(memory[factor], memory[indices(tile.shape, start, row_stride, tile.shape[2])], tile)


def _add_scaled(builder, kinds, values):
    kind = sized(*kinds[:3])
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
    terms = memory[indices((rows, columns, lanes), source, source_stride, lanes)]
    targets = indices((rows, columns, lanes), target, target_stride, lanes)
    memory[targets] = arithmetic.fma(memory[factor], terms, memory[targets])


register(add_scaled, lambda *kinds: None if sized(*kinds[:3]) is None else types.void, _add_scaled)


def _normalized(builder, kind, value, memory, start, step, pitch):
    for i in range(kind.rows):
        places = [offset(builder, start, (step, i), (pitch, n)) for n in range(4)]
        middle, inverse, scale, shift = (
            splat_vector(builder, builder.load(builder.gep(memory, [at])), kind.vector) for at in places
        )
        for k in range(i * kind.columns, (i + 1) * kind.columns):
            apart = builder.fmul(builder.fsub(builder.extract_value(value, k), middle), inverse)
            value = builder.insert_value(value, fma_vector(builder, apart, scale, shift), k)
    return value


@on_tile(lambda tile: tile, _normalized)
def tile_normalized(tile, memory, start, step, pitch):
    """(tile - mean) inverse scale + shift, row i with the four numbers at memory[start + i step], ``pitch`` apart."""
    places = start + step * np.arange(tile.shape[0])[:, None, None]
    middle, inverse, scale, shift = (memory[places + n * pitch] for n in range(4))
    return arithmetic.fma((tile - middle) * inverse, scale, shift)


def _sum(builder, kind, value, other):
    for *_, k in kind.grid():
        summed = builder.fadd(builder.extract_value(other, k), builder.extract_value(value, k))
        value = builder.insert_value(value, summed, k)
    return value


@on_tile(lambda tile: tile, _sum)
def tile_sum(tile, other):
    """The sum of two tiles of one size."""
    return other + tile


def _each(builder, kind, symbol, row, column, corner):
    """(row, column, place) of every vector that compares so to both; where the ``corner`` does, all do."""

    def inside(i, j):
        pairs = (i, row), (j, column)
        return builder.and_(*[builder.icmp_signed(symbol, ir.Constant(end.type, at), end) for at, end in pairs])

    with builder.if_else(inside(*corner)) as (then, otherwise):
        with then:
            yield from kind.grid()
        with otherwise:
            for i, j, k in kind.grid():
                with builder.if_then(inside(i, j)):
                    yield i, j, k


def _each_stored(builder, kind, value, rows, columns):
    """(row, column, vector) of what is stored: all, or what lies in the first ``rows`` and ``columns``."""
    last = kind.rows - 1, kind.columns - 1
    for i, j, k in kind.grid() if rows is None else _each(builder, kind, "<", rows, columns, last):
        yield i, j, builder.extract_value(value, k)


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
    memory[indices(tile.shape, start, row_stride, column_stride)] = np.where(low > tile, low, tile)


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
    open_ = memory[indices(tile.shape, gate, row_stride, column_stride)]
    memory[indices(tile.shape, start, row_stride, column_stride)] = np.where(open_ > 0, tile, np.float32(0))


def _add(builder, kind, value, memory, start, row_stride, column_stride, skip_rows, skip_columns, fresh):
    fresh = builder.icmp_unsigned("!=", fresh, ir.Constant(fresh.type, 0))
    for i, j, k in _each(builder, kind, ">=", skip_rows, skip_columns, (0, 0)):
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
    places = indices(tile.shape, start, row_stride, column_stride)[skip_rows:, skip_columns:]
    term = tile[skip_rows:, skip_columns:]
    memory[places] = term if fresh else memory[places] + term
