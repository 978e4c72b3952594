"""Activation functions of single elements, and softmax."""

from collections.abc import Callable

from odyssey_core.errors import ShapeError
from odyssey_core.tensor import Emit, Op, Shape, Tensor, require_rank

__all__ = ["gelu", "leaky_relu", "mish", "relu", "relu6", "sigmoid", "softmax", "tanh"]


def of_one_shape(name: str) -> Callable[..., Shape]:
    """The shape rule of an op on two operands that must have the same shape."""

    def shape(a: Tensor, b: Tensor, **attrs: object) -> Shape:
        if a.shape != b.shape or a.batched != b.batched:
            raise ShapeError(f"{name}: operands must have the same shape, got {a.shape} and {b.shape}")
        return a.shape

    return shape


def _leaky(x: Tensor, *, negative_slope: float) -> Shape:
    if not negative_slope >= 0:
        raise ShapeError(f"leaky_relu: negative_slope must be at least 0, got {negative_slope}")
    return x.shape


def _rows(x: Tensor) -> Shape:
    require_rank("softmax", "input", x, 2, "(N, classes)")
    return x.shape


def _gelu_in_onnx(emit: Emit, node: Tensor, x: str) -> str:
    half = emit("Mul", x, 0.5)
    return emit("Mul", half, emit("Add", emit("Erf", emit("Mul", x, 0.5**0.5)), 1.0))


def _function(
    name: str,
    onnx: Emit,
    torch: str,
    *,
    of_result: bool = True,
    shape: Callable[..., Shape] = lambda x: x.shape,
) -> tuple[Op, Op]:
    """An op of one operand, and the op of its gradient, ``name_grad``.

    Args:
        name: of the op.
        onnx: see `Op`.
        torch: the function's name in PyTorch; attributes go by the same names.
        of_result: the derivative is a function of the result, so the operand need not be kept.
        shape: the rule.
    """
    grad_op = Op(f"{name}_grad", of_one_shape(f"{name}_grad"))
    op = Op(
        name,
        shape,
        lambda node, grad: (grad_op(node if of_result else node.inputs[0], grad, **node.attrs),),
        onnx=onnx,
        torch=lambda emit, node, x: emit(torch, x, **node.attrs),
    )
    return op, grad_op


RELU, RELU_GRAD = _function("relu", lambda emit, node, x: emit("Relu", x), "relu")
TANH, TANH_GRAD = _function("tanh", lambda emit, node, x: emit("Tanh", x), "tanh")
SIGMOID, SIGMOID_GRAD = _function("sigmoid", lambda emit, node, x: emit("Sigmoid", x), "sigmoid")
RELU6, RELU6_GRAD = _function("relu6", lambda emit, node, x: emit("Clip", x, 0.0, 6.0), "nn.functional.relu6")
LEAKY_RELU, LEAKY_RELU_GRAD = _function(
    "leaky_relu",
    lambda emit, node, x: emit("LeakyRelu", x, alpha=node.attrs["negative_slope"]),
    "nn.functional.leaky_relu",
    shape=_leaky,
)
GELU, GELU_GRAD = _function("gelu", _gelu_in_onnx, "nn.functional.gelu", of_result=False)
MISH, MISH_GRAD = _function(
    "mish",
    lambda emit, node, x: emit("Mul", x, emit("Tanh", emit("Softplus", x))),
    "nn.functional.mish",
    of_result=False,
)
SOFTMAX_GRAD = Op("softmax_grad", of_one_shape("softmax_grad"))
SOFTMAX = Op(
    "softmax",
    _rows,
    lambda node, grad: (SOFTMAX_GRAD(node, grad),),
    onnx=lambda emit, node, x: emit("Softmax", x, axis=1),
    torch=lambda emit, node, x: emit("softmax", x, dim=1),
)


def relu(x: Tensor) -> Tensor:
    """max(x, 0); the derivative at 0 is 0."""
    return RELU(x)


def relu6(x: Tensor) -> Tensor:
    """min(max(x, 0), 6); the derivative at 0 and at 6 is 0.

    Source: Howard et al., "MobileNets", 2017.
    """
    return RELU6(x)


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where it is above 0, else ``negative_slope`` x; the derivative at 0 is ``negative_slope``.

    Raises:
        ShapeError: a slope below 0.

    Source: Maas, Hannun, Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", ICML 2013.
    """
    return LEAKY_RELU(x, negative_slope=float(negative_slope))


def gelu(x: Tensor) -> Tensor:
    """x P(X <= x) for a standard normal X: x (1 + erf(x / sqrt 2)) / 2, not its approximation with tanh.

    Source: Hendrycks, Gimpel, "Gaussian Error Linear Units", 2016.
    """
    return GELU(x)


def mish(x: Tensor) -> Tensor:
    """x tanh(log(1 + exp(x))).

    Source: Misra, "Mish: A Self Regularized Non-Monotonic Activation Function", BMVC 2020.
    """
    return MISH(x)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return TANH(x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return SIGMOID(x)


def softmax(x: Tensor) -> Tensor:
    """exp(x) / sum over the row of exp(x): (N, classes) to (N, classes), each row summing to 1.

    For a model that is to put out probabilities. `cross_entropy` takes logits and needs none.

    Raises:
        ShapeError: not two axes.
    """
    return SOFTMAX(x)
