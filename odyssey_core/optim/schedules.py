"""Schedules: what the learning rate of a step is multiplied with, and the plan of a run that they go by.

Each is a function of the step and of the finished epochs alone, so a resumed run needs no state of it. Only additions,
multiplications and divisions of float64: the same bits on every machine, unlike libm's cos and pow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Annotated, ClassVar

from odyssey_core.errors import ConfigError
from odyssey_core.optim.optimizer import power
from odyssey_core.ranges import Count, Range, Share, check_ranges

AtLeastOne = Annotated[float, Range(1)]
Factor = Annotated[float, Range(0, 1, above=True)]
SmallerFactor = Annotated[float, Range(0, 1, above=True, below=True)]
Floor = Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class Schedule:
    """Base of the schedules; the fields of a subclass are its arguments, their annotations the ranges.

    Raises:
        ConfigError: a number outside its range.

    Attributes:
        shortest: epochs below which a run sees no change, whatever the arguments.
    """

    shortest: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_ranges(type(self), vars(self), "scheduler")

    def factor(self, step: int, steps: int, per_epoch: int, history: Sequence[float]) -> float:
        """What ``optim.lr`` is multiplied with.

        Args:
            step: of the run, counted from 0.
            steps: of the whole run.
            per_epoch: steps in one epoch.
            history: the monitored value of every finished epoch, in order, lower being better.
        """
        raise ConfigError(f"schedule {type(self).__name__}: define factor(self, step, steps, per_epoch, history)")

    def spans_run(self) -> bool:
        """Whether a step's factor depends on how long the run is."""
        history = [1.0] * 10
        return any(self.factor(s, 100, 10, history) != self.factor(s, 200, 10, history) for s in range(100))

    def check(self, epochs: int) -> None:
        """Raises ConfigError where a run of so many epochs ends before the schedule changes anything."""
        if epochs < self.shortest:
            name = type(self).__name__.lower()
            raise ConfigError(
                f"scheduler={name}: changes nothing in a run of fewer than {self.shortest} epochs, got {epochs}; train "
                "longer, or choose another schedule"
            )

    def _demand(self, name: str, sound: bool, expected: str) -> None:
        if not sound:
            value = getattr(self, name)
            shown = list(value) if isinstance(value, tuple) else value
            raise ConfigError(f"scheduler.{name}: {expected}, got {shown}")


@dataclass(frozen=True)
class Plan:
    """How long a run is meant to be, and how its learning rate goes; a run that ends early keeps its plan.

    Attributes:
        steps: of the whole run.
        per_epoch: of each epoch.
        schedule: multiplies the optimizer's learning rate.
    """

    steps: int
    per_epoch: int
    schedule: Schedule

    def factor(self, step: int, history: Sequence[float]) -> float:
        """See `Schedule.factor`. Raises ConfigError: it gives no finite number from 0 on."""
        factor = self.schedule.factor(step, self.steps, self.per_epoch, history)
        if not (isinstance(factor, Real) and 0 <= factor < math.inf):
            raise ConfigError(
                f"schedule {type(self.schedule).__name__}: expected a finite factor from 0 on at step {step}, got "
                f"{factor!r}"
            )
        return factor


@dataclass(frozen=True)
class Warmed(Schedule):
    """Base of the schedules that a linear warm-up may go before.

    Args:
        warmup: the first W = round(warmup steps) steps multiply the factor with (step + 1) / W. What counts
            epochs counts those of the warm-up too; what spans the run spans what is left of it after the warm-up.
    """

    warmup: Share = field(default=0.0, kw_only=True)

    def factor(self, step: int, steps: int, per_epoch: int, history: Sequence[float]) -> float:
        warm = min(round(self.warmup * steps), steps - 1)
        ramp = (step + 1) / warm if step < warm else 1.0
        return ramp * self._warm(max(step - warm, 0) / (steps - warm), step // per_epoch, history)

    def _warm(self, part: float, epoch: int, history: Sequence[float]) -> float:
        """The factor without the ramp; ``part`` in [0, 1) is how much of what follows the warm-up is over."""
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Warmed):
    """1.

    Args:
        warmup: see `Warmed`.
    """

    def _warm(self, part: float, epoch: int, history: Sequence[float]) -> float:
        return 1.0


CONSTANT = Plan(steps=1, per_epoch=1, schedule=Constant())  # the same at every step, however many there are


