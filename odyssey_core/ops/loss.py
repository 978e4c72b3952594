"""Losses: one number for each image, from logits and labels."""

from collections.abc import Callable
from typing import Any

from odyssey_core.errors import ShapeError
from odyssey_core.tensor import Op, Shape, Tensor, require_rank

__all__ = ["cross_entropy", "multi_margin", "squared_error"]


def check_logits(loss: str, logits: Tensor, labels: Tensor) -> Shape:
    """The shape of a loss of logits (N, classes) and labels (N,). Raises ShapeError where they do not fit."""
    require_rank(loss, "logits", logits, 2, "(N, classes)")
    if labels.shape != logits.shape[:1]:
        raise ShapeError(f"{loss}: logits {logits.shape} need targets ({logits.shape[0]},), got {labels.shape}")
    return labels.shape


def _cross_entropy(logits: Tensor, labels: Tensor, *, label_smoothing: float) -> Shape:
    if not 0 <= label_smoothing < 1:
        raise ShapeError(f"cross_entropy: label_smoothing must be at least 0 and below 1, got {label_smoothing}")
    return check_logits("cross_entropy", logits, labels)


def loss_op(name: str, shape: Callable[..., Shape], torch: Callable[..., Any]) -> tuple[Op, Op]:
    """A loss, and the op of its gradient, ``name_grad(logits, labels, grad)``."""
    grad_op = Op(f"{name}_grad", lambda logits, labels, grad, **attrs: logits.shape)
    op = Op(name, shape, lambda node, grad: (grad_op(*node.inputs, grad, **node.attrs), None), torch=torch)
    return op, grad_op


CROSS_ENTROPY, CROSS_ENTROPY_GRAD = loss_op(
    "cross_entropy",
    _cross_entropy,
    lambda emit, node, logits, labels: emit("nn.functional.cross_entropy", logits, labels, **node.attrs),
)
SQUARED_ERROR, SQUARED_ERROR_GRAD = loss_op(
    "squared_error",
    lambda logits, labels: check_logits("squared_error", logits, labels),
    lambda emit, node, logits, labels: emit(
        "mean", emit("square", emit("sub", logits, emit("nn.functional.one_hot", labels, node.inputs[0].shape[1])))
    ),
)
MULTI_MARGIN, MULTI_MARGIN_GRAD = loss_op(
    "multi_margin",
    lambda logits, labels: check_logits("multi_margin", logits, labels),
    lambda emit, node, logits, labels: emit("nn.functional.multi_margin_loss", logits, labels),
)


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """-sum over k of q[k] log softmax(logits)[k], q = (1 - s) onehot(label) + s / classes, for each image.

    Args:
        logits: (N, classes).
        labels: (N,) classes; an image with label -1 has loss 0 and no gradient.
        label_smoothing: s, in [0, 1).

    Returns:
        (N,) one loss per image, in nats.

    Raises:
        ShapeError: shapes that do not fit, or s out of range.

    Source: label smoothing as in Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7.
    """
    return CROSS_ENTROPY(logits, labels, label_smoothing=float(label_smoothing))


def squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over k of (logits[k] - onehot(label)[k])^2, for each image.

    Args:
        logits: (N, classes).
        labels: (N,) classes; an image with label -1 has loss 0 and no gradient.

    Returns:
        (N,) one loss per image.

    Raises:
        ShapeError: shapes that do not fit.
    """
    return SQUARED_ERROR(logits, labels)


def multi_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum over k other than the label of max(0, 1 - logits[label] + logits[k]), divided by the number of classes.

    The derivative where a margin is exactly 0 is 0.

    Args:
        logits: (N, classes).
        labels: (N,) classes; an image with label -1 has loss 0 and no gradient.

    Returns:
        (N,) one loss per image.

    Raises:
        ShapeError: shapes that do not fit.
    """
    return MULTI_MARGIN(logits, labels)
