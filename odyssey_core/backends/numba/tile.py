"""Register tiles: rows x columns of lane vectors as one Numba value, whose multiply-adds are emitted unrolled.

A tile is what a kernel keeps in registers while it walks the summed dimension. Its size changes the speed and never the
order in which an element's terms are added.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from odyssey_core.backends.numba.simd import (
    LANES,
    f32x16,
    fma_vector,
    load_vector,
    pointer_to,
    splat_vector,
    store_vector,
)


class _Tile(types.Type):
    """A register tile: rows x columns vectors of all lanes, or of some that lie side by side."""

    def __init__(self, rows: int, columns: int, lanes: int):
        self.rows, self.columns, self.lanes = rows, columns, lanes
        self.vector = ir.VectorType(ir.FloatType(), lanes)
        self.values = ir.ArrayType(self.vector, rows * columns)
        super().__init__(name=f"Tile({rows}, {columns}, {lanes})")


@register_model(_Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, fe_type.values)


def _tile_type(rows, columns, lanes):
    return _Tile(rows.literal_value, columns.literal_value, lanes.literal_value)


def _grid(kind):
    return [(i, j, i * kind.columns + j) for i in range(kind.rows) for j in range(kind.columns)]


def _offset(builder, start, *steps):
    """start + the sum of stride * count over (stride, count) pairs, count known now."""
    for stride, count in steps:
        start = builder.add(start, builder.mul(stride, ir.Constant(stride.type, count)))
    return start


@intrinsic(prefer_literal=True)
def tile_zero(typingctx, rows, columns, lanes):
    """A tile of zeros."""
    kind = _tile_type(rows, columns, lanes)

    def codegen(context, builder, sig, args):
        return ir.Constant(kind.values, None)

    return kind(rows, columns, lanes), codegen


@intrinsic(prefer_literal=True)
def tile_splat(typingctx, rows, columns, array, start):
    """Row i of the tile holds ``array[start + i]`` in all lanes."""
    kind = _Tile(rows.literal_value, columns.literal_value, LANES)

    def codegen(context, builder, sig, args):
        value = ir.Constant(kind.values, ir.Undefined)
        for i, _, k in _grid(kind):
            place = builder.add(args[3], ir.Constant(args[3].type, i))
            scalar = builder.load(pointer_to(context, builder, sig.args[2], args[2], place))
            value = builder.insert_value(value, splat_vector(builder, scalar), k)
        return value

    return kind(rows, columns, array, types.intp), codegen


def _accumulate(left):
    """An intrinsic adding (left i) * (vector j) to tile[i, j]; ``left(builder, pointer, vector)`` loads the factor."""

    def typed(typingctx, tile, array, lefts, left_stride, rights, right_stride):
        def codegen(context, builder, sig, args):
            value, array, lefts, left_stride, rights, right_stride = args
            kind = sig.args[0]

            def pointer(start, stride, count):
                return pointer_to(context, builder, sig.args[1], array, _offset(builder, start, (stride, count)))

            columns = [load_vector(builder, pointer(rights, right_stride, j), kind.vector) for j in range(kind.columns)]
            for i in range(kind.rows):
                factor = left(builder, pointer(lefts, left_stride, i), kind.vector)
                for j, column in enumerate(columns):
                    k = i * kind.columns + j
                    total = fma_vector(builder, factor, column, builder.extract_value(value, k))
                    value = builder.insert_value(value, total, k)
            return value

        integer = types.intp
        return tile(tile, array, integer, integer, integer, integer), codegen

    return intrinsic(typed)


# tile[i, j] += array[lefts + i left_stride] * the vector at array[rights + j right_stride].
tile_outer = _accumulate(lambda builder, pointer, vector: splat_vector(builder, builder.load(pointer), vector))
# tile[i, j] += the vector at array[lefts + i left_stride] * the vector at array[rights + j right_stride].
tile_inner = _accumulate(load_vector)


@intrinsic
def tile_scaled(typingctx, tile, array, factor, start, row_stride):
    """tile[i, j] += array[factor] * the j-th vector after array[start + i row_stride], vectors side by side."""

    def codegen(context, builder, sig, args):
        value, array, factor, start, row_stride = args
        kind = sig.args[0]
        scalar = builder.load(pointer_to(context, builder, sig.args[1], array, factor))
        left = splat_vector(builder, scalar, kind.vector)
        for i, j, k in _grid(kind):
            place = builder.add(_offset(builder, start, (row_stride, i)), start.type(j * kind.lanes))
            right = load_vector(builder, pointer_to(context, builder, sig.args[1], array, place), kind.vector)
            total = fma_vector(builder, left, right, builder.extract_value(value, k))
            value = builder.insert_value(value, total, k)
        return value

    return tile(tile, array, *[types.intp] * 3), codegen


@intrinsic(prefer_literal=True)
def add_scaled(typingctx, rows, columns, lanes, array, factor, source, source_stride, target, target_stride):
    """A tile of vectors in memory at ``target`` += array[factor] * the one at ``source``; a row's lie side by side."""
    kind = _tile_type(rows, columns, lanes)

    def codegen(context, builder, sig, args):
        *_, array, factor, source, source_stride, target, target_stride = args
        scalar = builder.load(pointer_to(context, builder, sig.args[3], array, factor))
        left = splat_vector(builder, scalar, kind.vector)
        for i, j, _ in _grid(kind):
            pointers = []
            for start, stride in ((source, source_stride), (target, target_stride)):
                place = builder.add(_offset(builder, start, (stride, i)), start.type(j * kind.lanes))
                pointers.append(pointer_to(context, builder, sig.args[3], array, place))
            term, old = (load_vector(builder, pointer, kind.vector) for pointer in pointers)
            store_vector(builder, fma_vector(builder, left, term, old), pointers[1])
        return context.get_dummy_value()

    return types.void(rows, columns, lanes, array, *[types.intp] * 5), codegen


