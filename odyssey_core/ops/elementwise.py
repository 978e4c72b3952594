"""Arithmetic on each element, and dropout."""

from collections.abc import Callable

from odyssey_core.errors import ShapeError
from odyssey_core.ops.activations import of_one_shape
from odyssey_core.tensor import Op, Shape, Tensor

__all__ = ["add", "dropout", "multiply", "scale_shift"]


def _dropout(x: Tensor, *, p: float, stream: int) -> Shape:
    if not 0 <= p < 1:
        raise ShapeError(f"dropout: p must be at least 0 and below 1, got {p}")
    return x.shape


def _scale_shift(framework: str) -> Callable[..., str]:
    add, mul = ("Add", "Mul") if framework == "onnx" else ("add", "mul")
    return lambda emit, node, x: emit(add, emit(mul, x, node.attrs["scale"]), node.attrs["shift"])


ADD = Op(
    "add",
    of_one_shape("add"),
    lambda node, grad: (grad, grad),
    onnx=lambda emit, node, a, b: emit("Add", a, b),
    torch=lambda emit, node, a, b: emit("add", a, b),
)
MULTIPLY = Op(
    "multiply",
    of_one_shape("multiply"),
    lambda node, grad: (multiply(grad, node.inputs[1]), multiply(grad, node.inputs[0])),
    onnx=lambda emit, node, a, b: emit("Mul", a, b),
    torch=lambda emit, node, a, b: emit("mul", a, b),
)
SCALE_SHIFT: Op = Op(
    "scale_shift",
    lambda x, *, scale, shift: x.shape,
    lambda node, grad: (SCALE_SHIFT(grad, scale=node.attrs["scale"], shift=0.0),),
    onnx=_scale_shift("onnx"),
    torch=_scale_shift("torch"),
)
DROPOUT: Op = Op(
    "dropout",
    _dropout,
    lambda node, grad: (DROPOUT(grad, **node.attrs),),
    inference=lambda node, inputs: inputs[0],
    torch=lambda emit, node, x: emit("nn.functional.dropout", x, p=node.attrs["p"]),
)


def add(a: Tensor, b: Tensor) -> Tensor:
    """a + b, also written so; a - b is ``a + -b``. Both have one shape.

    Raises:
        ShapeError: the shapes differ: there is no broadcasting.
    """
    return ADD(a, b)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """a b element by element, also written ``a * b``. Both have one shape.

    Raises:
        ShapeError: the shapes differ: there is no broadcasting.
    """
    return MULTIPLY(a, b)


def scale_shift(x: Tensor, scale: float, shift: float) -> Tensor:
    """scale x + shift, of any shape; what ``x * 2``, ``x + 1``, ``1 - x``, ``-x`` and ``x / 4`` stand for.

    The numbers are constants of the graph. x / c is computed as x times the float64 nearest to 1 / c.
    """
    return SCALE_SHIFT(x, scale=float(scale), shift=float(shift))


def dropout(x: Tensor, p: float, stream: int) -> Tensor:
    """Zeroes each element with probability p and divides the others by 1 - p; the identity in inference.

    Which elements become zero is a function of (seed, stream, epoch, image, element), so the backward pass draws the
    same.

    Args:
        x: (N, ...).
        p: probability of zero, in [0, 1).
        stream: number of the random stream; every dropout of a model has its own.

    Raises:
        ShapeError: p out of range.

    Source: Srivastava et al., "Dropout", JMLR 2014, scaled at training time ("inverted").
    """
    return DROPOUT(x, p=float(p), stream=int(stream))
