"""Softmax cross-entropy."""

from odyssey_core.errors import ShapeError
from odyssey_core.tensor import Op, Shape, Tensor, require_rank


def _shape(logits: Tensor, targets: Tensor, *, label_smoothing: float) -> Shape:
    require_rank("cross_entropy", "logits", logits, 2, "(N, classes)")
    if targets.shape != logits.shape[:1]:
        raise ShapeError(f"cross_entropy: logits {logits.shape} need targets ({logits.shape[0]},), got {targets.shape}")
    if not 0 <= label_smoothing < 1:
        raise ShapeError(f"cross_entropy: label_smoothing must be at least 0 and below 1, got {label_smoothing}")
    return targets.shape


CROSS_ENTROPY_GRAD = Op("cross_entropy_grad", lambda logits, targets, grad, *, label_smoothing: logits.shape)
CROSS_ENTROPY = Op(
    "cross_entropy",
    _shape,
    lambda node, grad: (CROSS_ENTROPY_GRAD(*node.inputs, grad, **node.attrs), None),
)


def cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """-sum over k of q[k] log softmax(logits)[k], q = (1 - s) onehot(target) + s / classes, for each image.

    Args:
        logits: (N, classes).
        targets: (N,) classes; an image with target -1 has loss 0 and no gradient.
        label_smoothing: s, in [0, 1).

    Returns:
        (N,) one loss per image, in nats.

    Source: label smoothing as in Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7.
    """
    return CROSS_ENTROPY(logits, targets, label_smoothing=float(label_smoothing))
