"""The contract of an optimizer: its slots, its numbers per step, its rule on one parameter, and what goes around it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from odyssey_core.ranges import Range, Share, Size, check_ranges
from odyssey_core.tensor import Tensor

ClipNorm = Annotated[float, Range(0, above=True)]


@dataclass(frozen=True)
class Optimizer:
    """Base of the update rules; the fields of a subclass are its arguments, their annotations the ranges.

    Attributes:
        rule: the name under which a backend finds its implementation of ``apply``.
        lr: learning rate at the start of a run; schedules scale it step by step.

    Raises:
        ConfigError: a number outside its range.
    """

    rule: ClassVar[str]
    lr: Size

    def __post_init__(self) -> None:
        check_ranges(type(self), vars(self), "optim")

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


@dataclass(frozen=True)
class StepRule:
    """What a step does to all parameters alike: before the optimizer's rule, g *= min(1, clip_norm / (|g| + 1e-6))
    with |g| the norm of all gradients together; after it, e = d e + (1 - d) p with d = min(ema, (1 + t) / (10 + t)),
    t being the number of steps before this one.

    Args:
        clip_norm: largest norm; None leaves gradients as they are.
        ema: largest decay of the average e of each parameter; None keeps no average.

    Raises:
        ConfigError: a number outside its range.

    Source: Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013, algorithm 1, in
    PyTorch's form (1e-6); Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992, with an
    exponential window. The decay's ramp is that of TensorFlow's tf.train.ExponentialMovingAverage with num_updates: an
    average over as long a window as there are steps forgets the random weights it starts as, after t steps all but
    9! / (t + 1) ... (t + 9) of them; a decay of 0.999 from the first step on keeps 90 % of them over 100 steps.
    """

    clip_norm: ClipNorm | None = None
    ema: Share | None = None

    def __post_init__(self) -> None:
        check_ranges(StepRule, vars(self), "trainer")

    def slots(self) -> tuple[str, ...]:
        """Names of the arrays kept for each parameter; each starts as a copy of it."""
        return () if self.ema is None else ("ema",)

    def scalars(self, step: int) -> tuple[float, ...]:
        """The numbers that belong to one step, counted from 0; they follow the optimizer's."""
        return () if self.ema is None else (min(self.ema, (1 + step) / (10 + step)),)

    def clip(self, grads: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The gradients, scaled together. The reference for every backend."""
        if self.clip_norm is None:
            return list(grads)
        norm = np.sqrt(sum(np.square(grad).sum() for grad in grads))
        # A norm that is NaN stays one, as in PyTorch.
        return [grad * np.minimum(self.clip_norm / (norm + 1e-6), 1) for grad in grads]

    def average(self, slots: dict[str, np.ndarray], parameter: np.ndarray, scalars: np.ndarray) -> None:
        """Updates the slots in place with the parameter after its step. The reference for every backend."""
        if self.ema is not None:
            (decay,) = scalars
            slots["ema"][...] = decay * slots["ema"] + (1 - decay) * parameter


PLAIN = StepRule()


def power(base: float, exponent: int) -> float:
    """base ** exponent by squaring: multiplications alone, so the same bits everywhere, unlike libm's pow."""
    result: Any = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result