@intrinsic
def tile_store(typingctx, tile, array, start, row_stride, column_stride, low):
    """Writes the tile's vectors, none of their elements below ``low`` (a vector)."""

    def codegen(context, builder, sig, args):
        value, array, start, row_stride, column_stride, low = args
        for i, j, k in _grid(sig.args[0]):
            vector = builder.extract_value(value, k)
            vector = builder.select(builder.fcmp_ordered(">", low, vector), low, vector)
            place = _offset(builder, start, (row_stride, i), (column_stride, j))
            store_vector(builder, vector, pointer_to(context, builder, sig.args[1], array, place))
        return context.get_dummy_value()

    integer = types.intp
    return types.void(tile, array, integer, integer, integer, f32x16), codegen


@intrinsic
def tile_store_where(typingctx, tile, array, start, row_stride, column_stride, gate):
    """Writes the tile's vectors, 0 where the vector at the same place relative to ``gate`` is not above 0."""

    def codegen(context, builder, sig, args):
        value, array, start, row_stride, column_stride, gate = args
        zero = ir.Constant(sig.args[0].vector, None)
        for i, j, k in _grid(sig.args[0]):
            steps = (row_stride, i), (column_stride, j)
            open_ = load_vector(
                builder, pointer_to(context, builder, sig.args[1], array, _offset(builder, gate, *steps))
            )
            kept = builder.select(builder.fcmp_ordered(">", open_, zero), builder.extract_value(value, k), zero)
            store_vector(
                builder, kept, pointer_to(context, builder, sig.args[1], array, _offset(builder, start, *steps))
            )
        return context.get_dummy_value()

    integer = types.intp
    return types.void(tile, array, integer, integer, integer, integer), codegen


@intrinsic
def tile_add(typingctx, tile, array, start, row_stride, column_stride, skip_rows, skip_columns, fresh):
    """Adds the tile's vectors to the array, or writes them where ``fresh``.

    Tiles at an edge overlap their neighbours: the first ``skip_rows`` and ``skip_columns``, which a neighbour has added
    already, are left out, so that nothing is added twice.
    """

    def codegen(context, builder, sig, args):
        value, array, start, row_stride, column_stride, skip_rows, skip_columns, fresh = args
        fresh = builder.icmp_unsigned("!=", fresh, ir.Constant(fresh.type, 0))
        for i, j, k in _grid(sig.args[0]):
            row = builder.icmp_signed("<=", skip_rows, ir.Constant(skip_rows.type, i))
            column = builder.icmp_signed("<=", skip_columns, ir.Constant(skip_columns.type, j))
            with builder.if_then(builder.and_(row, column)):
                place = _offset(builder, start, (row_stride, i), (column_stride, j))
                pointer = pointer_to(context, builder, sig.args[1], array, place)
                term = builder.extract_value(value, k)
                total = builder.fadd(load_vector(builder, pointer, term.type), term)
                store_vector(builder, builder.select(fresh, term, total), pointer)
        return context.get_dummy_value()

    integer = types.intp
    return types.void(tile, array, *[integer] * 5, types.boolean), codegen
