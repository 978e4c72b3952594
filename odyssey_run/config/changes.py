"""What a configuration changes of the defaults, for the first lines of a run."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, cast

from omegaconf import OmegaConf

from odyssey_core.errors import shortened
from odyssey_run.config.composition import HOUSE

NOT_TOLD = ("run", "task", "sweep", "resume")  # said elsewhere


def changed(config: Mapping[str, Any]) -> Iterator[str]:
    """Each value that is not the default, with the default behind it: ``optim.lr 0.1 (0.01)``.

    The defaults of an option, such as ``optim=adam``, are those of the file of that name; what a plug-in registered has
    none, and its name alone is told.

    Args:
        config: composed and resolved.
    """
    root = _file("config")
    options = {group: name for each in root["defaults"] if isinstance(each, dict) for group, name in each.items()}
    for key, value in config.items():
        if key in NOT_TOLD:
            continue
        if key not in options:
            yield from _values("", {key: value}, root)
            continue
        name = value.get("name", options[key])
        if name != options[key]:
            yield f"{key} {name} ({options[key]})"
        yield from _values(f"{key}.", value, _file(f"{key}/{name}"))


def _values(prefix: str, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        default = defaults.get(key, value)
        if isinstance(value, Mapping) and isinstance(default, Mapping) and default:
            yield from _values(f"{prefix}{key}.", value, default)
        elif value != default:
            yield f"{prefix}{key} {_said(value)} ({_said(default)})"


def _said(value: Any) -> str:
    return "null" if value is None else shortened(str(value))


@cache
def _file(name: str) -> dict[str, Any]:
    path = HOUSE / f"{name}.yaml"
    return cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(path))) if path.is_file() else {}
