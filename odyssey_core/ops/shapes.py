"""Values in other places: flatten, concat, and images moved."""

import math
from itertools import accumulate, pairwise

from odyssey_core.errors import ShapeError
from odyssey_core.tensor import Emit, Op, Shape, Tensor, require_rank

__all__ = ["concat", "flatten", "shift2d"]


def _reshape(x: Tensor, *, shape: Shape) -> Shape:
    if math.prod(shape) != math.prod(x.shape) or shape[0] != x.shape[0]:
        raise ShapeError(f"reshape: cannot make {shape} of {x.shape}; the batch axis and the size must stay")
    return shape


def _concat(*parts: Tensor) -> Shape:
    if len(parts) < 2:
        raise ShapeError(f"concat: expected at least two operands, got {len(parts)}")
    first = parts[0].shape
    for x in parts:
        if len(x.shape) < 2 or not x.batched or (x.shape[0], *x.shape[2:]) != (first[0], *first[2:]):
            shapes = ", ".join(str(part.shape) for part in parts)
            raise ShapeError(f"concat: operands may differ in their number of channels alone, got {shapes}")
    return first[0], sum(x.shape[1] for x in parts), *first[2:]


def _concat_gradient(node: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
    bounds = pairwise(accumulate((x.shape[1] for x in node.inputs), initial=0))
    return tuple(CONCAT_GRAD(grad, start=start, stop=stop) for start, stop in bounds)


def _reshape_in_onnx(emit: Emit, node: Tensor, x: str) -> str:
    return emit("Flatten", x) if len(node.shape) == 2 else emit("Reshape", x, [-1, *node.shape[1:]])


def _shift(x: Tensor, *, rows: int, columns: int, mirror: bool) -> Shape:
    require_rank("shift2d", "input", x, 4, "(N, C, H, W)")
    for name, by, size in (("rows", rows, x.shape[2]), ("columns", columns, x.shape[3])):
        if abs(by) >= size:
            raise ShapeError(f"shift2d: {name} must be below the {size} of the image, got {by}")
    return x.shape


def _shift_in_onnx(emit: Emit, node: Tensor, x: str) -> str:
    rows, columns, mirror = node.attrs.values()
    height, width = node.shape[2:]
    before, after = (max(-rows, 0), max(-columns, 0)), (max(rows, 0), max(columns, 0))
    x = emit("Pad", x, [0, 0, *before, 0, 0, *after], mode="reflect")
    x = emit("Slice", x, [*after], [after[0] + height, after[1] + width], [2, 3])
    return emit("Slice", x, [-1], [-(2**31)], [3], [-1]) if mirror else x


def _shift_in_torch(emit: Emit, node: Tensor, x: str) -> str:
    rows, columns, mirror = node.attrs.values()
    around = [max(-columns, 0), max(columns, 0), max(-rows, 0), max(rows, 0)]
    x = emit("nn.functional.pad", x, pad=around, mode="reflect")
    for dim, by, size in ((2, rows, node.shape[2]), (3, columns, node.shape[3])):
        x = emit("narrow", x, dim=dim, start=max(by, 0), length=size)
    return emit("flip", x, dims=[3]) if mirror else x


SHIFT2D = Op("shift2d", _shift, onnx=_shift_in_onnx, torch=_shift_in_torch)
RESHAPE: Op = Op(
    "reshape",
    _reshape,
    lambda node, grad: (RESHAPE(grad, shape=node.inputs[0].shape),),
    onnx=_reshape_in_onnx,
    torch=lambda emit, node, x: emit("reshape", x, shape=[-1, *node.shape[1:]]),
)
CONCAT_GRAD = Op("concat_grad", lambda grad, *, start, stop: (grad.shape[0], stop - start, *grad.shape[2:]))
CONCAT = Op(
    "concat",
    _concat,
    _concat_gradient,
    onnx=lambda emit, node, *parts: emit("Concat", *parts, axis=1),
    torch=lambda emit, node, *parts: emit("cat", list(parts), dim=1),
)


def flatten(x: Tensor) -> Tensor:
    """(N, ...) to (N, features)."""
    return RESHAPE(x, shape=(x.shape[0], math.prod(x.shape[1:])))


def concat(*parts: Tensor) -> Tensor:
    """The channels of all operands one after the other.

    Args:
        parts: at least two, (N, C1, ...), (N, C2, ...), ..., which differ in their numbers of channels alone.

    Returns:
        (N, C1 + C2 + ..., ...).

    Raises:
        ShapeError: other axes differ, or there are fewer than two.
    """
    return CONCAT(*parts)


def shift2d(x: Tensor, rows: int, columns: int, mirror: bool = False) -> Tensor:
    """Images moved up by ``rows`` and left by ``columns``, then mirrored, left for right, where ``mirror`` says so.

    Pixel (i, j) is (i + rows, j + columns) of x; what lies outside is x reflected at its outermost pixels. It has no
    gradient.

    Args:
        x: (N, C, H, W).
        rows: may be negative, for down; smaller in size than H.
        columns: likewise; than W.
        mirror: whether columns go from right to left.

    Raises:
        ShapeError: another rank, or a move by more than the image.
    """
    return SHIFT2D(x, rows=int(rows), columns=int(columns), mirror=bool(mirror))
