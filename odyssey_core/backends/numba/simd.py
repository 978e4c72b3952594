"""Explicit vectors for Numba: sixteen float32 or uint32 lanes, and ways from and to vectors of eight channels.

The types' data models are LLVM's ``<16 x float>`` and ``<16 x i32>``, so what a kernel writes is what the machine does:
no fast-math, no auto-vectoriser, the same operations in the same order on every CPU. LLVM lowers a lane vector to one
AVX-512 register, two of AVX2, four of NEON.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

LANES, HALF = 16, 8
I32 = ir.IntType(32)
VECTOR, EIGHT = ir.VectorType(ir.FloatType(), LANES), ir.VectorType(ir.FloatType(), HALF)
INTEGERS = ir.VectorType(I32, LANES)
WIDE = ir.VectorType(ir.IntType(64), LANES)
LANE = ir.VectorType(I32, LANES)


class _Lanes(types.Type):
    """A vector of LANES elements."""


f32x16 = _Lanes(name="f32x16")
u32x16 = _Lanes(name="u32x16")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, VECTOR if fe_type.name == "f32x16" else INTEGERS)


def pointer_to(context, builder, array_type, array, index):
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def load_vector(builder, pointer, vector=VECTOR):
    loaded = builder.load(builder.bitcast(pointer, vector.as_pointer()))
    loaded.align = 4
    return loaded


def store_vector(builder, value, pointer):
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer())).align = 4


def splat_vector(builder, scalar, vector=VECTOR):
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count))


def _pick(builder, vector, indices):
    mask = ir.Constant(ir.VectorType(I32, len(indices)), list(indices))
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


def sum_lanes(builder, vector):
    """Halves folded onto each other: a fixed order of additions."""
    count = LANES
    while count > 1:
        count //= 2
        vector = builder.fadd(_pick(builder, vector, range(count)), _pick(builder, vector, range(count, 2 * count)))
    return builder.extract_element(vector, ir.Constant(I32, 0))


def _call(builder, name, *operands):
    kind = ir.FunctionType(operands[0].type, [x.type for x in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), operands)


def fma_vector(builder, a, b, c):
    return _call(builder, f"llvm.fma.v{a.type.count}f32", a, b, c)


def _define(result, operands, generate):
    """An intrinsic on vectors and scalars of fixed types: ``generate(builder, *values) -> value``."""

    def codegen(context, builder, sig, args):
        return generate(builder, *args)

    typed = result(*operands), codegen
    # `intrinsic` takes the number of operands from the function's own parameters.
    functions = [
        lambda typingctx, a: typed,
        lambda typingctx, a, b: typed,
        lambda typingctx, a, b, c: typed,
        lambda typingctx, a, b, c, d: typed,
    ]
    return intrinsic(functions[len(operands) - 1])


def _select(compare):
    return lambda b, x, y, yes, no: b.select(b.fcmp_ordered(compare, x, y), yes, no)


add = _define(f32x16, [f32x16] * 2, lambda b, x, y: b.fadd(x, y))
sub = _define(f32x16, [f32x16] * 2, lambda b, x, y: b.fsub(x, y))
mul = _define(f32x16, [f32x16] * 2, lambda b, x, y: b.fmul(x, y))
div = _define(f32x16, [f32x16] * 2, lambda b, x, y: b.fdiv(x, y))
fma = _define(f32x16, [f32x16] * 3, fma_vector)
sqrt = _define(f32x16, [f32x16], lambda b, x: _call(b, "llvm.sqrt.v16f32", x))
splat = _define(f32x16, [types.float32], splat_vector)
total = _define(types.float32, [f32x16], sum_lanes)
# A NaN in the first operand stays: not (low > x) keeps x. The form that one machine instruction has.
at_least = _define(f32x16, [f32x16] * 2, lambda b, x, low: b.select(b.fcmp_ordered(">", low, x), low, x))
at_most = _define(f32x16, [f32x16] * 2, lambda b, x, high: b.select(b.fcmp_ordered("<", high, x), high, x))
# The larger, or the NaN where one of the two is one.
maximum = _define(
    f32x16,
    [f32x16] * 2,
    lambda b, x, y: b.select(b.or_(b.fcmp_ordered(">", x, y), b.fcmp_unordered("uno", x, x)), x, y),
)
where_greater = _define(f32x16, [f32x16] * 4, _select(">"))
where_equal = _define(f32x16, [f32x16] * 4, _select("=="))

u_splat = _define(u32x16, [types.uint32], lambda b, x: splat_vector(b, x, INTEGERS))
u_add = _define(u32x16, [u32x16] * 2, lambda b, x, y: b.add(x, y))
u_xor = _define(u32x16, [u32x16] * 2, lambda b, x, y: b.xor(x, y))
u_mul = _define(u32x16, [u32x16] * 2, lambda b, x, y: b.mul(x, y))
u_shift_left = _define(u32x16, [u32x16] * 2, lambda b, x, y: b.shl(x, y))
u_shift_right = _define(u32x16, [u32x16] * 2, lambda b, x, y: b.lshr(x, y))
u_and = _define(u32x16, [u32x16] * 2, lambda b, x, y: b.and_(x, y))
u_as_float = _define(f32x16, [u32x16], lambda b, x: b.bitcast(x, VECTOR))
as_integer = _define(u32x16, [f32x16], lambda b, x: b.bitcast(x, INTEGERS))
u_from_float = _define(u32x16, [f32x16], lambda b, x: b.fptosi(x, INTEGERS))
u_to_float = _define(f32x16, [u32x16], lambda b, x: b.sitofp(x, VECTOR))
u_where_equal = _define(
    u32x16, [f32x16, f32x16, u32x16, u32x16], lambda b, x, y, yes, no: b.select(b.fcmp_ordered("==", x, y), yes, no)
)
where_below = _define(
    f32x16, [u32x16, u32x16, f32x16, f32x16], lambda b, x, y, yes, no: b.select(b.icmp_unsigned("<", x, y), yes, no)
)


def _high(builder, x, y):
    product = builder.mul(builder.zext(x, WIDE), builder.zext(y, WIDE))
    return builder.trunc(builder.lshr(product, ir.Constant(WIDE, [32] * LANES)), INTEGERS)


u_mul_high = _define(u32x16, [u32x16] * 2, _high)
u_insert = _define(
    u32x16, [u32x16, types.intp, types.uint32], lambda b, v, i, x: b.insert_element(v, x, b.trunc(i, I32))
)
insert = _define(
    f32x16, [f32x16, types.intp, types.float32], lambda b, v, i, x: b.insert_element(v, x, b.trunc(i, I32))
)
float_of = _define(types.float32, [types.int64], lambda b, x: b.bitcast(b.trunc(x, I32), ir.FloatType()))


@intrinsic
def load(typingctx, array, index):
    """Sixteen consecutive float32 from a flat array."""

    def codegen(context, builder, sig, args):
        return load_vector(builder, pointer_to(context, builder, sig.args[0], *args))

    return f32x16(array, types.intp), codegen


@intrinsic
def store(typingctx, array, index, vector):
    """Writes sixteen consecutive float32."""

    def codegen(context, builder, sig, args):
        store_vector(builder, args[2], pointer_to(context, builder, sig.args[0], *args[:2]))
        return context.get_dummy_value()

    return types.void(array, types.intp, f32x16), codegen


@intrinsic
def gather(typingctx, array, base, indices):
    """The float32 at ``base + indices[k]`` for each lane k; indices are uint32 below 2**31."""

    def codegen(context, builder, sig, args):
        array, base, indices = args
        vector = ir.Constant(VECTOR, ir.Undefined)
        for k in range(LANES):
            lane = ir.Constant(I32, k)
            index = builder.add(base, builder.zext(builder.extract_element(indices, lane), base.type))
            value = builder.load(pointer_to(context, builder, sig.args[0], array, index))
            vector = builder.insert_element(vector, value, lane)
        return vector

    return f32x16(array, types.intp, u32x16), codegen


@intrinsic
def transpose(typingctx, source, position, stride, target, start, pitch):
    """Writes the 16 x 16 block whose rows start ``stride`` apart transposed, its rows ``pitch`` apart."""

    def codegen(context, builder, sig, args):
        source, position, stride, target, start, pitch = args
        # Blocks of 8 x 8 fit AVX2's registers; the 16 x 16 at once took three times as long there.
        for top, left in ((0, 0), (0, 8), (8, 0), (8, 8)):
            rows = []
            for i in range(8):
                at = builder.add(position, builder.mul(stride, stride.type(top + i)))
                at = builder.add(at, stride.type(left))
                rows.append(load_vector(builder, pointer_to(context, builder, sig.args[0], source, at), EIGHT))
            for i, row in enumerate(_transposed(builder, rows)):
                at = builder.add(start, builder.mul(pitch, pitch.type(left + i)))
                at = builder.add(at, pitch.type(top))
                store_vector(builder, row, pointer_to(context, builder, sig.args[3], target, at))
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), codegen


@intrinsic
def unsigned_at(typingctx, array, index):
    """The uint32 whose bits an element holds."""

    def codegen(context, builder, sig, args):
        bits = builder.bitcast(builder.load(pointer_to(context, builder, sig.args[0], *args)), I32)
        return builder.zext(bits, ir.IntType(64))

    return types.intp(array, types.intp), codegen


@intrinsic
def set_unsigned(typingctx, array, index, value):
    """Writes the low 32 bits of an integer into an element."""

    def codegen(context, builder, sig, args):
        pointer = pointer_to(context, builder, sig.args[0], *args[:2])
        builder.store(builder.bitcast(builder.trunc(args[2], I32), ir.FloatType()), pointer)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), codegen


@intrinsic
def store_pairs(typingctx, array, index, values, places):
    """Writes sixteen float32, each followed by the uint32 of its lane."""

    def codegen(context, builder, sig, args):
        array, index, values, places = args
        mask = ir.Constant(ir.VectorType(I32, 2 * LANES), [k // 2 + LANES * (k % 2) for k in range(2 * LANES)])
        pairs = builder.shuffle_vector(values, builder.bitcast(places, VECTOR), mask)
        store_vector(builder, pairs, pointer_to(context, builder, sig.args[0], array, index))
        return context.get_dummy_value()

    return types.void(array, types.intp, f32x16, u32x16), codegen


@intrinsic
def push(typingctx, array, source, target):
    """Copies a pair as `store_pairs` wrote it; 1, or 0 where its float is 0.

    What comes next is written over a pair of 0: without a branch, which no processor could foresee.
    """

    def codegen(context, builder, sig, args):
        pair = ir.IntType(64)
        source, target = (
            builder.bitcast(pointer_to(context, builder, sig.args[0], args[0], at), pair.as_pointer())
            for at in args[1:]
        )
        bits = builder.load(source, align=4)
        builder.store(bits, target, align=4)
        alive = builder.icmp_unsigned("!=", builder.and_(bits, pair(0x7FFFFFFF)), pair(0))
        return builder.zext(alive, pair)

    return types.intp(array, types.intp, types.intp), codegen


def _rows_of_eight(builder, start, stride, count):
    """Where eight rows start, ``stride`` apart; the last of ``count`` stands for those behind it."""
    rows = []
    for i in range(HALF):
        row = ir.Constant(count.type, i)
        row = builder.select(builder.icmp_signed("<", row, count), row, builder.sub(count, count.type(1)))
        rows.append(builder.add(start, builder.mul(stride, row)))
    return rows


@intrinsic
def lanes_to_channels(typingctx, array, source, plane, channels, target, image):
    """From up to eight channels of sixteen images to sixteen images of eight channels, the last for those that lack.

    Channels lie ``plane`` apart, images ``image``.
    """

    def codegen(context, builder, sig, args):
        array, source, plane, channels, target, image = args
        sources = _rows_of_eight(builder, source, plane, channels)
        for half in (0, HALF):
            places = [builder.add(at, at.type(half)) for at in sources]
            pointers = [pointer_to(context, builder, sig.args[0], array, at) for at in places]
            rows = [load_vector(builder, pointer, EIGHT) for pointer in pointers]
            for i, row in enumerate(_transposed(builder, rows)):
                at = builder.add(target, builder.mul(image, image.type(half + i)))
                store_vector(builder, row, pointer_to(context, builder, sig.args[0], array, at))
        return context.get_dummy_value()

    return types.void(array, *[types.intp] * 5), codegen


@intrinsic
def channels_to_lanes(typingctx, array, source, image, target, plane, channels):
    """The way back from `lanes_to_channels`; channels behind the last are left out."""

    def codegen(context, builder, sig, args):
        array, source, image, target, plane, channels = args
        targets = _rows_of_eight(builder, target, plane, channels)
        for half in (0, HALF):
            rows = []
            for i in range(HALF):
                at = builder.add(source, builder.mul(image, image.type(half + i)))
                rows.append(load_vector(builder, pointer_to(context, builder, sig.args[0], array, at), EIGHT))
            # Backwards, so that the last channel is written after what stands for those that lack.
            for at, row in reversed(list(zip(targets, _transposed(builder, rows), strict=True))):
                place = pointer_to(context, builder, sig.args[0], array, builder.add(at, at.type(half)))
                store_vector(builder, row, place)
        return context.get_dummy_value()

    return types.void(array, *[types.intp] * 5), codegen


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


@intrinsic
def gather_pixels(typingctx, pixels, order, step, lane, column, scale, shift, target, start):
    """Sixteen pixels of sixteen images, transposed: row k of the target is pixel ``column + k`` of each lane's image.

    Args:
        pixels: (images, pixels) uint8.
        order: (steps, lanes) int64 image of each lane; a negative one reads image 0, its ``scale`` and ``shift`` are 0.
        step, lane: where in ``order`` the sixteen images are named.
        column: first pixel; the caller keeps ``column + 16`` within a row.
        scale, shift: per lane, ``p scale + shift``.
        target, start: where the (16, 16) float32 block goes.
    """

    def codegen(context, builder, sig, args):
        pixels, order, step, lane, column, scale, shift, target, start = args
        image_array = context.make_array(sig.args[0])(context, builder, pixels)
        order_array = context.make_array(sig.args[1])(context, builder, order)
        bytes_ = ir.VectorType(ir.IntType(8), LANES)
        row_bytes = cgutils.unpack_tuple(builder, image_array.strides)[0]
        order_bytes = cgutils.unpack_tuple(builder, order_array.strides)[0]
        index = ir.IntType(64)
        base = builder.add(builder.ptrtoint(order_array.data, index), builder.mul(order_bytes, step))
        rows = []
        for i in range(LANES):
            place = builder.add(base, builder.mul(builder.add(lane, index(i)), index(8)))
            image = builder.load(builder.inttoptr(place, index.as_pointer()))
            image = builder.select(builder.icmp_signed("<", image, index(0)), index(0), image)
            offset = builder.add(builder.mul(image, row_bytes), column)
            row = builder.load(builder.bitcast(builder.gep(image_array.data, [offset]), bytes_.as_pointer()))
            row.align = 1
            rows.append(row)
        low = ir.Constant(LANE, [k // 2 + LANES * (k % 2) for k in range(LANES)])
        high = ir.Constant(LANE, [k // 2 + LANES // 2 + LANES * (k % 2) for k in range(LANES)])
        for _ in range(4):
            half = LANES // 2
            rows = [builder.shuffle_vector(rows[i], rows[i + half], mask) for i in range(half) for mask in (low, high)]
        for i, row in enumerate(rows):
            value = fma_vector(builder, builder.uitofp(row, VECTOR), scale, shift)
            place = builder.add(start, index(i * LANES))
            store_vector(builder, value, pointer_to(context, builder, sig.args[7], target, place))
        return context.get_dummy_value()

    integer = types.intp
    return types.void(pixels, order, integer, integer, integer, f32x16, f32x16, target, integer), codegen
