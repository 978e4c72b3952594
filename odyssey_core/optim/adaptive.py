"""Methods that scale each coordinate by the running size of its gradient."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from odyssey_core import lazy_numpy as np
from odyssey_core.arithmetic import fma
from odyssey_core.optim.optimizer import Optimizer, power
from odyssey_core.ranges import PositiveSize, Share, Size


@dataclass(frozen=True)
class Adam(Optimizer):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p -= lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps).

    Args:
        lr: learning rate.
        betas: (b1, b2), decay of the two averages.
        eps: added to the denominator, which is 0 where no gradient has come yet.
        weight_decay: L2 penalty, added to the gradient.

    Source: Kingma and Ba, "Adam", ICLR 2015, algorithm 1.
    """

    lr: Size = 0.001
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: PositiveSize = 1e-8
    weight_decay: Size = 0.0

    @property
    def rule(self) -> Callable[..., Any]:
        return adam

    def constants(self) -> dict[str, float]:
        b1, b2 = self.betas
        of_betas = {"beta1": b1, "rest1": 1 - b1, "beta2": b2, "rest2": 1 - b2}
        return {**of_betas, "eps": self.eps, "weight_decay": self.weight_decay}

    def step_values(self, step: int, lr: float) -> dict[str, float]:
        b1, b2 = self.betas
        first, second = 1 - power(b1, step + 1), 1 - power(b2, step + 1)
        return {"lr": lr, "step_size": lr / first, "correction": 1 / math.sqrt(second)}


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with weight decay taken off the parameter, p -= lr weight_decay p, before the step.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, algorithm 2, in PyTorch's form
    (the decay is multiplied by lr).
    """

    weight_decay: Size = 0.01

    @property
    def rule(self) -> Callable[..., Any]:
        return adamw


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """v = alpha v + (1 - alpha) g^2;  d = g / (sqrt(v) + eps);  b = momentum b + d;  p -= lr b.

    Args:
        lr: learning rate.
        alpha: decay of the average.
        eps: added to the denominator, which is 0 where no gradient has come yet.
        weight_decay: L2 penalty, added to the gradient.
        momentum: factor of the velocity b.

    Source: Hinton, "Neural Networks for Machine Learning", lecture 6e, 2012, in PyTorch's form (eps outside the root).
    """

    lr: Size = 0.01
    alpha: Share = 0.99
    eps: PositiveSize = 1e-8
    weight_decay: Size = 0.0
    momentum: Share = 0.0

    @property
    def rule(self) -> Callable[..., Any]:
        return rmsprop

    def constants(self) -> dict[str, float]:
        return {**super().constants(), "rest": 1 - self.alpha}


def averages(g: Any, mean: Any, square: Any, beta1: Any, rest1: Any, beta2: Any, rest2: Any) -> tuple[Any, Any]:
    """Those of the gradient and of its square, as `Adam` moves them."""
    return fma(beta1, mean, rest1 * g), fma(beta2, square, rest2 * g * g)


def _adapted(
    p: Any,
    g: Any,
    mean: Any,
    square: Any,
    beta1: Any,
    rest1: Any,
    beta2: Any,
    rest2: Any,
    eps: Any,
    step_size: Any,
    correction: Any,
) -> Any:
    mean, square = averages(g, mean, square, beta1, rest1, beta2, rest2)
    return p - step_size * mean / fma(np.sqrt(square), correction, eps), mean, square


def adam(
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
    step_size: Any,
    correction: Any,
) -> Any:
    """See `Adam`; ``rest1`` and ``rest2`` are 1 - b1 and 1 - b2, each rounded once."""
    g = fma(weight_decay, p, g)
    return _adapted(p, g, mean, square, beta1, rest1, beta2, rest2, eps, step_size, correction)


def adamw(
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
    lr: Any,
    step_size: Any,
    correction: Any,
) -> Any:
    """See `AdamW`."""
    p = p - lr * weight_decay * p
    return _adapted(p, g, mean, square, beta1, rest1, beta2, rest2, eps, step_size, correction)


def rmsprop(
    p: Any,
    g: Any,
    square: Any,
    velocity: Any,
    *,
    alpha: Any,
    rest: Any,
    eps: Any,
    weight_decay: Any,
    momentum: Any,
    lr: Any,
) -> Any:
    """See `RMSprop`; ``rest`` is 1 - alpha, rounded once."""
    g = fma(weight_decay, p, g)
    square = fma(alpha, square, rest * g * g)
    velocity = fma(momentum, velocity, g / (np.sqrt(square) + eps))
    return fma(-lr, velocity, p), square, velocity
