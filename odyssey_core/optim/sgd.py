"""Stochastic gradient descent."""

from dataclasses import dataclass
from typing import ClassVar

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

    rule: ClassVar[str] = "sgd"
    lr: Size = 0.01
    momentum: Share = 0.0
    nesterov: bool = False
    weight_decay: Size = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise ConfigError("optim.nesterov: needs optim.momentum above 0, got 0")

    def slots(self):
        return ("velocity",) if self.momentum else ()

    def constants(self):
        return self.momentum, float(self.nesterov), self.weight_decay

    def apply(self, parameter, grad, slots, scalars):
        (lr,) = scalars
        grad = grad + self.weight_decay * parameter
        if not self.momentum:
            return parameter - lr * grad
        velocity = slots["velocity"]
        velocity[...] = self.momentum * velocity + grad
        return parameter - lr * (grad + self.momentum * velocity if self.nesterov else velocity)
