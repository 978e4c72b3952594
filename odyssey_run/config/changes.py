"""What a configuration changes of the defaults, for the first lines of a run, and what an older one lacks."""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, cast

from omegaconf import OmegaConf

from odyssey_core.errors import shortened
from odyssey_run.config.binding import MISSING, parameters
from odyssey_run.config.command_line import EMPTY_GROUPS
from odyssey_run.config.composition import HOUSE
from odyssey_run.config.request import options
from odyssey_run.config.schema import RunConfig

NOT_TOLD = ("run", "task", "sweep", "resume")  # said elsewhere


def changed(config: Mapping[str, Any], typed: Iterable[str]) -> Iterator[str]:
    """Each value that is not the default, with the default behind it: ``optim.lr 0.1 (0.01)``.

    The defaults of an option, such as ``optim=adam``, are those of the file of that name; what a plug-in registered has
    none, and its name alone is told. Where an experiment is chosen, its own values are no changes: its name is told,
    and what was typed beside it.
    """
    given = dict(text.lstrip("+").split("=", 1) for text in typed if "=" in text and not text.startswith("-"))
    if any(given.get(group, "null") != "null" for group in EMPTY_GROUPS):
        told = [key for key in given if key.partition(".")[0] not in NOT_TOLD]
        yield from (f"{key} {shortened(given[key])}" for key in sorted(told, key=lambda key: key not in EMPTY_GROUPS))
        return
    root = _file("config")
    chosen = {group: name for each in root["defaults"] if isinstance(each, dict) for group, name in each.items()}
    for key, value in config.items():
        if key in NOT_TOLD:
            continue
        if key not in chosen:
            yield from _values("", {key: value}, root)
            continue
        name = value.get("name", chosen[key])
        if name != chosen[key]:
            yield f"{key} {name} ({chosen[key]})"
        yield from _values(f"{key}.", value, _file(f"{key}/{name}"))


def completed(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of an older version with the default of each key that was added since and must be there."""
    root = _file("config")
    whole = {**{key: root[key] for key in parameters(RunConfig) if key in root}, **config}
    for group, values in whole.items():
        if not isinstance(values, Mapping):
            continue
        shipped = root.get(group) or _file(f"{group}/{values.get('name', 'default')}")
        for key, parameter in options(group, values.get("name")).items():
            if key not in values and key in shipped and parameter.default is parameter.empty:
                whole[group] = {**whole[group], key: shipped[key]}
    return whole


def _values(prefix: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        default = defaults.get(key, value)
        if isinstance(value, Mapping) and isinstance(default, Mapping) and default:
            yield from _values(f"{prefix}{key}.", value, default)
        elif value != default:
            yield f"{prefix}{key} {_said(value)}" + ("" if default == MISSING else f" ({_said(default)})")


def _said(value: Any) -> str:
    return "null" if value is None else shortened(str(value))


@cache
def _file(name: str) -> dict[str, Any]:
    path = HOUSE / f"{name}.yaml"
    return cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(path))) if path.is_file() else {}
