"""Adam's steps, in proportion to the size of each layer's weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from odyssey_core import lazy_numpy as np
from odyssey_core.arithmetic import fma
from odyssey_core.optim.adaptive import Adam, averages
from odyssey_core.optim.optimizer import power
from odyssey_core.ranges import PositiveSize

SMALLEST = 1e-37  # a norm below is nearly none, and the ratio nearly 1


@dataclass(frozen=True)
class LAMB(Adam):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;
    u = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay p;  p -= lr |p| / |u| u.

    The norms are those of one parameter and of its step u.

    Args:
        lr: learning rate; the part of its norm by which a parameter changes in a step.
        betas: (b1, b2), decay of the two averages.
        eps: added to the denominator, which is 0 where no gradient has come yet.
        weight_decay: decay of the parameter, a part of its step.

    Source: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", ICLR 2020, algorithm
    2, with the identity for its function of |p|. We depart from it in one point: where the parameter or its step is all
    0, such as a bias at first, |p| / |u| is replaced by 1, as in the authors' program, since it would stay 0.
    """

    eps: PositiveSize = 1e-6

    @property
    def direction(self) -> Callable[..., Any]:
        return lamb_direction

    @property
    def rule(self) -> Callable[..., Any]:
        return lamb

    def step_values(self, step: int, lr: float) -> dict[str, float]:
        first = 1 - power(self.betas[0], step + 1)
        return super().step_values(step, lr) | {"of_mean": 1 / first}


def lamb_direction(
    p: Any,
    g: Any,
    mean: Any,
    square: Any,
    *,
    beta1: Any,
    rest1: Any,
    beta2: Any,
    rest2: Any,
    eps: Any,
    weight_decay: Any,
    of_mean: Any,
    correction: Any,
) -> Any:
    """See `LAMB`; ``rest1`` and ``rest2`` are 1 - b1 and 1 - b2, each rounded once."""
    mean, square = averages(g, mean, square, beta1, rest1, beta2, rest2)
    return fma(weight_decay, p, of_mean * mean / fma(np.sqrt(square), correction, eps)), mean, square


def lamb(p: Any, g: Any, *, lr: Any, parameter_norm: Any, gradient_norm: Any) -> Any:
    """See `LAMB`; ``g`` is the step u."""
    least = np.minimum(parameter_norm, gradient_norm)
    some = least / np.maximum(least, SMALLEST)  # 1, or 0 where one of them is 0
    ratio = fma(some, parameter_norm / (gradient_norm + (1 - some)), 1 - some)
    return fma(-lr * ratio, g, p)
