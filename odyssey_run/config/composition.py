"""From options of groups to one configuration, which Hydra composes.

What it made of the files that are shipped is kept for the next command, which then imports no Hydra.
"""

import copy
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from odyssey_core.errors import ConfigError, shortened
from odyssey_core.files import write_atomic
from odyssey_core.machine import installed_version
from odyssey_core.places import cache_home
from odyssey_run.config.command_line import CONFIG_MODULE, EMPTY_GROUPS, KINDS, registry_of

if TYPE_CHECKING:
    from odyssey_run.config.plugins import Plugin

HOUSE = Path(str(import_module(CONFIG_MODULE).__file__)).parent
KEPT = 1000  # compositions, of three kilobytes each
PRESETS = ("debug", "experiment")  # files that may set any key, the last word first
_KEY = re.compile(r"(?:unknown key )?([A-Za-z_]\w*(?:\.\w+)*)[:;]")  # that a fault begins with


class ConfigFiles:
    """The configuration files that are shipped and, beside them, those in folders of a user's own.

    Plug-ins, and those that the environment names, are loaded; a folder ``conf`` beside such a file counts too.

    Raises:
        ConfigError: no such folder, or one with a file that a shipped one would hide; a plug-in that cannot be loaded.
    """

    def __init__(self, folder: str | None = None, plugins: Sequence["str | Plugin"] = ()):
        self.own = [Path(folder)] if folder is not None else []
        self.plugins: tuple[Plugin, ...] = ()
        self.flags: tuple[str, ...] = ("--config-dir", folder) if folder else ()  # as they are typed
        if plugins or os.environ.get("ODYSSEY_PLUGINS"):  # else a mistake is answered without the core
            from odyssey_run.config.plugins import flags, load, of_environment

            self.plugins = load([*of_environment(), *plugins])
            self.flags += flags(self.plugins)
            beside = [plugin.path.parent / "conf" for plugin in self.plugins]
            self.own = list(dict.fromkeys([*self.own, *filter(Path.is_dir, beside)]))
        self.folders = [HOUSE, *self.own]  # the first that has a file counts
        for place in self.own:
            _check_folder(place)

    @cached_property
    def options(self) -> dict[str, list[str]]:
        """The names that each group may be given: of files and of what plug-in files registered."""
        found: dict[str, set[str]] = {group: set() for group in EMPTY_GROUPS}
        for folder in self.folders:
            for file in folder.glob("*/**/*.yaml"):
                found.setdefault(file.parent.relative_to(folder).as_posix(), set()).add(file.stem)
        for group in KINDS if self.plugins else ():
            found[group] |= registry_of(group).added.keys()
        return {group: sorted(names) for group, names in found.items()}

    def compose(self, groups: Sequence[str]) -> dict[str, Any]:
        """The configuration with these options, interpolations as text. Raises ConfigError: files do not fit."""
        chosen = [text for text in groups if text not in {f"{group}=null" for group in EMPTY_GROUPS}]
        config = self._load(chosen)
        if not isinstance(task := config.get("task"), dict) or "name" not in task:  # all else rests on it
            raise ConfigError(f"{self._where}: task: expected a mapping with a name, got {shortened(repr(task))}")
        return _with_defaults(config)

    @property
    def _where(self) -> str:
        return " or ".join(map(str, self.own)) or HOUSE.name

    def _load(self, groups: list[str]) -> dict[str, Any]:
        kept = None if self.own else _place(groups)
        with suppress(OSError, ValueError):
            if kept and isinstance(known := json.loads(kept.read_bytes()), dict):
                return known
        from odyssey_run.config.hydra_composition import composed

        config = composed(groups, self.folders, self._where)
        if kept:
            with suppress(OSError):  # a full disk, a cache that cannot be written: composed again then
                write_atomic(kept, json.dumps(config).encode(), durable=False)
                for old in sorted(kept.parent.glob("*.json"), key=lambda file: file.stat().st_mtime)[:-KEPT]:
                    old.unlink()
        return config


def _place(groups: list[str]) -> Path:
    """The file that keeps what Hydra makes of options that are shipped, or registered."""
    digest = hashlib.sha256(json.dumps([groups, installed_version("hydra-core")]).encode())
    for file in (HOUSE / "config.yaml", *sorted(HOUSE.glob("*/**/*.yaml"))):
        digest.update(f"{file.relative_to(HOUSE)}\0".encode() + file.read_bytes())
    return cache_home() / "configurations" / f"{digest.hexdigest()}.json"


