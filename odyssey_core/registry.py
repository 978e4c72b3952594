"""Registries: from a name in a configuration to the thing it names.

A table of what is shipped, to which plug-ins add: files by `odyssey_core.register`, installed packages by entry points,
which are looked up only for a name that nothing else has. No configuration can add to one.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import Any

from odyssey_core.errors import ConfigError, located, shortened

ENTRY_POINTS = "ml_odyssey"  # in front of every registry's group
NAME = re.compile(r"[A-Za-z_][\w.-]*")
_source: ContextVar[str | None] = ContextVar("source", default=None)


class Registry(Mapping[str, Any]):
    """A table of names.

    Args:
        kind: what the entries are, for messages: ``"model"``.
        table: name to a callable, or to ``"module:attribute"`` where importing it costs time.
        group: of the entry points by which installed packages add to it: ``"models"``; None for none.
        makes: what calling an added entry must give, as ``"module:attribute"``; None for anything.
        base: what an added entry must be derived from, as ``"module:attribute"``; None for any callable.
        provided: parameters that the program gives to every entry, which no configuration sets.
        reserved: names that no other parameter may have, since they mean something else in a configuration.

    Raises:
        ConfigError: a name that is not in the table; the message lists the known ones and the nearest.
    """

    def __init__(
        self,
        kind: str,
        table: Mapping[str, Callable[..., Any] | str],
        group: str | None = None,
        *,
        makes: str | None = None,
        base: str | None = None,
        provided: tuple[str, ...] = (),
        reserved: tuple[str, ...] = ("name",),
    ):
        self.kind, self.provided, self.makes = kind, provided, makes
        self._table = dict(table)
        self._group, self._base, self._reserved = group, base, reserved
        self._sources: dict[str, str] = {}

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name not in self:
            raise ConfigError(unknown(self.kind, name, self))
        if name not in self._table:
            self._load(name)
        entry = self._table[name]
        if isinstance(entry, str):
            entry = self._table[name] = resolved(entry)
        return entry

    def get(self, name: str, default: Any = None) -> Any:
        """The entry, or ``default`` where there is none."""
        try:
            return self[name]
        except ConfigError:
            return default

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._table or name in self._installed())

    def __iter__(self) -> Iterator[str]:
        return iter({**self._table, **self._installed()})

    def __len__(self) -> int:
        return len({**self._table, **self._installed()})

    @property
    def added(self) -> Mapping[str, str]:
        """The names that plug-ins which were loaded have added, each with the plug-in's."""
        return self._sources

    def register(self, name: str, entry: Callable[..., Any], source: str | None = None) -> None:
        """Adds a plug-in's entry.

        Args:
            name: what a configuration will call it.
            entry: a function or class; its signature gives the options.
            source: the plug-in; by default the one that is being loaded, else the entry's module.

        Raises:
            ConfigError: a name that is known already, or an entry that the program could not call.
        """
        source = source or _source.get() or entry.__module__
        if name in self._table and self._table[name] is not entry:
            whose = f"by {self._sources[name]}" if name in self._sources else "with the program"
            raise ConfigError(f"{self.kind} {name!r} is known already, {whose}; choose another name")
        if not NAME.fullmatch(name):
            raise ConfigError(f"{self.kind} {name!r}: expected a name of letters, digits and _.-")
        self._check(f"{self.kind} {name!r}", entry)
        if name not in self._table:
            self._table[name], self._sources[name] = entry, source

    def withdraw(self, source: str) -> None:
        """Takes away what a plug-in added."""
        for name in [name for name, whose in self._sources.items() if whose == source]:
            del self._table[name], self._sources[name]

    def _check(self, what: str, entry: Callable[..., Any]) -> None:
        """Raises ConfigError for an entry that cannot be called with options from a configuration."""
        import inspect

        if self._base and not (isinstance(entry, type) and issubclass(entry, resolved(self._base))):
            raise ConfigError(f"{what}: expected a class derived from {self._base.replace(':', '.')}")
        if not callable(entry):
            raise ConfigError(f"{what}: expected a function or a class, got {shortened(repr(entry))}")
        parameters = inspect.signature(entry).parameters
        if missing := [name for name in self.provided if name not in parameters]:
            raise ConfigError(f"{what}: its signature must take {' and '.join(missing)}, which the program provides")
        if taken := [name for name in parameters if name in self._reserved]:
            raise ConfigError(
                f"{what}: the program itself provides {' and '.join(taken)}; call the parameter otherwise"
            )
        for name, parameter in parameters.items():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise ConfigError(f"{what}: {parameter} is no option that has a name; write out each one, as {name}=1")

    def _installed(self) -> Mapping[str, Any]:
        return _entry_points(f"{ENTRY_POINTS}.{self._group}") if self._group else {}

    def _load(self, name: str) -> None:
        """Adds what an installed package's entry point names."""
        point, *others = self._installed()[name]
        package = point.module.partition(".")[0]
        if others:
            both = ", ".join(sorted({each.value for each in (point, *others)}))
            raise ConfigError(f"{self.kind} {name!r} is in several installed packages ({both}); uninstall all but one")
        try:
            with loading(package):
                self.register(name, point.load())
        except Exception as error:  # of the package's own code
            raise ConfigError(f"{self.kind} {name!r}: {point.value} of {package}: {located(error)}") from error


@cache
def _entry_points(group: str) -> Mapping[str, list[Any]]:
    """What installed packages add, by name; there should be one of each.

    Importing what finds them takes a sixth of a command that is refused.
    """
    from importlib.metadata import entry_points

    found: dict[str, list[Any]] = {}
    for point in entry_points(group=group):
        known = found.setdefault(point.name, [])
        known += [] if any(each.value == point.value for each in known) else [point]
    return found


@contextmanager
def loading(source: str) -> Iterator[None]:
    """What is registered inside is of this plug-in."""
    token = _source.set(source)
    try:
        yield
    finally:
        _source.reset(token)


def resolved(path: str) -> Any:
    """What ``"module:attribute"`` names."""
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


def unknown(kind: str, name: object, known: Mapping[str, Any] | Iterable[str]) -> str:
    """The message for a name that is not among the known ones, with the nearest where there is one."""
    near = nearest(str(name), known)
    hint = f"; did you mean {near!r}?" if near else ""
    shown = repr(shortened(name)) if isinstance(name, str) else shortened(repr(name))
    return f"unknown {kind} {shown}; known: {', '.join(sorted(known)) or 'none'}{hint}"


def nearest(name: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The known name that is most like another, whatever the case of its letters; None where none is.

    Args:
        name: what was written.
        known: to choose from.
        likeness: how much of both at least is the same, from 0 to 1.
    """
    lowered = {each.lower(): each for each in known}
    near = get_close_matches(shortened(name).lower(), lowered, n=1, cutoff=likeness)
    return lowered[near[0]] if near else None
