"""Stochastic gradient descent."""

from dataclasses import dataclass
from typing import ClassVar

from odyssey_core.errors import ConfigError
from odyssey_core.optim.optimizer import Optimizer


@dataclass(frozen=True)
class SGD(Optimizer):
    """g = grad + weight_decay p;  v = momentum v + g;  p -= lr v, or with Nesterov p -= lr (g + momentum v).

    Args:
        lr: learning rate.
        momentum: factor of the velocity, in [0, 1).
        nesterov: look ahead along the velocity.
        weight_decay: L2 penalty, added to the gradient.

    Raises:
        ConfigError: Nesterov without momentum, or a negative number.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning", ICML 2013, in
    PyTorch's form (lr outside the velocity).
    """

    rule: ClassVar[str] = "sgd"
    lr: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise ConfigError("optim.nesterov: needs optim.momentum above 0, got 0")
        if self.momentum >= 1:
            raise ConfigError(f"optim.momentum: must be below 1, got {self.momentum}")

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
