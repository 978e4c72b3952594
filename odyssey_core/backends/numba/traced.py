"""How a Python function of vectors becomes part of a compiled kernel: types, and values that write instructions.

A function decorated with `on_lanes` is compiled by running it: its body is called with `Traced` values, for which
arithmetic writes machine instructions. Numba sees one call, whose type is that of the result, and spends no time on
what happens inside: operators that it has to type one by one make a kernel take two to three times as long to compile.
"""

import operator
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer, infer_global
from numba.extending import lower_builtin, models, register_model

from odyssey_core import arithmetic

LANES, HALF = 16, 8
I1, I32, I64, F32 = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.FloatType()


class Vector(types.Type):
    """The Numba type of sixteen elements of one LLVM type."""

    def __init__(self, name: str, element: ir.Type):
        self.llvm = ir.VectorType(element, LANES)
        super().__init__(name)


class Pointer(types.Type):
    """The Numba type of an address; ``element`` is what subscripting reads and writes, in Numba and in LLVM."""

    def __init__(self, name: str, element: tuple[types.Type, ir.Type]):
        self.element, llvm = element
        self.llvm = llvm.as_pointer()
        super().__init__(name)


FLOATS, WORDS, MASK = Vector("f32x16", F32), Vector("u32x16", I32), Vector("b1x16", I1)
MEMORY = Pointer("memory", (types.float32, F32))
FLOAT, INTEGER = types.float32, types.intp
VECTOR, EIGHT = FLOATS.llvm, ir.VectorType(F32, HALF)


@register_model(Vector)
@register_model(Pointer)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, kind.llvm)


def typed_as(function: Callable, typed: Callable[..., Any]) -> None:
    """Tells Numba the type of a call's result: ``(*its types) -> type``, or None for types it does not take."""

    def generic(self, args, kws):
        result = typed(*args)
        return None if result is None else result(*args)

    name = getattr(function, "__name__", str(function))
    template = type(name, (AbstractTemplate,), {"key": function, "generic": generic})
    infer(template)
    infer_global(function, types.Function(template))


def register(function: Callable, typed: Callable[..., Any], generate: Callable[..., Any]) -> None:
    """Lets kernels call ``function``.

    Args:
        function: what stands in the source; run as it is in plain Python.
        typed: ``(*Numba types) -> result type``, or None for types that it does not take.
        generate: ``(builder, Numba types, LLVM values) -> LLVM value``, or None where there is no result.
    """

    typed_as(function, typed)

    @lower_builtin(function, types.VarArg(types.Any))
    def _(context, builder, signature, values):
        result = generate(builder, signature.args, values)
        if isinstance(result, tuple):
            return context.make_tuple(builder, signature.return_type, result)
        return context.get_dummy_value() if result is None else result


def compiled_as(
    result: types.Type | Callable[..., Any], generate: Callable[..., Any]
) -> Callable[[Callable], Callable]:
    """Decorates what a primitive means in Python; ``generate(builder, *LLVM values)`` is what it is in a kernel.

    Args:
        result: the Numba type of the result; a function of the arguments' types where it depends on them.
        generate: as above.
    """
    typed = result if callable(result) and not isinstance(result, types.Type) else lambda *kinds: result

    def decorate(meaning):
        @wraps(meaning)
        def function(*operands):
            if not (operands and isinstance(operands[0], Traced)):
                return meaning(*operands)
            builder, kind = operands[0].builder, typed(*[getattr(x, "kind", INTEGER) for x in operands])
            values = [x.value if isinstance(x, Traced) else I64(x) for x in operands]
            return Traced(builder, None if builder is None else generate(builder, *values), kind)

        register(function, typed, lambda builder, kinds, values: generate(builder, *values))
        return function

    return decorate


# What NumPy's functions, and `arithmetic.fma`, are for traced values; `vector` enters those that it defines.
FUNCTIONS: dict[Callable, Callable] = {
    np.add: operator.add, np.subtract: operator.sub, np.multiply: operator.mul, np.divide: operator.truediv,
    np.negative: operator.neg, np.bitwise_xor: operator.xor, np.bitwise_and: operator.and_, np.greater: operator.gt,
    np.less: operator.lt, np.equal: operator.eq, np.not_equal: operator.ne,
}  # fmt: skip


