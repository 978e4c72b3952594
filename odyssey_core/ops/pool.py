"""Pooling over square windows, and over whole images."""

from typing import Any

from odyssey_core.errors import ShapeError
from odyssey_core.tensor import Emit, Op, Shape, Tensor, require_rank

__all__ = ["avg_pool2d", "global_avg_pool2d", "max_pool2d"]


def _shape(x: Tensor, *, kernel_size: int, stride: int, padding: int) -> Shape:
    require_rank("pool2d", "input", x, 4, "(N, C, H, W)")
    n, c, h, w = x.shape
    if kernel_size < 1 or stride < 1:
        raise ShapeError(f"pool2d: kernel_size and stride must be at least 1, got {kernel_size} and {stride}")
    if not 0 <= 2 * padding <= kernel_size:
        raise ShapeError(
            f"pool2d: padding must lie between 0 and half of the window, {kernel_size // 2}, got {padding}"
        )
    h, w = h + 2 * padding, w + 2 * padding
    if kernel_size > h or kernel_size > w:
        around = f" with padding {padding}" if padding else ""
        raise ShapeError(
            f"pool2d: window {kernel_size}x{kernel_size} is larger than its input {x.shape[2]}x{x.shape[3]}{around}"
        )
    return n, c, (h - kernel_size) // stride + 1, (w - kernel_size) // stride + 1


def _global_shape(x: Tensor) -> Shape:
    require_rank("global_avg_pool2d", "input", x, 4, "(N, C, H, W)")
    return x.shape[:2]


def _onnx(kind: str, **attributes: Any) -> Emit:
    def emitted(emit: Emit, node: Tensor, x: str) -> str:
        size, stride, padding = (node.attrs[key] for key in ("kernel_size", "stride", "padding"))
        return emit(kind, x, kernel_shape=[size] * 2, strides=[stride] * 2, pads=[padding] * 4, **attributes)

    return emitted


MAX_POOL2D_GRAD = Op("max_pool2d_grad", lambda x, y, grad, *, kernel_size, stride, padding: x.shape)
MAX_POOL2D = Op(
    "max_pool2d",
    _shape,
    lambda node, grad: (MAX_POOL2D_GRAD(*node.inputs, node, grad, **node.attrs),),
    onnx=_onnx("MaxPool"),
    torch=lambda emit, node, x: emit("nn.functional.max_pool2d", x, **node.attrs),
)
AVG_POOL2D_GRAD = Op("avg_pool2d_grad", lambda grad, *, input_shape, kernel_size, stride, padding: input_shape)
AVG_POOL2D = Op(
    "avg_pool2d",
    _shape,
    lambda node, grad: (AVG_POOL2D_GRAD(grad, input_shape=node.inputs[0].shape, **node.attrs),),
    onnx=_onnx("AveragePool", count_include_pad=1),
    torch=lambda emit, node, x: emit("nn.functional.avg_pool2d", x, **node.attrs),
)
GLOBAL_AVG_POOL2D_GRAD = Op("global_avg_pool2d_grad", lambda grad, *, input_shape: input_shape)
GLOBAL_AVG_POOL2D = Op(
    "global_avg_pool2d",
    _global_shape,
    lambda node, grad: (GLOBAL_AVG_POOL2D_GRAD(grad, input_shape=node.inputs[0].shape),),
    onnx=lambda emit, node, x: emit("ReduceMean", x, axes=[2, 3], keepdims=0),
    torch=lambda emit, node, x: emit("mean", x, dim=[2, 3]),
)


def max_pool2d(x: Tensor, kernel_size: int, stride: int | None = None, padding: int = 0) -> Tensor:
    """The maximum of each window; rows and columns that fill no window are left out.

    The gradient goes to the first maximum of a window in row-major order, as in PyTorch: on images with constant
    backgrounds many windows tie, and giving every tied maximum a gradient makes their sum wrong.

    Args:
        x: (N, C, H, W).
        kernel_size: k, side of the window, at least 1.
        stride: s, step of the window, at least 1; windows overlap where it is below k. By default k.
        padding: p, rows and columns on every side that no window takes its maximum from; at most k / 2.

    Returns:
        (N, C, (H + 2 p - k) // s + 1, likewise for the width).

    Raises:
        ShapeError: the window is larger than the padded input, or a number is out of range.
    """
    return MAX_POOL2D(x, kernel_size=kernel_size, stride=kernel_size if stride is None else stride, padding=padding)


def avg_pool2d(x: Tensor, kernel_size: int, stride: int | None = None, padding: int = 0) -> Tensor:
    """The mean of each window; rows and columns that fill no window are left out.

    Zeros of the padding count as values, as in PyTorch by default: every window's sum is divided by k^2.

    Args:
        x: (N, C, H, W).
        kernel_size: k, side of the window, at least 1.
        stride: s, step of the window, at least 1; windows overlap where it is below k. By default k.
        padding: p, rows and columns of zeros on every side; at most k / 2.

    Returns:
        (N, C, (H + 2 p - k) // s + 1, likewise for the width).

    Raises:
        ShapeError: the window is larger than the padded input, or a number is out of range.
    """
    return AVG_POOL2D(x, kernel_size=kernel_size, stride=kernel_size if stride is None else stride, padding=padding)


def global_avg_pool2d(x: Tensor) -> Tensor:
    """The mean of each channel of each image: (N, C, H, W) to (N, C).

    Raises:
        ShapeError: not four axes.
    """
    return GLOBAL_AVG_POOL2D(x)
