"""Pooling over square windows."""

from odyssey_core.errors import ShapeError
from odyssey_core.tensor import Op, Shape, Tensor, require_rank


def _shape(x: Tensor, *, kernel_size: int, stride: int) -> Shape:
    require_rank("pool2d", "input", x, 4, "(N, C, H, W)")
    n, c, h, w = x.shape
    if kernel_size < 1 or stride < 1:
        raise ShapeError(f"pool2d: kernel_size and stride must be at least 1, got {kernel_size} and {stride}")
    if kernel_size > h or kernel_size > w:
        raise ShapeError(f"pool2d: window {kernel_size}x{kernel_size} is larger than its input {h}x{w}")
    return n, c, (h - kernel_size) // stride + 1, (w - kernel_size) // stride + 1


MAX_POOL2D_GRAD = Op("max_pool2d_grad", lambda x, y, grad, *, kernel_size, stride: x.shape)
MAX_POOL2D = Op("max_pool2d", _shape, lambda node, grad: (MAX_POOL2D_GRAD(*node.inputs, node, grad, **node.attrs),))
AVG_POOL2D_GRAD = Op("avg_pool2d_grad", lambda grad, *, input_shape, kernel_size, stride: input_shape)
AVG_POOL2D = Op(
    "avg_pool2d",
    _shape,
    lambda node, grad: (AVG_POOL2D_GRAD(grad, input_shape=node.inputs[0].shape, **node.attrs),),
)


def max_pool2d(x: Tensor, kernel_size: int, stride: int | None = None) -> Tensor:
    """The maximum of each window of (N, C, H, W); rows and columns that fill no window are left out.

    The gradient goes to the first maximum of a window in row-major order, as in PyTorch: on images with constant
    backgrounds many windows tie, and paying every tied maximum makes the gradient's mass wrong.

    Raises:
        ShapeError: the window is larger than the input.
    """
    return MAX_POOL2D(x, kernel_size=kernel_size, stride=kernel_size if stride is None else stride)


def avg_pool2d(x: Tensor, kernel_size: int, stride: int | None = None) -> Tensor:
    """The mean of each window of (N, C, H, W); rows and columns that fill no window are left out.

    Raises:
        ShapeError: the window is larger than the input.
    """
    return AVG_POOL2D(x, kernel_size=kernel_size, stride=kernel_size if stride is None else stride)