class Traced:
    """A value of a kernel while its code is generated: arithmetic on it writes instructions.

    Without a builder nothing is written; so the type of a result is found.
    """

    __slots__ = ("builder", "kind", "value")

    def __init__(self, builder: ir.IRBuilder | None, value: Any, kind: types.Type):
        self.builder, self.value, self.kind = builder, value, kind

    def __array_ufunc__(self, ufunc, method, *inputs):
        """What NumPy's functions, and its scalars on the left of an operator, do with a traced value."""
        function = FUNCTIONS.get(ufunc) if method == "__call__" else None
        if function is None:
            known = ", ".join(sorted({each.__name__ for each in FUNCTIONS}))
            raise TypeError(f"no kernel computes np.{ufunc.__name__}; there are {known}")
        return function(*[x if isinstance(x, Traced) else self._constant(x) for x in inputs])

    def __bool__(self):
        raise TypeError("a kernel has no branch on values; np.minimum and np.maximum choose between two")

    def _constant(self, x):
        """A number of NumPy's as one of Python's, which leaves an operator to this class; a vector as a traced one."""
        if np.ndim(x) == 0:
            return np.asarray(x).item()
        kind = WORDS if x.dtype == np.uint32 else FLOATS
        return Traced(self.builder, as_vector(self.builder, kind, x), kind)

    @staticmethod
    def fma(a, b, c):
        """See `odyssey_core.arithmetic.fma`."""
        return FUNCTIONS[arithmetic.fma](a, b, c)

    def _binary(self, other, floats, words, swapped=False):
        operands = (other, self) if swapped else (self, other)
        if all(isinstance(getattr(x, "kind", x), int | types.Integer) for x in operands):
            values = [x.value if isinstance(x, Traced) else I64(x) for x in operands]
            return Traced(self.builder, self.builder and words(self.builder, *values), INTEGER)
        kind = next((x.kind for x in operands if isinstance(x, Traced) and isinstance(x.kind, Vector)), FLOATS)
        return emit(kind, kind, words if kind is WORDS else floats, *operands)

    def __add__(self, other):
        return self._binary(other, ir.IRBuilder.fadd, ir.IRBuilder.add)

    def __sub__(self, other):
        return self._binary(other, ir.IRBuilder.fsub, ir.IRBuilder.sub)

    def __mul__(self, other):
        return self._binary(other, ir.IRBuilder.fmul, ir.IRBuilder.mul)

    def __truediv__(self, other):
        return self._binary(other, ir.IRBuilder.fdiv, None)

    def __radd__(self, other):
        return self._binary(other, ir.IRBuilder.fadd, ir.IRBuilder.add, swapped=True)

    def __rsub__(self, other):
        return self._binary(other, ir.IRBuilder.fsub, ir.IRBuilder.sub, swapped=True)

    def __rmul__(self, other):
        return self._binary(other, ir.IRBuilder.fmul, ir.IRBuilder.mul, swapped=True)

    def __rtruediv__(self, other):
        return self._binary(other, ir.IRBuilder.fdiv, None, swapped=True)

    def __neg__(self):
        return emit(FLOATS, FLOATS, ir.IRBuilder.fneg, self)

    def __xor__(self, other):
        return emit(WORDS, WORDS, ir.IRBuilder.xor, self, other)

    def __and__(self, other):
        return emit(self.kind, self.kind, ir.IRBuilder.and_, self, other)

    def __or__(self, other):
        return emit(self.kind, self.kind, ir.IRBuilder.or_, self, other)

    def __lshift__(self, count):
        return emit(WORDS, WORDS, ir.IRBuilder.shl, self, count)

    def __rshift__(self, count):
        return emit(WORDS, WORDS, ir.IRBuilder.lshr, self, count)

    def _compare(self, other, symbol):
        def generate(builder, x, y):
            if self.kind is WORDS:
                return builder.icmp_unsigned(symbol, x, y)
            # As in NumPy and C, a NaN is unequal to everything and neither above nor below.
            return (builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered)(symbol, x, y)

        return emit(WORDS if self.kind is WORDS else FLOATS, MASK, generate, self, other)

    def __gt__(self, other):
        return self._compare(other, ">")

    def __lt__(self, other):
        return self._compare(other, "<")

    def __eq__(self, other):
        return self._compare(other, "==")

    def __ne__(self, other):
        return self._compare(other, "!=")

    __hash__ = None


