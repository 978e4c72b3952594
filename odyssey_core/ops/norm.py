"""Batch normalisation: statistics over the images of a step, and what stands for them when nothing is trained."""

import math
from collections.abc import Callable

from odyssey_core.errors import ShapeError
from odyssey_core.ops.affine import GRAD_BIAS
from odyssey_core.ops.leaves import batch_weight
from odyssey_core.tensor import Op, Shape, Tensor, require_rank

__all__ = ["batch_norm2d"]


def _shape(x: Tensor, weight: Tensor, bias: Tensor, *statistics: Tensor, **attrs: float) -> Shape:
    channels, (*_, running_mean, running_variance) = x.shape[1], statistics
    named = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_variance": running_variance}
    for name, value in named.items():
        if value.shape != (channels,):
            raise ShapeError(
                f"batch_norm2d: {name} must have shape ({channels},) to match the input, got {value.shape}"
            )
    return x.shape


def _moments(x: Tensor, of_images: Tensor) -> Shape:
    require_rank("batch_norm2d", "input", x, 4, "(N, C, H, W)")
    return 2, x.shape[1]


def _gradient(node: Tensor, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, _, moments, of_images, *_ = node.inputs
    eps = node.attrs["eps"]
    grad_weight, grad_bias = BATCH_NORM2D_GRAD_WEIGHT(x, moments, grad, eps=eps), GRAD_BIAS(grad)
    statistics = moments, of_images, grad_weight, grad_bias
    # What reaches the input by way of the two moments is part of its own gradient here.
    return BATCH_NORM2D_GRAD_INPUT(x, weight, grad, *statistics, eps=eps), grad_weight, grad_bias, *[None] * 4


def _after_step(node: Tensor, latest: Callable[[Tensor], Tensor]) -> dict[Tensor, Tensor]:
    x, _, _, moments, of_images, running_mean, running_variance = node.inputs
    momentum, pixels = node.attrs["momentum"], math.prod(x.shape[2:])
    return {
        running_mean: RUNNING_MEAN(latest(running_mean), moments, momentum=momentum),
        running_variance: RUNNING_VARIANCE(
            latest(running_variance), moments, of_images, momentum=momentum, pixels=pixels
        ),
    }


def _inference(node: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
    x, weight, bias, *_, running_mean, running_variance = inputs
    return NORMALIZE2D(x, weight, bias, running_mean, running_variance, eps=node.attrs["eps"])


# The mean and the variance over the images of the step and over their pixels; a place without an image has weight 0.
# PyTorch's batch_norm computes both by itself.
CHANNEL_MOMENTS = Op("channel_moments", _moments, reduces=True, torch=lambda emit, node, *operands: "")
RUNNING_MEAN = Op("running_mean", lambda old, moments, *, momentum: old.shape)
RUNNING_VARIANCE = Op("running_variance", lambda old, moments, of_images, *, momentum, pixels: old.shape, reduces=True)
BATCH_NORM2D_GRAD_WEIGHT = Op(
    "batch_norm2d_grad_weight", lambda x, moments, grad, *, eps: moments.shape[1:], reduces=True
)
BATCH_NORM2D_GRAD_INPUT = Op(
    "batch_norm2d_grad_input",
    lambda x, weight, grad, moments, of_images, grad_weight, grad_bias, *, eps: x.shape,
)
NORMALIZE2D = Op(
    "normalize2d",
    _shape,
    onnx=lambda emit, node, *operands: emit("BatchNormalization", *operands, epsilon=node.attrs["eps"]),
    torch=lambda emit, node, x, weight, bias, mean, variance: emit(
        "nn.functional.batch_norm", x, mean, variance, weight, bias, eps=node.attrs["eps"]
    ),
)
BATCH_NORM2D = Op(
    "batch_norm2d",
    _shape,
    _gradient,
    inference=_inference,
    after_step=_after_step,
    torch=lambda emit, node, x, weight, bias, _moments, _of_images, running_mean, running_variance: emit(
        "nn.functional.batch_norm", x, running_mean, running_variance, weight, bias, training=True, **node.attrs
    ),
)


def batch_norm2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_variance: Tensor,
    *,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """y = weight (x - m) / sqrt(v + eps) + bias, for each channel.

    In training m and v are the mean and the biased variance (divided by n) of the channel over the n = images x H x W
    values of the step; places of the batch without an image do not count. After the step

        running_mean = (1 - momentum) running_mean + momentum m
        running_variance = (1 - momentum) running_variance + momentum v n / (n - 1)

    as in PyTorch. In inference m and v are ``running_mean`` and ``running_variance``. Where a step has one image of one
    pixel, which PyTorch refuses, y is the bias and the variance v that is averaged is 0.

    Args:
        x: (N, C, H, W).
        weight: (C,).
        bias: (C,).
        running_mean: (C,) a buffer.
        running_variance: (C,) a buffer.
        momentum: weight of the newest value in the running ones, in [0, 1].
        eps: added to the variance, above 0.

    Returns:
        (N, C, H, W).

    Raises:
        ShapeError: shapes differ, or a number is out of range.

    Source: Ioffe, Szegedy, "Batch Normalization", ICML 2015, algorithms 1 and 2; running averages as in PyTorch,
    where the paper takes means over many batches.
    """
    require_rank("batch_norm2d", "input", x, 4, "(N, C, H, W)")
    if not 0 <= momentum <= 1 or not eps > 0:
        raise ShapeError(f"batch_norm2d: momentum must lie in [0, 1] and eps be above 0, got {momentum} and {eps}")
    of_images = batch_weight(x.shape[0])
    moments = CHANNEL_MOMENTS(x, of_images)
    operands = x, weight, bias, moments, of_images, running_mean, running_variance
    return BATCH_NORM2D(*operands, momentum=float(momentum), eps=float(eps))
