"""Changes of shape that move no value: flatten and concat."""

import math
from itertools import accumulate, pairwise

from odyssey_core.errors import ShapeError
from odyssey_core.tensor import Op, Shape, Tensor

__all__ = ["concat", "flatten"]


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


def _reshape_in_onnx(emit, node: Tensor, x: str) -> str:
    return emit("Flatten", x) if len(node.shape) == 2 else emit("Reshape", x, [-1, *node.shape[1:]])


RESHAPE = Op(
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
