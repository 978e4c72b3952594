"""The contract of an optimizer: its slots, its numbers per step, and its rule on one parameter."""

from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from odyssey_core.errors import ConfigError
from odyssey_core.tensor import Tensor


@dataclass(frozen=True)
class Optimizer:
    """Base of the update rules; the fields of a subclass are its arguments.

    Attributes:
        rule: the name under which a backend finds its implementation of ``apply``.
        lr: learning rate at the start of a run; schedules scale it step by step.
    """

    rule: ClassVar[str]
    lr: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not np.all(np.isfinite(value)):
                raise ConfigError(f"optim.{field.name}: must be finite, got {value}")
            if not isinstance(value, bool) and np.any(np.asarray(value) < 0):
                raise ConfigError(f"optim.{field.name}: must not be negative, got {value}")

    def slots(self) -> tuple[str, ...]:
        """Names of the arrays kept for each parameter, all zero at the start."""
        return ()

    def constants(self) -> tuple[float, ...]:
        """The numbers that stay the same over a run, in the order in which kernels take them."""
        return ()

    def scalars(self, step: int, lr: float) -> tuple[float, ...]:
        """The numbers that belong to one step, counted from 0, in the order in which kernels take them."""
        return (lr,)

    def apply(
        self, parameter: np.ndarray, grad: np.ndarray, slots: dict[str, np.ndarray], scalars: np.ndarray
    ) -> np.ndarray:
        """The parameter after the step; slots are updated in place. The reference for every backend."""
        raise NotImplementedError


@dataclass(frozen=True)
class Update:
    """One parameter's update, as handed to a backend.

    Attributes:
        name: the parameter's path in the model.
        parameter: its node.
        grad: the node of its gradient.
        optimizer: the rule.
    """

    name: str
    parameter: Tensor
    grad: Tensor
    optimizer: Optimizer


def power(base: float, exponent: int) -> float:
    """base ** exponent by squaring: multiplications alone, so the same bits everywhere, unlike libm's pow."""
    result: Any = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result
