"""Operations on each element, and changes of shape."""

import math

from odyssey_core.errors import ShapeError
from odyssey_core.tensor import Op, Shape, Tensor


def _same_shape(name: str):
    def shape(a: Tensor, b: Tensor) -> Shape:
        if a.shape != b.shape or a.batched != b.batched:
            raise ShapeError(f"{name}: operands must have the same shape, got {a.shape} and {b.shape}")
        return a.shape

    return shape


def _reshape(x: Tensor, *, shape: Shape) -> Shape:
    if math.prod(shape) != math.prod(x.shape) or shape[0] != x.shape[0]:
        raise ShapeError(f"reshape: cannot make {shape} of {x.shape}; the batch axis and the size must stay")
    return shape


def _dropout(x: Tensor, *, p: float, stream: int) -> Shape:
    if not 0 <= p < 1:
        raise ShapeError(f"dropout: p must be at least 0 and below 1, got {p}")
    return x.shape


# The derivatives of these three are functions of the result, so the input need not be kept.
RELU_GRAD = Op("relu_grad", _same_shape("relu_grad"))
TANH_GRAD = Op("tanh_grad", _same_shape("tanh_grad"))
SIGMOID_GRAD = Op("sigmoid_grad", _same_shape("sigmoid_grad"))
RELU = Op("relu", lambda x: x.shape, lambda node, grad: (RELU_GRAD(node, grad),))
TANH = Op("tanh", lambda x: x.shape, lambda node, grad: (TANH_GRAD(node, grad),))
SIGMOID = Op("sigmoid", lambda x: x.shape, lambda node, grad: (SIGMOID_GRAD(node, grad),))
ADD = Op("add", _same_shape("add"), lambda node, grad: (grad, grad))
MULTIPLY = Op(
    "multiply",
    _same_shape("multiply"),
    lambda node, grad: (multiply(grad, node.inputs[1]), multiply(grad, node.inputs[0])),
)
RESHAPE = Op("reshape", _reshape, lambda node, grad: (RESHAPE(grad, shape=node.inputs[0].shape),))
DROPOUT = Op(
    "dropout",
    _dropout,
    lambda node, grad: (DROPOUT(grad, **node.attrs),),
    inference=lambda node, inputs: inputs[0],
)


def add(a: Tensor, b: Tensor) -> Tensor:
    """a + b, both of one shape. Raises ShapeError otherwise: there is no broadcasting."""
    return ADD(a, b)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """a b element by element, both of one shape. Raises ShapeError otherwise: there is no broadcasting."""
    return MULTIPLY(a, b)


def relu(x: Tensor) -> Tensor:
    """max(x, 0); the derivative at 0 is 0."""
    return RELU(x)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return TANH(x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return SIGMOID(x)


def flatten(x: Tensor) -> Tensor:
    """(N, ...) to (N, features)."""
    return RESHAPE(x, shape=(x.shape[0], math.prod(x.shape[1:])))


def dropout(x: Tensor, p: float, stream: int) -> Tensor:
    """Zeroes each element with probability p and divides the others by 1 - p; the identity in inference.

    Which elements fall is a function of (seed, stream, epoch, image, element), so the backward pass draws the same.

    Args:
        x: (N, ...).
        p: probability of zero, in [0, 1).
        stream: number of the random stream; every dropout of a model has its own.

    Source: Srivastava et al., "Dropout", JMLR 2014, scaled at training time ("inverted").
    """
    return DROPOUT(x, p=float(p), stream=int(stream))
