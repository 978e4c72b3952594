"""The contract of an optimizer: a rule in plain arithmetic, which NumPy and compiled kernels both run, and its numbers.

A rule is a function ``rule(p, g, slot..., *, number...) -> (p, slot...)`` of a parameter's elements p, their gradient g
and as many values as the rule keeps for each. It uses operators, `fma`, and NumPy's sqrt, minimum and maximum. The
names in its signature are a contract: of slots, as a checkpoint keeps them; of numbers, each of which is a field of
the optimizer, one that `Optimizer.constants` or `Optimizer.step_values` gives, or one of `NORMS`.

An optimizer may have a second function, ``direction(p, g, slot..., *, number...) -> (g, slot...)``, which comes first
and gives what the rule takes for the gradient: whose norm is wanted, or which is to be made orthogonal.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from odyssey_core import lazy_numpy as np
from odyssey_core.arithmetic import fma
from odyssey_core.errors import ConfigError
from odyssey_core.optim.groups import Groups, assigned, read
from odyssey_core.ranges import Count, Natural, Range, Share, Size, check_ranges
from odyssey_core.tensor import Tensor

ClipNorm = Annotated[float, Range(0, above=True)]

# Euclidean norms that a rule may ask for: of this parameter, of its gradient, of the gradients of all parameters.
NORMS = ("parameter_norm", "gradient_norm", "all_gradients_norm")


@dataclass(frozen=True)
class Optimizer:
    """Base of the update rules; the fields of a subclass are its arguments, their annotations the ranges.

    Attributes:
        lr: learning rate at the start of a run; schedules scale it step by step.
        groups: of parameters that are trained in another way, see `groups.Group`; the first whose pattern a name
            matches has the parameter.
        orthogonal: whether the direction of each matrix is made orthogonal, see `muon.orthogonalized`.

    Raises:
        ConfigError: a number outside its range, or a group that is none.
    """

    orthogonal: ClassVar[bool] = False
    lr: Size
    groups: Groups = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        groups, faults = read(self.groups, "optim.groups")
        if faults:
            raise ConfigError("\n".join(faults))
        object.__setattr__(self, "groups", groups)
        check_ranges(type(self), vars(self), "optim")
        if any(group.weight_decay != 1 for group in groups) and not hasattr(self, "weight_decay"):
            raise ConfigError(f"optim.groups: {type(self).__name__} has no weight decay to be multiplied")

    def of_group(self, number: int) -> "Optimizer":
        """The optimizer of a group's parameters, but for the factor of the learning rate; 0 for those of none."""
        if not number:
            return self
        factor = self.groups[number - 1].weight_decay
        if factor == 1:
            return self
        own: dict[str, Any] = {"weight_decay": factor * vars(self)["weight_decay"]}
        return replace(self, **own)

    def updates(self, parameters: Mapping[str, Tensor]) -> dict[str, int]:
        """The parameters that are trained, by name, with the number of their group.

        Raises:
            ConfigError: a group that no parameter belongs to, or no parameter that is trained.
        """
        free = [name for name, node in parameters.items() if node.attrs["trained"]]
        found = assigned(self.groups, free)
        kept = {name: number for name, number in found.items() if not number or self.groups[number - 1].lr}
        if not kept:
            raise ConfigError("optim.groups: no parameter is left to be trained")
        return kept

    @property
    def rule(self) -> Callable[..., Any]:
        """The function that is applied to each parameter."""
        raise ConfigError(f"optimizer {type(self).__name__}: define the property rule, a function (p, g, ..., *, lr)")

    @property
    def direction(self) -> Callable[..., Any] | None:
        """The function that is applied before it, and makes the gradient that it takes; None where there is none."""
        return None

    def constants(self) -> dict[str, float]:
        """The numbers that stay the same over a run, by name."""
        return {name: value for name, value in vars(self).items() if name not in ("lr", "groups")}

    def step_values(self, step: int, lr: float) -> dict[str, float]:
        """The numbers that belong to one step, by name.

        Args:
            step: counted from 0.
            lr: what the schedule has made of the learning rate for this step.
        """
        return {"lr": lr}

    def remedy(self) -> str:
        """What to change where training with it made numbers that are not finite."""
        decay = getattr(self, "weight_decay", 0.0)
        if self.lr * decay >= 1:
            return f"lower optim.weight_decay (now {decay:g}): times optim.lr it takes off more than the whole weight"
        return f"lower optim.lr (now {self.lr})"

    def slots(self) -> tuple[str, ...]:
        """Names of the arrays kept for each parameter, all zero at the start."""
        return tuple(slot for part in (self.direction, self.rule) if part for slot in _slots(part))


