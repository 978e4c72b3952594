"""Losses that a model is trained by: each makes one number for each image of logits and labels.

The training loss of a step is the mean over its images. ``train/loss`` records it; ``val/loss`` and ``test/loss``
record what `Loss.in_evaluation` gives, which leaves out what only serves training.
"""

from dataclasses import dataclass
from typing import ClassVar

from odyssey_core import ops
from odyssey_core.errors import ConfigError
from odyssey_core.ranges import Share, check_ranges
from odyssey_core.registry import Registry
from odyssey_core.tensor import Tensor


@dataclass(frozen=True)
class Loss:
    """Base of the losses; the fields of a subclass are its arguments.

    Attributes:
        label: what the numbers are, with their unit, for axes of plots.
    """

    label: ClassVar[str] = "loss"

    def __post_init__(self) -> None:
        check_ranges(type(self), vars(self), "loss")

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(N,) the loss of each image.

        Args:
            logits: (N, classes).
            labels: (N,) classes, -1 where there is no image; the loss is 0 there.
        """
        raise ConfigError(f"loss {type(self).__name__}: define __call__(self, logits, labels)")

    def in_evaluation(self) -> "Loss":
        """The loss that validation and test report."""
        return self


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """-sum over k of q[k] log softmax(logits)[k], q = (1 - s) onehot(label) + s / classes, in nats.

    Evaluation reports it without smoothing.

    Args:
        label_smoothing: s, probability spread evenly over the classes.

    Source: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7, for the smoothing.
    """

    label: ClassVar[str] = "cross-entropy (nats)"
    label_smoothing: Share = 0.0

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return ops.cross_entropy(logits, labels, self.label_smoothing)

    def in_evaluation(self) -> Loss:
        return CrossEntropy()


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """The mean over k of (logits[k] - onehot(label)[k])^2; softmax plays no part.

    Source: Hui and Belkin, "Evaluation of Neural Architectures Trained with Square Loss vs Cross-Entropy in
    Classification Tasks", ICLR 2021, without their rescaling for many classes.
    """

    label: ClassVar[str] = "mean squared error"

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return ops.squared_error(logits, labels)


@dataclass(frozen=True)
class MultiMargin(Loss):
    """The sum over k other than the label of max(0, 1 - logits[label] + logits[k]), divided by the number of classes.

    Source: Weston and Watkins, "Support Vector Machines for Multi-Class Pattern Recognition", ESANN 1999, in PyTorch's
    form (divided by the classes).
    """

    label: ClassVar[str] = "multi-class hinge loss"

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return ops.multi_margin(logits, labels)


LOSSES = Registry(
    "loss",
    {"cross_entropy": CrossEntropy, "mse": MeanSquaredError, "multi_margin": MultiMargin},
    "losses",
    base="odyssey_core.losses:Loss",
)
