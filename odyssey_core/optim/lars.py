"""Steps in proportion to the size of each layer's weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from odyssey_core import lazy_numpy as np
from odyssey_core.arithmetic import fma
from odyssey_core.optim.optimizer import Optimizer
from odyssey_core.ranges import PositiveSize, Share, Size

SMALLEST = 1e-37  # a norm below is nearly none, and its trust nearly 1


@dataclass(frozen=True)
class LARS(Optimizer):
    """r = trust |p| / (|g| + weight_decay |p| + eps);  v = momentum v + r (g + weight_decay p);  p -= lr v.

    The norms are those of one parameter and of its gradient.

    Args:
        lr: learning rate.
        momentum: factor of the velocity v.
        weight_decay: L2 penalty, added to the gradient.
        trust: how far a step of lr 1 changes a parameter, as a part of its norm.
        eps: added to the denominator, for gradients that are all 0.

    Source: You, Gitman, Ginsburg, "Large Batch Training of Convolutional Networks", arXiv:1708.03888, 2017, algorithm
    1. We depart from it in these points: lr is outside the velocity, as in PyTorch's SGD; a parameter that is all 0,
    such as a bias at first, has r = 1, as in most implementations, since it would stay 0.
    """

    lr: Size = 0.1
    momentum: Share = 0.9
    weight_decay: Size = 0.0
    trust: Size = 0.001
    eps: PositiveSize = 1e-8

    @property
    def rule(self) -> Callable[..., Any]:
        return lars


def lars(
    p: Any,
    g: Any,
    velocity: Any,
    *,
    lr: Any,
    momentum: Any,
    weight_decay: Any,
    trust: Any,
    eps: Any,
    parameter_norm: Any,
    gradient_norm: Any,
) -> Any:
    """See `LARS`."""
    some = parameter_norm / np.maximum(parameter_norm, SMALLEST)  # 1, or 0 where the parameter is all 0
    scaled = trust * parameter_norm / (fma(weight_decay, parameter_norm, gradient_norm) + eps)
    velocity = fma(momentum, velocity, fma(some, scaled, 1 - some) * fma(weight_decay, p, g))
    return fma(-lr, velocity, p), velocity