def emit(kind: types.Type, result: types.Type, generate: Callable[..., Any], *operands: Any) -> Traced:
    """The result of an instruction on operands that are made vectors of ``kind``."""
    builder = next(x.builder for x in operands if isinstance(x, Traced))
    if builder is None:
        return Traced(None, None, result)
    return Traced(builder, generate(builder, *[as_vector(builder, kind, x) for x in operands]), result)


def splat_vector(builder, scalar, vector=VECTOR):
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, I32(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count))


def as_vector(builder, kind: Vector, x: Any):
    """A vector as it is; a number in all lanes."""
    if not isinstance(x, Traced):
        values = np.broadcast_to(np.asarray(x, np.float32 if kind is FLOATS else np.int64), LANES).tolist()
        return ir.Constant(kind.llvm, [kind.llvm.element(value) for value in values])
    if isinstance(x.kind, Vector):
        return x.value
    value = x.value
    if kind is WORDS and isinstance(x.kind, types.Integer):
        value = builder.trunc(value, I32) if value.type.width > 32 else value
    elif kind is FLOATS and isinstance(x.kind, types.Integer):
        value = builder.sitofp(value, F32)
    return splat_vector(builder, value, kind.llvm)


def _traced(builder: ir.IRBuilder | None, value: Any, kind: types.Type) -> Any:
    """A value of a kernel, or a tuple of such."""
    if isinstance(kind, types.BaseTuple):
        parts = [None] * len(kind) if builder is None else cgutils.unpack_tuple(builder, value, len(kind))
        return tuple(_traced(builder, part, each) for part, each in zip(parts, kind, strict=True))
    return Traced(builder, value, kind)


def on_lanes(function: Callable) -> Callable:
    """Decorates a function of vectors and scalars in ordinary arithmetic, which kernels may call."""

    def kind_of(results):
        if results is None:
            return types.none
        return types.Tuple([x.kind for x in results]) if isinstance(results, tuple) else results.kind

    def typed(*kinds):
        if any(not isinstance(kind, Vector | Pointer | types.Number | types.BaseTuple) for kind in kinds):
            return None
        return kind_of(function(*[_traced(None, None, kind) for kind in kinds]))

    def generate(builder, kinds, values):
        results = function(*[_traced(builder, value, kind) for value, kind in zip(values, kinds, strict=True)])
        if results is None:
            return None
        return tuple(x.value for x in results) if isinstance(results, tuple) else results.value

    register(function, typed, generate)
    return function


def primitive(kind: Vector, result: types.Type, generate: Callable[..., Any]) -> Callable[[Callable], Callable]:
    """Decorates what a function of vectors means in Python; ``generate(builder, *LLVM vectors)`` writes it."""

    def decorate(meaning):
        @wraps(meaning)
        def function(*operands):
            traced = any(isinstance(x, Traced) for x in operands)
            return emit(kind, result, generate, *operands) if traced else meaning(*operands)

        return on_lanes(function)

    return decorate


_ARITHMETIC = operator.add, operator.sub, operator.mul, operator.truediv, operator.neg
for _operator in (*_ARITHMETIC, operator.gt, operator.lt, operator.eq, operator.ne):

    def _typed(*kinds, function=_operator):
        if any(isinstance(kind, Vector) for kind in kinds):
            return function(*[Traced(None, None, kind) for kind in kinds]).kind
        return None

    def _generate(builder, kinds, values, function=_operator):
        return function(*[Traced(builder, value, kind) for value, kind in zip(values, kinds, strict=True)]).value

    typed_as(_operator, _typed)
    for _kinds in ((Vector,), (Vector, Vector), (Vector, types.Number), (types.Number, Vector)):

        @lower_builtin(_operator, *_kinds)
        def _(context, builder, signature, values, generate=_generate):
            return generate(builder, signature.args, values)
