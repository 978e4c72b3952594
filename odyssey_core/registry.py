"""Registries: one literal table per package, from a name in YAML to the thing it names."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from odyssey_core.errors import ConfigError, shortened


class Registry(Mapping[str, Any]):
    """A fixed table of names.

    Args:
        kind: what the entries are, for messages: ``"model"``.
        table: name to a callable, or to ``"module:attribute"`` where importing it costs time.

    Raises:
        ConfigError: a name that is not in the table; the message lists the known ones and the nearest.
    """

    def __init__(self, kind: str, table: Mapping[str, Callable[..., Any] | str]):
        self.kind = kind
        self._table = dict(table)

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if not isinstance(name, str) or name not in self._table:
            raise ConfigError(unknown(self.kind, name, self._table))
        entry = self._table[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._table[name] = getattr(import_module(module), attribute)
        return entry

    def get(self, name: str, default: Any = None) -> Any:
        """The entry, or ``default`` where there is none."""
        try:
            return self[name]
        except ConfigError:
            return default

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


def unknown(kind: str, name: object, known: Mapping[str, Any] | list[str]) -> str:
    """The message for a name that is not among the known ones, with the nearest where there is one."""
    near = nearest(str(name), known)
    hint = f"; did you mean {near!r}?" if near else ""
    shown = repr(shortened(name)) if isinstance(name, str) else shortened(repr(name))
    return f"unknown {kind} {shown}; known: {', '.join(sorted(known))}{hint}"


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
