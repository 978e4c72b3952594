"""The affine map, and the gradient of a bias."""

import math

from odyssey_core.errors import ShapeError
from odyssey_core.tensor import Op, Shape, Tensor, require_rank

__all__ = ["linear"]


def check_bias(op: str, bias: Tensor | None, out: int) -> None:
    """Raises ShapeError unless a bias, where there is one, has one value per output."""
    if bias is not None and bias.shape != (out,):
        raise ShapeError(f"{op}: bias must have shape ({out},) to match the weight, got {bias.shape}")


def _shape(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Shape:
    require_rank("linear", "input", x, 2, "(N, in)")
    require_rank("linear", "weight", weight, 2, "(out, in)")
    if x.shape[1] != weight.shape[1]:
        raise ShapeError(
            f"linear: input has {x.shape[1]} features, weight expects {weight.shape[1]} (weight shape {weight.shape})"
        )
    check_bias("linear", bias, weight.shape[0])
    return x.shape[0], weight.shape[0]


def _gradient(node: Tensor, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, *bias = node.inputs
    grad_weight, grad_bias = GRAD_WEIGHT(x, grad), [GRAD_BIAS(grad) for _ in bias]
    return GRAD_INPUT(grad, weight), grad_weight, *grad_bias


GRAD_BIAS = Op("grad_bias", lambda grad: (grad.shape[1],), reduces=True)
GRAD_INPUT = Op(
    "linear_grad_input",
    lambda grad, weight: (grad.shape[0], weight.shape[1]),
    multiply_adds=lambda node: math.prod(node.inputs[0].shape) * node.shape[1],
)
GRAD_WEIGHT = Op(
    "linear_grad_weight",
    lambda x, grad: (grad.shape[1], x.shape[1]),
    reduces=True,
    multiply_adds=lambda node: math.prod(node.inputs[1].shape) * node.shape[1],
)
LINEAR = Op(
    "linear",
    _shape,
    _gradient,
    multiply_adds=lambda node: math.prod(node.shape) * node.inputs[1].shape[1],
    onnx=lambda emit, node, *operands: emit("Gemm", *operands, transB=1),
    torch=lambda emit, node, *operands: emit("nn.functional.linear", *operands),
)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x weight^T + bias.

    Args:
        x: (N, in).
        weight: (out, in).
        bias: (out,) or None.

    Returns:
        (N, out).

    Raises:
        ShapeError: the numbers of features differ.
    """
    return LINEAR(x, weight, *(() if bias is None else (bias,)))