@dataclass(frozen=True)
class Step(Warmed):
    """gamma ^ (epoch // step_size).

    Args:
        step_size: epochs.
        gamma: factor of each fall.
        warmup: see `Warmed`.
    """

    shortest = 2
    step_size: Count = 4
    gamma: Factor = 0.1

    def check(self, epochs: int) -> None:
        super().check(epochs)
        self._demand("step_size", self.step_size < epochs, f"must be below the run's {epochs} epochs")

    def _warm(self, part: float, epoch: int, history: Sequence[float]) -> float:
        return power(self.gamma, epoch // self.step_size)


@dataclass(frozen=True)
class MultiStep(Warmed):
    """gamma ^ (number of milestones reached).

    Args:
        milestones: epochs, counted from 0, at whose start the factor falls; ascending.
        gamma: factor of each fall.
        warmup: see `Warmed`.
    """

    shortest = 2
    milestones: tuple[int, ...] = (5, 8)
    gamma: Factor = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        ascending = all(a < b for a, b in zip((0, *self.milestones), self.milestones, strict=False))
        self._demand("milestones", bool(self.milestones) and ascending, "must be ascending epochs from 1 on")

    def check(self, epochs: int) -> None:
        super().check(epochs)
        self._demand("milestones", self.milestones[-1] < epochs, f"must lie below the run's {epochs} epochs")

    def _warm(self, part: float, epoch: int, history: Sequence[float]) -> float:
        return power(self.gamma, sum(milestone <= epoch for milestone in self.milestones))


@dataclass(frozen=True)
class Exponential(Warmed):
    """gamma ^ epoch.

    Args:
        gamma: factor of each fall.
        warmup: see `Warmed`.
    """

    gamma: Factor = 0.9

    def _warm(self, part: float, epoch: int, history: Sequence[float]) -> float:
        return power(self.gamma, epoch)


@dataclass(frozen=True)
class Cosine(Warmed):
    """min_factor + (1 - min_factor) (1 + cos(pi part)) / 2, step by step; part is the share of the run that is over.

    Args:
        min_factor: what it falls to.
        warmup: see `Warmed`.

    Source: Loshchilov and Hutter, "SGDR", ICLR 2017, equation 5, without restarts.
    """

    min_factor: Floor = 0.0

    def _warm(self, part: float, epoch: int, history: Sequence[float]) -> float:
        return _anneal(1.0, self.min_factor, part)


@dataclass(frozen=True)
class Polynomial(Warmed):
    """(1 - part) ^ power, step by step; part is the share of the run that is over. 1 is linear.

    Args:
        power: a whole number of at least 1: others would need libm.
        warmup: see `Warmed`.
    """

    power: Count = 1

    def _warm(self, part: float, epoch: int, history: Sequence[float]) -> float:
        return power(1 - part, self.power)


@dataclass(frozen=True)
class Plateau(Warmed):
    """gamma ^ (number of plateaus), never below min_factor.

    A plateau is patience + 1 epochs in a row none of which was below best - threshold |best|.

    Args:
        gamma: factor of each fall; PyTorch's ``factor``.
        patience: epochs without improvement that are let pass.
        threshold: the relative improvement that counts.
        min_factor: what it never falls below.
        warmup: see `Warmed`.

    Source: PyTorch's ReduceLROnPlateau with threshold_mode "rel", for values above 0.
    """

    gamma: SmallerFactor = 0.1
    shortest = 3
    patience: Annotated[int, Range(0)] = 2
    threshold: Annotated[float, Range(0)] = 1e-4
    min_factor: Floor = 0.0

    def check(self, epochs: int) -> None:
        super().check(epochs)
        expected = f"must be below {epochs - 2} for a run of {epochs} epochs to see a plateau and use it"
        self._demand("patience", self.patience < epochs - 2, expected)

    def _warm(self, part: float, epoch: int, history: Sequence[float]) -> float:
        best, bad, plateaus = math.inf, 0, 0
        for value in history:
            # inf - inf would be NaN: the first value always improves.
            if value < (best - self.threshold * abs(best) if best < math.inf else best):
                best, bad = value, 0
            else:
                bad += 1
            if bad > self.patience:
                plateaus, bad = plateaus + 1, 0
        return max(power(self.gamma, plateaus), self.min_factor)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Along a cosine from 1 / div_factor up to 1, then down to 1 / (div_factor final_div_factor), step by step.

    ``optim.lr`` is the peak. The momentum stays as it is.

    Args:
        pct_start: share of the run that rises, in (0, 1).
        div_factor: at least 1.
        final_div_factor: at least 1.

    Source: Smith and Topin, "Super-Convergence", 2018, in PyTorch's form (two phases, cosine).
    """

    pct_start: SmallerFactor = 0.3
    div_factor: AtLeastOne = 25.0
    final_div_factor: AtLeastOne = 1e4

    def factor(self, step: int, steps: int, per_epoch: int, history: Sequence[float]) -> float:
        first, peak = 1 / self.div_factor, self.pct_start * steps - 1
        if step < peak:
            return _anneal(first, 1.0, step / peak)
        return _anneal(1.0, first / self.final_div_factor, (step - peak) / (steps - 1 - peak))


@dataclass(frozen=True)
class Triangular(Schedule):
    """Straight from ``start`` up to 1, then straight down to ``end``, step by step.

    Args:
        start: factor of the first step.
        peak: share of the run after which it is 1, rounded down to a whole step.
        end: what it would be at the step after the last.

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, one cycle, in the form of Jordan,
    "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024.
    """

    start: Floor = 0.2
    peak: SmallerFactor = 0.25
    end: Floor = 0.0

    def factor(self, step: int, steps: int, per_epoch: int, history: Sequence[float]) -> float:
        top = int(self.peak * steps)
        if step < top:
            return self.start + (1 - self.start) * (step / top)
        return 1 + (self.end - 1) * ((step - top) / (steps - top))


def _anneal(start: float, end: float, part: float) -> float:
    """From start to end along half a cosine."""
    return end + (start - end) * (1 + cos_pi(part)) / 2


def cos_pi(x: float) -> float:
    """cos(pi x) for x in [0, 1] to 5e-16, by Taylor's series."""
    if x > 0.5:
        return -cos_pi(1 - x)
    square, result = (math.pi * x) * (math.pi * x), 1.0
    for k in range(24, 0, -2):
        result = 1 - square / (k * (k - 1)) * result
    return result
