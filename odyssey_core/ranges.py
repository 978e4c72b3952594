"""Bounds of numbers, stated once, in the annotation of the argument: ``Annotated[float, Range(0, 1, below=True)]``."""

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from odyssey_core.errors import ConfigError

NAMES = {int: "an integer", float: "a number"}


@dataclass(frozen=True)
class Range:
    """Bounds of a finite number in an ``Annotated`` type.

    Args:
        low: the least value.
        high: the greatest value.
        above: whether the value must be greater than ``low``.
        below: whether the value must be less than ``high``.
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        high_enough = self.low < value if self.above else self.low <= value
        return (
            -math.inf < value < math.inf and high_enough and (value < self.high if self.below else value <= self.high)
        )

    def __str__(self) -> str:
        low, high = (f"{x:g}" if isinstance(x, float) else str(x) for x in (self.low, self.high))
        if self.high == math.inf:
            return f"above {low}" if self.above else f"at least {low}"
        if self.above:
            return f"above {low} and {'below' if self.below else 'at most'} {high}"
        return f"from {low} to {'below ' if self.below else ''}{high}"


Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Share = Annotated[float, Range(0, 1, below=True)]
# Numbers that a kernel takes as float32, which holds nothing above 3.4e38 and makes what is below 1e-45 zero.
Size = Annotated[float, Range(0, 1e38)]
PositiveSize = Annotated[float, Range(1e-38, 1e38)]


@cache  # they are asked for dozens of times for each point of a sweep
def annotations_of(target: Callable[..., Any]) -> Mapping[str, Any]:
    """The evaluated annotations of a function or of a dataclass, with what stands beside the types."""
    return types.MappingProxyType(get_type_hints(target, include_extras=True))


def check_ranges(target: Callable[..., Any], values: Mapping[str, Any], path: str) -> None:
    """Holds values against the ranges in the annotations of a function or of a dataclass.

    Args:
        target: whose annotations count.
        values: by argument or field.
        path: of the values in a configuration, for the message.

    Raises:
        ConfigError: a number outside its range.
    """
    annotations = annotations_of(target)
    for name, value in values.items():
        if expected := _missed(value, annotations.get(name)):
            raise ConfigError(f"{path}.{name}: expected {expected}, got {value}")


def _missed(value: Any, annotation: Any) -> str | None:
    """What was expected of a value, where it lies outside a range."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        ranges = [x for x in arguments[1:] if isinstance(x, Range)]
        return next((f"{NAMES[arguments[0]]} {x}" for x in ranges if value not in x), None)
    if origin in (Union, types.UnionType):
        return None if value is None else next(filter(None, (_missed(value, x) for x in arguments)), None)
    if origin is tuple:
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) != len(value):
            return f"{len(kinds)} values"
        return next(filter(None, (_missed(v, kind) for v, kind in zip(value, kinds, strict=True))), None)
    return None
