"""What a sweep varies: the axes, as Hydra's grammar has them, and points drawn from them."""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from hydra.core.override_parser.types import Override, RangeSweep

from odyssey_core.errors import ConfigError, shortened

MOST_VALUES, MOST_POINTS = 1000, 10_000  # of one key, and of a grid: a point takes a millisecond to plan
_LARGE = re.compile(r"-?([1-9]\d{6,}\.0|\d(\.\d+)?e\+\d+)")
Assignment = tuple[tuple[str, str], ...]  # key and text for every axis


@dataclass(frozen=True)
class Axis:
    """One key with more than one value."""

    key: str  # `optim.lr`, or a group: `optim`
    group: bool  # whether it is one
    values: tuple[str, ...] = ()  # as they would be typed; empty for an interval
    ordered: bool = False  # whether the values are numbers in a row, from `range()`
    low: float = 0.0  # of an interval
    high: float = 0.0  # of an interval; included for integers
    log: bool = False  # whether an interval is even in the logarithm
    integer: bool = False  # whether an interval holds integers alone

    def text(self, value: float) -> str:
        """A number of an interval as it would be typed: four digits are as many as a person can use."""
        return str(int(value)) if self.integer else f"{value:.4g}"

    def corners(self) -> tuple[str, ...]:
        """Values that all others lie between."""
        return self.values or (self.text(self.low), self.text(self.high))

    def draw(self, random: np.random.Generator) -> str:
        if self.values:
            return self.values[random.integers(len(self.values))]
        if self.log:
            return self.text(math.exp(random.uniform(math.log(self.low), math.log(self.high))))
        if self.integer:
            return self.text(int(random.integers(int(self.low), int(self.high) + 1)))
        return self.text(random.uniform(self.low, self.high))

    def __str__(self) -> str:
        inside = ",".join(self.values) or f"interval({self.low:g},{self.high:g})"
        return f"{self.key}={f'tag(log,{inside})' if self.log else inside}"


def axis(override: Override, group: bool) -> Axis:
    """The axis that an override means. Raises ConfigError: an interval without extent, or one with a logarithm of
    zero; no value at all, or too many; an override of Hydra's that a sweep cannot use."""
    key, value, said = override.key_or_group, override.value(), shortened(override.input_line)
    if getattr(value, "shuffle", False):
        raise ConfigError(f"{key}: shuffle() would be another plan each time; leave it out, got {said!r}")
    tags: set[str] = getattr(value, "tags", set())
    if unused := tags - ({"log"} if override.is_interval_sweep() else set()):
        raise ConfigError(f"{key}: the only tag is log, of an interval; got {sorted(unused)} in {said!r}")
    if not override.is_interval_sweep():
        found = _steps(key, value) if override.is_range_sweep() else override.sweep_string_iterator()
        texts = tuple(dict.fromkeys(map(_typed, itertools.islice(found, MOST_VALUES + 1))))
        if not texts:
            raise ConfigError(f"{key}: no value fits {said!r}")
        if len(texts) > MOST_VALUES:
            raise ConfigError(f"{key}: {said!r} has more than {MOST_VALUES:,} values; take an interval(LOW,HIGH)")
        return Axis(key, group, texts, ordered=override.is_range_sweep())
    log, low, high = "log" in value.tags, value.start, value.end
    if not low < high or (log and low <= 0):
        expected = "0 < low < high" if log else "low < high"
        raise ConfigError(f"{key}: expected an interval with {expected}, got {said!r}")
    integer = isinstance(low, int) and isinstance(high, int)
    return Axis(key, group, low=float(low), high=float(high), log=log, integer=integer)


def _typed(value: object) -> str:
    """A value as it would be typed: ``1e8`` and ``1e16``, of which Hydra makes 100000000.0 and 1e+16."""
    text = str(value)
    if not _LARGE.fullmatch(text):
        return text
    short = f"{Decimal(text).normalize():e}".replace("e+", "e")
    return min(text, short, key=len)


def _steps(key: str, steps: RangeSweep) -> Iterator[str]:
    """The decimals that were typed, the stop left out; Hydra adds up the binary fractions next to them."""
    start, stop, step = (Decimal(str(x)) for x in (steps.start, steps.stop, steps.step))
    if not (start.is_finite() and stop.is_finite() and step.is_finite() and step):
        raise ConfigError(f"{key}: expected range(START,STOP,STEP) with a step that is not 0, got {step}")
    whole = all(isinstance(x, int) for x in (steps.start, steps.stop, steps.step))
    value = start
    while value < stop if step > 0 else value > stop:
        yield str(value) if whole else str(float(value))
        value += step


def grid(axes: tuple[Axis, ...]) -> Iterator[Assignment]:
    """Every combination, the last axis fastest."""
    for texts in itertools.product(*(axis.values for axis in axes)):
        yield tuple((axis.key, text) for axis, text in zip(axes, texts, strict=True))


def corners(axes: tuple[Axis, ...]) -> Iterator[Assignment]:
    """Points that show whether every value can be configured: all groups, and each value beside the first others."""
    groups = [axis for axis in axes if axis.group]
    for texts in itertools.product(*(axis.values for axis in groups)):
        chosen = {axis.key: text for axis, text in zip(groups, texts, strict=True)}
        first = {axis.key: axis.corners()[0] for axis in axes} | chosen
        yield tuple(first.items())
        for other in axes:
            if not other.group:
                yield from (tuple((first | {other.key: text}).items()) for text in other.corners()[1:])


def drawn(axes: tuple[Axis, ...], trials: int, seed: int) -> Iterator[Assignment]:
    """Points at random; the first of a longer sweep are those of a shorter one."""
    for trial in range(trials):
        random = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, trial]))
        yield tuple((axis.key, axis.draw(random)) for axis in axes)


def plain(text: str) -> str:
    """A value without the quotes and backslashes that the grammar needs."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1]
    return re.sub(r"\\(.)", r"\1", text)
