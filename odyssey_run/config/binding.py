"""Arguments from YAML held against the annotations of what they configure.

``bind`` never raises for what a user wrote; it returns every fault, one line each, with the full path of the key.
"""

import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin

from odyssey_core.errors import ConfigError, OdysseyError, shortened
from odyssey_core.fitting import Misfit, describe, faults_inside, fit, fits
from odyssey_core.registry import nearest
from odyssey_run.config.masking import masked

MISSING = "???"  # OmegaConf's mark of a value that must be set


class Faults(ConfigError):
    """Everything that is wrong with a request, together: one line a fault.

    Args:
        sound: what is right all the same, by its name in the request.
    """

    def __init__(self, lines: Sequence[str], sound: Mapping[str, Any] | None = None):
        self.lines, self.sound = masked(tuple(lines)), sound or {}
        super().__init__("\n".join(self.lines))


def lines_of(error: OdysseyError) -> Sequence[str]:
    """One line for each fault of an error."""
    return error.lines if isinstance(error, Faults) else [str(error)]


@contextmanager
def collecting(faults: list[str]) -> Iterator[None]:
    """A block that a mistake ends; its lines are added to the faults, and the program continues after the block."""
    try:
        yield
    except ConfigError as error:
        faults += lines_of(error)


@cache  # a sweep asks for every point
def parameters(target: Callable[..., Any], provided: tuple[str, ...] = ()) -> Mapping[str, inspect.Parameter]:
    """The arguments that configuration may set: name to parameter, without those the program itself provides."""
    return {
        name: parameter.replace(annotation=_evaluated(target, parameter))
        for name, parameter in inspect.signature(target).parameters.items()
        if name not in provided
    }


def _evaluated(target: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """A parameter's annotation; where it has none, the type of its default."""
    annotation, default = parameter.annotation, parameter.default
    if annotation is inspect.Parameter.empty and type(default) in (bool, int, float, str):
        return type(default)
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, vars(sys.modules[target.__module__]))
    except Exception as error:  # of what a plug-in's author wrote
        name = f"{target.__qualname__}: {parameter.name}"
        raise ConfigError(f"{name}: its annotation {annotation} cannot be read ({error})") from error


def defaults(target: Callable[..., Any], provided: tuple[str, ...] = ()) -> dict[str, Any]:
    """The options of a signature as a configuration file would list them; ``???`` for one that must be set.

    A default that no file could hold is left to the signature.
    """
    values = {}
    for name, parameter in parameters(target, provided).items():
        with suppress(TypeError):
            values[name] = MISSING if parameter.default is inspect.Parameter.empty else plain(parameter.default)
    return values


def plain(value: Any) -> Any:
    """A value as YAML holds it. Raises TypeError for what it does not hold."""
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: plain(each) for key, each in value.items()}
    raise TypeError


def bind(
    target: Callable[..., Any],
    values: Mapping[str, Any],
    path: str,
    provided: tuple[str, ...] = (),
    also: Sequence[str] = (),
    elsewhere: Sequence[str] = (),
) -> tuple[dict[str, Any], list[str]]:
    """Holds ``values`` against the signature of ``target``.

    Args:
        target: a function or class whose parameters are annotated.
        values: from YAML.
        path: of ``values`` in the configuration, for messages; "" at its root.
        provided: parameters that the program fills in and no key may set.
        also: keys of the same group that are no parameters and not among the values, for messages.
        elsewhere: paths of the keys of other targets, to name the one that an unknown key may be.

    Returns:
        The keyword arguments, converted, and one line for every unknown key, missing key and wrong value, those inside
        of mappings last.
    """
    known = parameters(target, provided)
    arguments, faults, inside = {}, list[str](), list[str]()
    for key, value in values.items():
        if key not in known:
            faults.append(unknown_key(key, path, [*known, *also], elsewhere, value))
            continue
        place, annotation = _join(path, key), known[key].annotation
        kinds = (x for x in (annotation, *get_args(annotation)) if isinstance(x, type) and is_dataclass(x))
        group: Any = next(kinds, None)  # the dataclass that it is, or that it allows beside null
        if value == MISSING:
            faults.append(f"{place}: expected {describe(annotation)}, got nothing; set it")
        elif isinstance(value, dict) and group:
            inner, wrong = bind(group, value, place, elsewhere=elsewhere)
            inside += wrong
            if not wrong:
                arguments[key] = group(**inner)
        else:
            try:
                arguments[key] = fit(value, annotation)
                faults += faults_inside(arguments[key], annotation, place)
            except Misfit as expected:
                faults.append(f"{place}: expected {expected}, got {shown(value, annotation)}")
    for key, parameter in known.items():
        if key not in values and parameter.default is inspect.Parameter.empty:
            faults.append(f"{_join(path, key)}: expected {describe(parameter.annotation)}, got nothing; set it")
    return arguments, [*faults, *inside]


def takes_text(annotation: Any) -> bool:
    choices = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return str in choices


def unknown_key(
    key: object, path: str, known: Mapping[str, Any] | Sequence[str], elsewhere: Sequence[str] = (), value: Any = None
) -> str:
    """The message for a key that configures nothing.

    Args:
        path: of the group it was written in; "" at the root.
        known: keys of the group.
        elsewhere: paths of all keys that there are.
        value: what it was set to.
    """
    name, near = str(key).lower(), nearest(str(key), known)
    names = {name, *(str(inner).lower() for inner in value)} if isinstance(value, Mapping) else {name}
    leaves = {leaf.rpartition(".")[2]: leaf for leaf in reversed(elsewhere)}
    same = next((leaf for inner, leaf in leaves.items() if inner.lower() in names), None)
    alike = nearest(name, leaves, 0.8)  # root is no dropout: a key of another group is nearly the same, or another
    found = same or (_join(path, near) if near else alike and leaves[alike])
    hint = f"; did you mean {found}?" if found else ""
    place = path or "the configuration"
    return f"unknown key {shortened(_join(path, key))}; {place} has {', '.join(known) or 'no keys'}{hint}"


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def shown(value: Any, annotation: Any = None) -> str:
    """A value that does not fit, as a message repeats it, and how to write it where that is plain."""
    if isinstance(value, str):
        return f"the text {shortened(masked(value))!r}"
    if isinstance(value, float) and value.is_integer() and fits(int(value), annotation):
        return f"{value:g}; write {int(value)}" if abs(value) >= 1e6 else f"{value}; write {int(value)}"
    if isinstance(value, int | float) and not isinstance(value, bool) and fits(str(value), annotation):
        return f"the number {value}; in quotes it is text: '\"{value}\"'"
    return "null" if value is None else shortened(masked(str(value)))
