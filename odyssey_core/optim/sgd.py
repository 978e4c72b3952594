"""Stochastic gradient descent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from odyssey_core.arithmetic import fma
from odyssey_core.errors import ConfigError
from odyssey_core.optim.optimizer import Optimizer
from odyssey_core.ranges import Share, Size


@dataclass(frozen=True)
class SGD(Optimizer):
    """g = grad + weight_decay p;  v = momentum v + g;  p -= lr v, or with Nesterov p -= lr (g + momentum v).

    Args:
        lr: learning rate.
        momentum: factor of the velocity.
        nesterov: look ahead along the velocity.
        weight_decay: L2 penalty, added to the gradient.

    Raises:
        ConfigError: Nesterov without momentum, or a number outside its range.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013, in
    PyTorch's form (lr outside the velocity).
    """

    lr: Size = 0.01
    momentum: Share = 0.0
    nesterov: bool = False
    weight_decay: Size = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise ConfigError("optim.nesterov: needs optim.momentum above 0, got 0")

    @property
    def rule(self) -> Callable[..., Any]:
        return nesterov if self.nesterov else momentum if self.momentum else gradient_descent


def gradient_descent(p: Any, g: Any, *, lr: Any, weight_decay: Any) -> Any:
    """See `SGD`, without momentum."""
    return fma(-lr, fma(weight_decay, p, g), p)


def momentum(p: Any, g: Any, velocity: Any, *, lr: Any, momentum: Any, weight_decay: Any) -> Any:
    """See `SGD`."""
    velocity = fma(momentum, velocity, fma(weight_decay, p, g))
    return fma(-lr, velocity, p), velocity


def nesterov(p: Any, g: Any, velocity: Any, *, lr: Any, momentum: Any, weight_decay: Any) -> Any:
    """See `SGD`."""
    g = fma(weight_decay, p, g)
    velocity = fma(momentum, velocity, g)
    return fma(-lr, fma(momentum, velocity, g), p), velocity


@dataclass(frozen=True)
class SGDW(SGD):
    """SGD with weight decay taken off the parameter, p -= lr weight_decay p, before the step: it does not pass through
    the velocity.

    Args:
        lr: learning rate.
        momentum: factor of the velocity.
        nesterov: look ahead along the velocity.
        weight_decay: decay of the parameter, multiplied by lr.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, algorithm 1, in the form that
    PyTorch gives AdamW (the decay is multiplied by lr).
    """

    @property
    def rule(self) -> Callable[..., Any]:
        return decayed_nesterov if self.nesterov else decayed_momentum


def decayed_momentum(p: Any, g: Any, velocity: Any, *, lr: Any, momentum: Any, weight_decay: Any) -> Any:
    """See `SGDW`; without momentum the velocity is the gradient."""
    velocity = fma(momentum, velocity, g)
    return fma(-lr, velocity, p - lr * weight_decay * p), velocity


def decayed_nesterov(p: Any, g: Any, velocity: Any, *, lr: Any, momentum: Any, weight_decay: Any) -> Any:
    """See `SGDW`."""
    velocity = fma(momentum, velocity, g)
    return fma(-lr, fma(momentum, velocity, g), p - lr * weight_decay * p), velocity