def _with_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """What plug-ins registered with the defaults of its signature where no file sets a value."""
    for group in KINDS:
        name = value_at(config, f"{group}.name")
        own = registered(group, name) if isinstance(name, str) else None
        if own is not None and group == "task":
            config = own | config
        elif own is not None:
            config[group] = {"name": name, **own, **config[group]}
    return config


def registered(group: str, name: str) -> dict[str, Any] | None:
    """The options of what a plug-in registered, with their defaults; None for what is shipped with a file, or is not
    known."""
    if group not in KINDS or (HOUSE / group / f"{name}.yaml").is_file() or name not in registry_of(group):
        return None
    from odyssey_run.config.binding import defaults

    registry = registry_of(group)
    return defaults(registry[name], registry.provided)


def _check_folder(own: Path) -> None:
    if not own.is_dir():
        raise ConfigError(f"--config-dir {shortened(str(own))}: no such folder")
    for file in sorted([*own.glob("*/**/*.yaml"), *own.glob("config.yaml")]):
        name = file.relative_to(own)
        try:
            content = file.read_bytes()
        except OSError as error:  # a folder of that name, a link to nothing
            raise ConfigError(
                f"--config-dir {own}: cannot read {name} ({error.strerror}); rename or remove it"
            ) from None
        differs = (HOUSE / name).is_file() and (HOUSE / name).read_bytes() != content
        # A run's folder has a config.yaml too, which says what it was made with.
        if differs and (file.parent != own or b"\ndefaults:" in content):
            raise ConfigError(
                f"--config-dir {own}: {name} would not be used, since odyssey-run has a file of that name; rename it"
            )


def set_value(config: dict[str, Any], key: str, value: Any) -> None:
    """Sets a key in a configuration, or merges a mapping. Raises ConfigError below what has no keys of its own."""
    *parents, last = key.split(".")
    for depth, name in enumerate(parents, 1):
        if config.get(name) is None:
            config[name] = {}
        inside = config[name]
        if not isinstance(inside, dict):
            path = shortened(".".join(parents[:depth]))
            raise ConfigError(f"{shortened(key)}: {path} is {shortened(repr(inside))}, which has no keys of its own")
        config = inside
    if isinstance(value, dict) and isinstance(config.get(last), dict):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise ConfigError(f"{shortened(key)}: expected names in front of values, got {name!r}")
            set_value(config[last], name, inner) if "." not in name else config[last].update({name: inner})
    else:
        config[last] = copy.deepcopy(value)


def value_at(config: Any, path: str, default: Any = None) -> Any:
    for name in path.split("."):
        if not isinstance(config, Mapping) or name not in config:
            return default
        config = config[name]
    return config


def with_file(line: str, typed: Iterable[str], config: Mapping[str, Any], folders: Sequence[Path]) -> str:
    """A fault with the file that its key was set in, unless it was typed; the first folder that has it counts."""
    found = _KEY.match(line)
    if found is None:
        return line
    key = found[1]
    choices = dict(text.lstrip("+").split("=", 1) for text in typed if "=" in text)
    if any(key == name or key.startswith(f"{name}.") or name.startswith(f"{key}.") for name in choices):
        return line
    group, _, rest = key.partition(".")
    places = [(f"{preset}/{choices[preset]}.yaml", key) for preset in PRESETS if preset in choices]
    places.append((f"task/{config['task'].get('name')}.yaml", key))
    places.append((f"{group}/{value_at(config, f'{group}.name')}.yaml", rest))
    for file, path in [*places, ("config.yaml", key)]:
        for folder in folders:
            place = folder / file
            if place.is_file() and value_at(yaml.safe_load(place.read_text()), path, ...) is not ...:
                return f"{line} (set in {folder.name}/{file})"
    return line


def resolved(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A configuration with its interpolations replaced, and the fault of each key where that failed, by key."""
    faults: dict[str, str] = {}
    if "${" not in str(config):
        return config, faults
    from omegaconf import OmegaConf

    while True:
        try:
            return cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.create(config), resolve=True)), faults
        except Exception as error:  # of OmegaConf's, or of a resolver
            key = getattr(error, "full_key", None)
            if not key or key in faults:
                where = f"{shortened(key)}: " if key else ""
                raise ConfigError(f"{where}a value with ${{...}} refers to nothing") from None
            if unset := re.search("Environment variable '(.+)' not found", str(error)):
                name = unset[1]
                faults[key] = (
                    f"{key}: the environment variable {name} is not set; set it, or write ${{oc.env:{name},VALUE}}"
                )
            else:
                other = "seed" if key == "optim.lr" else "optim.lr"
                how = f"name a key that has one, such as ${{{other}}}"
                faults[key] = f"{key}: ${{...}} refers to no value; {how}"
            set_value(config, key, None)