@cache  # NumPy's steps ask each time, and reading a signature costs more than most rules
def _arrays(rule: Callable[..., Any]) -> tuple[str, ...]:
    """Positional arguments: the parameter, its gradient, and what is kept for each."""
    return tuple(x.name for x in inspect.signature(rule).parameters.values() if x.kind is not x.KEYWORD_ONLY)


def _slots(rule: Callable[..., Any]) -> tuple[str, ...]:
    """Positional arguments that are neither the parameter nor its gradient."""
    return tuple(name for name in _arrays(rule) if name not in ("p", "g"))


@cache
def _numbers(rule: Callable[..., Any]) -> tuple[str, ...]:
    return tuple(x.name for x in inspect.signature(rule).parameters.values() if x.kind is x.KEYWORD_ONLY)


@dataclass(frozen=True)
class Update:
    """One parameter's update, as handed to a backend.

    Attributes:
        name: the parameter's path in the model.
        parameter: its node.
        grad: the node of its gradient.
        optimizer: whose rule is applied.
        group: number of the optimizer's group that it belongs to; 0 for none.
    """

    name: str
    parameter: Tensor
    grad: Tensor
    optimizer: Optimizer
    group: int = 0

    @property
    def orthogonal(self) -> bool:
        """Whether its direction is made orthogonal."""
        return self.optimizer.orthogonal and len(self.parameter.shape) > 1


