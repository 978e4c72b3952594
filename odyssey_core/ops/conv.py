"""Two-dimensional convolution (cross-correlation, as in every deep-learning library)."""

from odyssey_core.errors import ShapeError
from odyssey_core.ops.affine import GRAD_BIAS, check_bias
from odyssey_core.tensor import Op, Shape, Tensor, require_rank


def _shape(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int, padding: int) -> Shape:
    require_rank("conv2d", "input", x, 4, "(N, C, H, W)")
    require_rank("conv2d", "weight", weight, 4, "(out, in, kernel height, kernel width)")
    (n, c, h, w), (out, c_w, kh, kw) = x.shape, weight.shape
    if c != c_w:
        raise ShapeError(f"conv2d: input has {c} channels, weight expects {c_w} (weight shape {weight.shape})")
    if stride < 1 or padding < 0:
        raise ShapeError(f"conv2d: stride must be at least 1 and padding at least 0, got {stride} and {padding}")
    if kh > h + 2 * padding or kw > w + 2 * padding:
        raise ShapeError(f"conv2d: kernel {kh}x{kw} is larger than its input {h}x{w} with padding {padding}")
    check_bias("conv2d", bias, out)
    return n, out, (h + 2 * padding - kh) // stride + 1, (w + 2 * padding - kw) // stride + 1


def _gradient(node: Tensor, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, *bias = node.inputs
    # In this order the input is free for reuse by the time its gradient is written.
    grad_weight = GRAD_WEIGHT(x, grad, weight_shape=weight.shape, **node.attrs)
    grad_bias = [GRAD_BIAS(grad) for _ in bias]
    return GRAD_INPUT(grad, weight, input_shape=x.shape, **node.attrs), grad_weight, *grad_bias


GRAD_INPUT = Op("conv2d_grad_input", lambda grad, weight, *, input_shape, stride, padding: input_shape)
GRAD_WEIGHT = Op("conv2d_grad_weight", lambda x, grad, *, weight_shape, stride, padding: weight_shape, reduces=True)
CONV2D = Op("conv2d", _shape, _gradient)


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int = 0) -> Tensor:
    """y[n, o, i, j] = bias[o] + sum over c, k, l of weight[o, c, k, l] x[n, c, i s + k - p, j s + l - p].

    Args:
        x: (N, C, H, W).
        weight: (O, C, kernel height, kernel width).
        bias: (O,) or None.
        stride: s, the step of the window, in pixels.
        padding: p, rows and columns of zeros on every side.

    Returns:
        (N, O, (H + 2 padding - kernel height) // stride + 1, likewise for the width).

    Raises:
        ShapeError: channels differ, or the kernel is larger than the padded input.
    """
    return CONV2D(x, weight, *(() if bias is None else (bias,)), stride=stride, padding=padding)
