"""Two-dimensional convolution (cross-correlation, as in every deep-learning library)."""

import math

from odyssey_core.errors import ShapeError
from odyssey_core.ops.affine import GRAD_BIAS, check_bias
from odyssey_core.tensor import Emit, Op, Shape, Tensor, require_rank

__all__ = ["conv2d"]


def _shape(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int,
    padding: tuple[int, int],
    groups: int,
) -> Shape:
    require_rank("conv2d", "input", x, 4, "(N, C, H, W)")
    require_rank("conv2d", "weight", weight, 4, "(out, in / groups, kernel height, kernel width)")
    (n, c, h, w), (out, c_w, kh, kw) = x.shape, weight.shape
    if groups < 1 or c % groups or out % groups:
        raise ShapeError(f"conv2d: groups must divide {c} input and {out} output channels, got {groups}")
    if c != c_w * groups:
        raise ShapeError(
            f"conv2d: input has {c} channels, weight expects {c_w * groups} (weight shape {weight.shape}"
            f"{f', {groups} groups' if groups > 1 else ''})"
        )
    if stride < 1 or min(padding) < 0:
        raise ShapeError(f"conv2d: stride must be at least 1 and padding at least 0, got {stride} and {shown(padding)}")
    if kh > h + 2 * padding[0] or kw > w + 2 * padding[1]:
        raise ShapeError(f"conv2d: kernel {kh}x{kw} is larger than its input {h}x{w} with padding {shown(padding)}")
    check_bias("conv2d", bias, out)
    return n, out, (h + 2 * padding[0] - kh) // stride + 1, (w + 2 * padding[1] - kw) // stride + 1


def shown(pair: tuple[int, int]) -> str:
    """A pair for a message: one number where both are the same."""
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


def _gradient(node: Tensor, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, *bias = node.inputs
    # In this order the input is free for reuse by the time its gradient is written.
    grad_weight = GRAD_WEIGHT(x, grad, weight_shape=weight.shape, **node.attrs)
    grad_bias = [GRAD_BIAS(grad) for _ in bias]
    return GRAD_INPUT(grad, weight, input_shape=x.shape, **node.attrs), grad_weight, *grad_bias


def _onnx(emit: Emit, node: Tensor, *operands: str) -> str:
    (high, wide), stride = node.attrs["padding"], node.attrs["stride"]
    return emit("Conv", *operands, strides=[stride] * 2, pads=[high, wide] * 2, group=node.attrs["groups"])


GRAD_INPUT = Op(
    "conv2d_grad_input",
    lambda grad, weight, *, input_shape, stride, padding, groups: input_shape,
    multiply_adds=lambda node: math.prod(node.inputs[0].shape) * math.prod(node.inputs[1].shape[1:]),
)
GRAD_WEIGHT = Op(
    "conv2d_grad_weight",
    lambda x, grad, *, weight_shape, stride, padding, groups: weight_shape,
    reduces=True,
    multiply_adds=lambda node: math.prod(node.inputs[1].shape) * math.prod(node.shape[1:]),
)
CONV2D = Op(
    "conv2d",
    _shape,
    _gradient,
    multiply_adds=lambda node: math.prod(node.shape) * math.prod(node.inputs[1].shape[1:]),
    onnx=_onnx,
    torch=lambda emit, node, *operands: emit("nn.functional.conv2d", *operands, **node.attrs),
)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
) -> Tensor:
    """y[n, o, i, j] = bias[o] + sum over c, k, l of weight[o, c, k, l] x[n, c', i s + k - p, j s + l - q].

    With G groups the channels are cut into G equal parts and each output channel sees one of them: c' = c + C / G g
    for o in [O / G g, O / G (g + 1)). G = C is a depthwise convolution.

    Args:
        x: (N, C, H, W).
        weight: (O, C / groups, kernel height, kernel width).
        bias: (O,) or None.
        stride: s, the step of the window in both directions, in pixels.
        padding: p and q, rows of zeros above and below and columns at the left and right; one number for both.
        groups: G, which must divide C and O.

    Returns:
        (N, O, (H + 2 p - kernel height) // s + 1, (W + 2 q - kernel width) // s + 1).

    Raises:
        ShapeError: channels differ, groups do not divide them, or the kernel is larger than the padded input.
    """
    both = (padding, padding) if isinstance(padding, int) else tuple(padding)
    return CONV2D(x, weight, *(() if bias is None else (bias,)), stride=stride, padding=both, groups=groups)