@dataclass(frozen=True)
class WholeRule:
    """Rules applied one after the other to one parameter.

    Attributes:
        parts: the rules. One without p leaves the parameter, one with slots keeps them.
        constants: the numbers of a run, by name.
        group: number of the optimizer's group whose numbers of a step it takes.
        gives: what they change beside slots: "p", the parameter, or "g", the gradient.
    """

    parts: tuple[Callable[..., Any], ...]
    constants: Mapping[str, float] = field(hash=False)
    group: int = 0
    gives: Literal["p", "g"] = "p"

    @property
    def name(self) -> str:
        return "_".join(part.__name__ for part in self.parts)

    @property
    def slots(self) -> tuple[str, ...]:
        return tuple(slot for part in self.parts for slot in _slots(part))

    @property
    def norms(self) -> tuple[str, ...]:
        """Which of `NORMS` it asks for."""
        return tuple(name for name in NORMS if any(name in _numbers(part) for part in self.parts))

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the numbers that belong to a step."""
        numbers = dict.fromkeys(name for part in self.parts for name in _numbers(part))
        return tuple(name for name in numbers if name not in self.constants and name not in NORMS)

    @property
    def columns(self) -> dict[str, str]:
        """By the name of each of these, what `Feed.scalars` calls it."""
        return {name: _column(name, self.group) for name in self.values}

    def __call__(self, p: Any, g: Any, slots: tuple[Any, ...], numbers: Mapping[str, Any]) -> tuple[Any, ...]:
        """The elements of what it gives, and those of the slots, after the step."""
        values = {"p": p, "g": g, **dict(zip(self.slots, slots, strict=True))}
        for part in self.parts:
            takes = _arrays(part)
            result = part(*[values[name] for name in takes], **{name: numbers[name] for name in _numbers(part)})
            # A rule of gradients alone gives a gradient; others give what they are given, without the gradient.
            gives = takes if takes == ("g",) else [name for name in takes if name not in self._read_only(part)]
            results = result if isinstance(result, tuple) else (result,)
            if len(results) != len(gives):
                counts = f"expected {len(gives)} values ({', '.join(gives)}), got {len(results)}"
                raise ConfigError(f"rule {part.__name__}: {counts}")
            values |= dict(zip(gives, results, strict=True))
        return values[self.gives], *[values[slot] for slot in self.slots]

    def _read_only(self, part: Callable[..., Any]) -> tuple[str, ...]:
        """What a rule is given and does not change: the gradient; the parameter where there is no gradient."""
        return ("g",) if self.gives == "p" and "g" in _arrays(part) else ("p",)


def _column(name: str, group: int) -> str:
    """What `Feed.scalars` calls a number that belongs to a step of one group."""
    return f"{name} of group {group}" if group else name


@dataclass(frozen=True)
class Lookahead:
    """After every few steps slow weights s take a part of the way to the weights p, which go on from there:

        s = d s + (1 - d) p;  p = s,    with d = decay (t / T) ^ power

    after step t of T. So they move freely at first and are averaged at the end. The last step of a run is such a step.

    Attributes:
        every: steps.
        decay: d at the end of the run.
        power: how late it rises.

    Source: Zhang et al., "Lookahead Optimizer", NeurIPS 2019, algorithm 1; with a rising d as in Jordan, "94% on
    CIFAR-10 in 3.29 Seconds on a Single GPU", 2024 (arXiv 2404.00498). We depart from that in these
    points: there it begins after three epochs, before which d is below a hundredth; the weights go back to the slow
    ones at the end of each epoch too; and running statistics of batch norms are averaged with them.
    """

    every: Count
    decay: Share
    power: Natural

    def step_values(self, step: int, steps: int) -> dict[str, float]:
        """How much of the slow weights stays in both, and whether they stay as they are, 1 or 0."""
        done = step + 1
        if done % self.every and done != steps:
            return {"slow_share": 0.0, "slow_kept": 1.0}
        return {"slow_share": self.decay * power(min(done / steps, 1.0), self.power), "slow_kept": 0.0}


@dataclass(frozen=True)
class StepRule:
    """What a step does to all parameters alike: before the optimizer's rule, g *= min(1, clip_norm / (|g| + 1e-6))
    with |g| the norm of all gradients together; after it, e = d e + (1 - d) p with d = min(ema, (1 + t) / (10 + t)),
    t being the number of steps before this one, or what `Lookahead` says.

    Args:
        clip_norm: largest norm; None leaves gradients as they are.
        ema: largest decay of the average e of each parameter; None keeps no average.
        lookahead: slow weights beside the weights; None keeps none.

    Raises:
        ConfigError: a number outside its range, or two averages.

    Source: Pascanu et al., "On the difficulty of training recurrent neural networks", ICML 2013, algorithm 1, in
    PyTorch's form (1e-6); Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992, with an
    exponential window. The decay's ramp is that of TensorFlow's tf.train.ExponentialMovingAverage with num_updates: an
    average over as long a window as there are steps forgets the random weights it starts as, after t steps all but
    9! / (t + 1) ... (t + 9) of them; a decay of 0.999 from the first step on keeps 90 % of them over 100 steps.
    """

    clip_norm: ClipNorm | None = None
    ema: Share | None = None
    lookahead: Lookahead | None = None

    def __post_init__(self) -> None:
        check_ranges(StepRule, vars(self), "trainer")
        if self.lookahead is not None:
            check_ranges(Lookahead, vars(self.lookahead), "trainer.lookahead")
            if self.ema is not None:
                raise ConfigError("trainer.lookahead: keeps slow weights, and trainer.ema an average; give one of them")

    @property
    def _after(self) -> tuple[Callable[..., Any], ...]:
        return (average,) if self.ema is not None else (synchronize,) if self.lookahead is not None else ()

    def slots(self) -> tuple[str, ...]:
        """Names of the arrays kept for each parameter: of the weights that are evaluated in its place. Each starts as
        a copy of it.
        """
        return tuple(slot for part in self._after for slot in _slots(part))

    def step_values(self, step: int, steps: int = 1) -> dict[str, float]:
        """The numbers that belong to one step, counted from 0, of so many in the run, by name."""
        if self.lookahead is not None:
            return self.lookahead.step_values(step, steps)
        return {} if self.ema is None else {"ema_decay": min(self.ema, (1 + step) / (10 + step))}

    def numbers(
        self, optimizer: Optimizer, first_step: int, rates: Sequence[float], *, epoch: int = 0, steps: int = 1
    ) -> "dict[str, np.ndarray]":
        """The numbers of an optimizer and of what goes around it, by name (steps,) float32, for `Feed.scalars`.

        Args:
            optimizer: whose rule is applied.
            first_step: number of the first of these steps since the start of training.
            rates: the learning rate of each step; it is rounded to float32 before anything is made of it.
            epoch: that all of them belong to, counted from 0.
            steps: of the whole run.
        """
        found: dict[str, np.ndarray] = {}
        for number, factor in enumerate([1.0, *(group.factor(epoch) for group in optimizer.groups)]):
            own = enumerate(map(float, np.array([factor * rate for rate in rates], np.float32)), first_step)
            grouped = optimizer.of_group(number)
            values = [grouped.step_values(step, rate) | self.step_values(step, steps) for step, rate in own]
            names = optimizer.step_values(0, 0.0) | self.step_values(0)
            found |= {_column(name, number): np.array([x[name] for x in values], np.float32) for name in names}
        return found

    def stages(self, optimizer: Optimizer, group: int = 0) -> tuple[WholeRule, ...]:
        """All that is done to a parameter of one of the optimizer's groups, or of none: what makes the direction, if
        the optimizer has one, and what changes the parameter. The norms of the second are those of the direction.

        Raises:
            ConfigError: the optimizer's rule names a number that nothing gives.
        """
        optimizer = optimizer.of_group(group)
        before = () if self.clip_norm is None else (clip,)
        if optimizer.direction is None:
            return (self._whole(optimizer, (*before, optimizer.rule, *self._after), group),)
        direction = self._whole(optimizer, (*before, optimizer.direction), group)
        return replace(direction, gives="g"), self._whole(optimizer, (optimizer.rule, *self._after), group)

    def _whole(self, optimizer: Optimizer, parts: tuple[Callable[..., Any], ...], group: int) -> WholeRule:
        constants = optimizer.constants() | ({} if self.clip_norm is None else {"clip_norm": self.clip_norm})
        numbers = dict.fromkeys(name for part in reversed(parts) for name in _numbers(part))
        if missing := {*numbers} - {*constants, *optimizer.step_values(0, 0.0), *self.step_values(0), *NORMS}:
            raise ConfigError(f"optimizer {type(optimizer).__name__}: nothing gives {', '.join(sorted(missing))}")
        return WholeRule(parts, {name: float(constants[name]) for name in numbers if name in constants}, group)

    def all_slots(self, update: "Update") -> tuple[str, ...]:
        """Names of the arrays kept for a parameter: of its optimizer, and those of `slots`."""
        return tuple(slot for stage in self.stages(update.optimizer, update.group) for slot in stage.slots)


def clip(g: Any, *, clip_norm: Any, all_gradients_norm: Any) -> Any:
    """See `StepRule`. A norm that is NaN stays one, as in PyTorch."""
    return np.minimum(clip_norm / (all_gradients_norm + np.float32(1e-6)), np.float32(1)) * g


def average(p: Any, ema: Any, *, ema_decay: Any) -> Any:
    """See `StepRule`."""
    return fma(ema_decay, ema, (1 - ema_decay) * p)


def synchronize(p: Any, g: Any, slow: Any, *, slow_share: Any, slow_kept: Any) -> Any:
    """See `Lookahead`; in every other step both stay as they are: slow_share is 0 and slow_kept 1.

    It takes the gradient since rules without one leave the parameter.
    """
    p = fma(slow_share, slow, (1 - slow_share) * p)
    return p, fma(slow_kept, slow, (1 - slow_kept) * p)


PLAIN = StepRule()


def power(base: float, exponent: int) -> float:
    """base ** exponent by squaring: multiplications alone, so the same bits everywhere, unlike libm's pow."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result
