"""Values held against the annotations of the arguments they are for: the one checker of types."""

import inspect
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from odyssey_core.ranges import NAMES, Range

_NAMES = NAMES | {str: "text", bool: "true or false", type(None): "null"}


@dataclass(frozen=True)
class Check:
    """What is wrong inside a value, in an ``Annotated`` type: for values that have places of their own.

    Args:
        faults: ``(value, path) -> one line for each fault``, with the full path of its place.
    """

    faults: Callable[[Any, str], list[str]]


class Misfit(Exception):
    """A value that does not fit an annotation; says what was expected."""


def fit(value: Any, annotation: Any) -> Any:
    """The value as its annotation has it: an int where a float is expected becomes one, a list a tuple.

    A bool is no number, and nan and inf are none either.

    Raises:
        Misfit: the value does not fit; its text is what was expected.
    """
    if annotation in (Any, inspect.Parameter.empty):
        return value
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        try:
            value = fit(value, arguments[0])
        except Misfit:
            raise Misfit(describe(annotation)) from None
        if any(isinstance(bound, Range) and value not in bound for bound in arguments[1:]):
            raise Misfit(describe(annotation))
        return value
    if origin in (Union, types.UnionType):
        return _fit_union(value, annotation)
    if origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
        raise Misfit(describe(annotation))
    if (origin or annotation) in (tuple, list, Sequence):
        return _fit_sequence(value, annotation)
    if (origin or annotation) in (dict, Mapping):
        if isinstance(value, dict):
            return value
    elif annotation is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
            return float(value)
    elif annotation is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif annotation is None or annotation is type(None):
        if value is None:
            return None
    elif isinstance(value, annotation):
        return value
    raise Misfit(describe(annotation))


def _fit_union(value: Any, annotation: Any) -> Any:
    expected = []
    for choice in get_args(annotation):
        try:
            return fit(value, choice)
        except Misfit as misfit:
            expected.append(str(misfit))
    raise Misfit(" or ".join(expected))


def _fit_sequence(value: Any, annotation: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise Misfit(describe(annotation))
    kind, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise Misfit(describe(annotation))
        element_types = arguments
    else:
        element_types = (arguments[0] if arguments else Any,) * len(value)
    try:
        values = [fit(v, t) for v, t in zip(value, element_types, strict=True)]
    except Misfit:
        raise Misfit(describe(annotation)) from None
    return values if kind is list else tuple(values)


def describe(annotation: Any) -> str:
    """An annotation in a user's words: ``tuple[float, float]`` is "a list of 2: a number, a number"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return " ".join([describe(arguments[0]), *(str(a) for a in arguments[1:] if isinstance(a, Range))])
    if origin in (Union, types.UnionType):
        return " or ".join(describe(a) for a in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if (origin or annotation) in (tuple, list, Sequence):
        if not arguments or arguments[0] is Any:
            return "a list"
        if arguments[-1] is Ellipsis or len(arguments) == 1:
            return f"a list of {describe(arguments[0])} each"
        return f"a list of {len(arguments)}: " + ", ".join(map(describe, arguments))
    if (origin or annotation) in (dict, Mapping):
        return "a mapping"
    if is_dataclass(annotation):
        return "a mapping of " + ", ".join(f.name for f in fields(annotation))
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def faults_inside(value: Any, annotation: Any, path: str) -> list[str]:
    """What the checks of an annotation find wrong inside a value that fits it, one line each."""
    checks = [x for x in get_args(annotation) if isinstance(x, Check)] if get_origin(annotation) is Annotated else []
    return [line for check in checks for line in check.faults(value, path)]


def fits(value: Any, annotation: Any) -> bool:
    """Whether `fit` takes a value."""
    try:
        fit(value, annotation)
    except Misfit:
        return False
    return True
