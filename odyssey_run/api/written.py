"""A class or a function of a notebook or a script as a plug-in file: its source, with all that it rests on.

What runs is that file and nothing else of the notebook, so that the recorded text is all that it takes to train, verify
or serve the same again.
"""

import ast
import builtins
import linecache
import math
import symtable
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from odyssey_core.errors import ConfigError
from odyssey_run.config.plugins import Plugin, adopt

PLAIN = (bool, int, float, str, bytes, type(None))


def plugin_of(kind: str, entry: Callable[..., Any]) -> Plugin:
    """Makes a plug-in of a class or a function that was defined elsewhere, and loads it; it is registered under its own
    name as a "model", "dataset", ...: a name in `odyssey_core.register`. Raises ConfigError: its source cannot be
    found, or it rests on something that has none."""
    text = "".join(f"{part}\n\n" for part in _definition(entry, set()))
    end = f"from odyssey_core import register\n\nregister.{kind}({entry.__name__})\n"
    return adopt(f"{entry.__name__}.py", (text + end).encode(), Path(f"{entry.__name__}.py"))


def _definition(entry: Any, seen: set[str]) -> Iterator[str]:
    """The source of a definition behind that of what it names in its module, except for names that were seen before."""
    seen.add(entry.__name__)
    source, known = _source(entry), vars(sys.modules[entry.__module__])
    for name in sorted(_globals(source) - seen):
        if name in known:
            seen.add(name)
            yield from _named(name, known[name], entry, seen)
        elif not hasattr(builtins, name):
            raise ConfigError(f"{entry.__name__}: {name} is not defined in {entry.__module__} outside of functions")
    yield source


def _named(name: str, value: Any, user: Any, seen: set[str]) -> Iterator[str]:
    """What gives a name its value in a file of its own; what is of other modules is imported."""
    if isinstance(value, ModuleType):
        yield f"import {value.__name__} as {name}"
    elif isinstance(value, type | FunctionType) and value.__module__ == user.__module__:
        yield from _definition(value, seen)
        if value.__name__ != name:
            yield f"{name} = {value.__name__}"
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{name} = float('{value}')"
    elif _is_plain(value):
        yield f"{name} = {value!r}"
    elif home := _home(name, value):
        yield f"from {home[0]} import {home[1]} as {name}"
    else:
        kind = type(value).__name__
        raise ConfigError(f"{user.__name__}: {name}, of type {kind}, cannot be recorded; make it an argument")


def _source(entry: Any) -> str:
    """The text of a class or a function; Python itself does not find that of a class in a notebook."""
    values = [entry, *(vars(entry).values() if isinstance(entry, type) else ())]
    functions = (getattr(value, "__func__", getattr(value, "fget", value)) for value in values)
    for function in (each for each in functions if isinstance(each, FunctionType)):
        lines = linecache.getlines(function.__code__.co_filename)
        for node in ast.walk(ast.parse("".join(lines))) if lines else ():
            if not isinstance(node, ast.ClassDef | ast.FunctionDef) or node.name != entry.__name__:
                continue
            first, last = min([node.lineno, *(each.lineno for each in node.decorator_list)]), node.end_lineno or 0
            if first <= function.__code__.co_firstlineno <= last:
                return textwrap.dedent("".join(lines[first - 1 : last]))
    raise ConfigError(f"{entry.__name__}: its source cannot be found; write it into a file, and give that as a plug-in")


def _globals(source: str) -> set[str]:
    """The names that a piece of source takes from around it."""
    found, waiting = set(), [symtable.symtable(source, "plug-in", "exec")]
    while waiting:
        table = waiting.pop()
        waiting += table.get_children()
        top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (not symbol.is_assigned() if top else symbol.is_global()):
                found.add(symbol.get_name())
    return found


def _home(name: str, value: Any) -> tuple[str, str] | None:
    """A module that has a value, and under which name."""
    name = getattr(value, "__name__", name)
    ours = sorted(module for module in sys.modules if module.startswith("odyssey_core"))
    for module in dict.fromkeys((str(getattr(value, "__module__", "")), "typing", *ours)):
        known = vars(sys.modules[module]) if module in sys.modules and module != "__main__" else {}
        for found in (name, *(known if module in ours else ())):
            if found in known and known[found] is value:
                return module, found
    return None


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list | frozenset | set):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(_is_plain(each) for pair in value.items() for each in pair)
    return type(value) in PLAIN
