"""From options of groups to one configuration, which Hydra composes.

Hydra is one for a process: whoever else uses it there finds it as it was.
"""

import copy
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml
from hydra import compose, initialize_config_module, version
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from odyssey_core.errors import ConfigError, OdysseyError, shortened
from odyssey_run.config.binding import Faults
from odyssey_run.config.command_line import EMPTY_GROUPS, GROUPS, group_options, hydra_hint, registry_of

if TYPE_CHECKING:
    from odyssey_run.config.plugins import Plugin

CONFIG_MODULE = "odyssey_run.conf"
HOUSE = Path(str(files(CONFIG_MODULE)))
# YAML 1.1 reads the first as a number to base 8 and the second as minutes and seconds.
MISREAD = re.compile(r"[-+]?0[0-9_]*[0-9]|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_composing = threading.RLock()
# The folders of the user's own files while `ConfigFiles` composes; None while anybody else does.
_folders: ContextVar[Sequence[Path] | None] = ContextVar("_folders", default=None)


class _OwnFiles(ConfigSource):
    """A folder of a user's own configuration files; what is wrong with one is told with its name."""

    @staticmethod
    def scheme() -> str:
        return "own"

    def _file(self, config_path: str) -> Path:
        name: str = self._normalize_file_name(config_path)
        return Path(self.path) / name

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return (Path(self.path) / config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        return self._file(config_path).is_file()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return sorted(path.stem for path in (Path(self.path) / config_path).glob("*.yaml"))

    def load_config(self, config_path: str) -> ConfigResult:
        path = self._file(config_path)
        shown = os.path.relpath(path)
        try:
            text = path.read_text(encoding="utf-8")
            _check_numbers(shown, text)
            config: Any = OmegaConf.create(text) if text.strip() else OmegaConf.create()
            if not OmegaConf.is_dict(config):
                raise ConfigError(f"{shown}: expected keys with values, got a list or text")
            header = self._get_header_dict(text)
        except ConfigError:
            raise
        except Exception as error:  # of the file's encoding, of YAML, of OmegaConf
            raise ConfigError(f"{shown}: {one_line(error)}") from None
        if header["package"] == "_global_" and "hydra" in config:
            keys = [f"hydra.{name}" for name in config["hydra"]] if OmegaConf.is_dict(config["hydra"]) else ["hydra"]
            unused = "Hydra's own settings are not used here"
            raise Faults([f"{self.provider}: {key}: {unused}{hydra_hint(key)}" for key in keys])
        return ConfigResult(self.provider, self.full_path(), config, header)


def _check_numbers(path: str, text: str) -> None:
    """Refuses whole numbers that YAML 1.1 reads as others than a person does, as the command line does."""
    if not MISREAD.search(text):
        return
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        plain = isinstance(token, yaml.ScalarToken) and token.plain
        if plain and MISREAD.fullmatch(token.value):
            meant = yaml.safe_load(token.value)
            if isinstance(meant, int | float):
                raise ConfigError(
                    f"{path}: line {token.start_mark.line + 1}: YAML reads {token.value} as {meant}; "
                    "write the number without a zero in front, or text in quotes"
                )


class _Registered(ConfigSource):
    """What plug-ins registered and no file configures: its name; the rest is in its signature."""

    @staticmethod
    def scheme() -> str:
        return "registered"

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path in GROUPS

    def is_config(self, config_path: str) -> bool:
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        return group in GROUPS and name in registry_of(group)

    def load_config(self, config_path: str) -> ConfigResult:
        group, _, name = config_path.removesuffix(".yaml").rpartition("/")
        values, package = ({"task": {"name": name}}, "_global_") if group == "task" else ({"name": name}, None)
        return ConfigResult(self.provider, self.full_path(), OmegaConf.create(values), {"package": package})

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        return sorted(registry_of(config_path)) if self.is_group(config_path) else []


class _OwnPlaces(SearchPathPlugin):
    """Has Hydra look for files of the user's own, and for what plug-ins registered, while `ConfigFiles` composes."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if (folders := _folders.get()) is None:
            return
        for folder in folders:
            search_path.append(str(folder), f"{_OwnFiles.scheme()}://{folder.absolute()}")
        search_path.append("plug-ins", f"{_Registered.scheme()}://")


class ConfigFiles:
    """The configuration files that are shipped and, beside them, those in folders of a user's own.

    Args:
        plugins: what is registered beside what is shipped; a folder ``conf`` beside a file counts too.

    Attributes:
        plugins: loaded.
        folders: where files are looked for, in this order.

    Raises:
        ConfigError: no such folder, or one with a file that a shipped one would hide; a plug-in that cannot be loaded.
    """

    def __init__(self, folder: str | None = None, plugins: Sequence["str | Plugin"] = ()):
        self.own = [Path(folder)] if folder is not None else []
        self.plugins: tuple[Plugin, ...] = ()
        if plugins:  # else nothing of the core is imported for the answer to a mistake
            from odyssey_run.config.plugins import load

            self.plugins = load(plugins)
            beside = [plugin.path.parent / "conf" for plugin in self.plugins]
            self.own = list(dict.fromkeys([*self.own, *filter(Path.is_dir, beside)]))
        self.folders = [HOUSE, *self.own]
        for place in self.own:
            _check_folder(place)

    @cached_property
    def options(self) -> dict[str, list[str]]:
        options = group_options(self.folders)
        if self.plugins:
            for group in GROUPS:
                options[group] = sorted({*options[group], *registry_of(group).added})
        return options

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
        with _composing, _hydra_as_it_was():
            for plugin in (_OwnFiles, _Registered, _OwnPlaces):
                Plugins.instance().register(plugin)
            token = _folders.set(self.own)
            try:
                with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
                    return _plain(compose("config", groups), resolve=False)
            except OdysseyError:
                raise
            except Exception as error:  # whatever Hydra makes of files that do not fit together
                raise ConfigError(f"{self._where}: {one_line(error)}") from None
            finally:
                _folders.reset(token)


@contextmanager
def _hydra_as_it_was() -> Iterator[None]:
    """A block that may change the process's Hydra, which is restored after it."""
    whole, base = GlobalHydra.instance(), version.VersionBase.instance()
    hydra, before = whole.hydra, base.getbase()
    whole.clear()
    try:
        yield
    finally:
        GlobalHydra.set_instance(whole)  # Hydra itself brings back a copy
        whole.hydra, base.version_base = hydra, before


def _with_defaults(config: dict[str, Any]) -> dict[str, Any]:
    """What plug-ins registered with the defaults of its signature where no file sets a value."""
    for group in GROUPS:
        values = config.get(group)
        name = values.get("name") if isinstance(values, dict) else None
        if not isinstance(name, str) or (HOUSE / group / f"{name}.yaml").is_file() or name not in registry_of(group):
            continue
        from odyssey_run.config.binding import defaults

        registry = registry_of(group)
        own = defaults(registry[name], registry.provided)
        if group == "task":
            config = own | config
        else:
            config[group] = {"name": name, **own, **(values or {})}
    return config


def _check_folder(own: Path) -> None:
    if not own.is_dir():
        raise ConfigError(f"--config-dir {shortened(str(own))}: no such folder")
    index = own / "config.yaml"  # a run's folder has one too, which says what it was made with
    for file in [*sorted(own.glob("*/**/*.yaml")), *([index] if index.is_file() else [])]:
        name = file.relative_to(own)
        try:
            content = file.read_bytes()
        except OSError as error:  # a folder of that name, a link to nothing
            raise ConfigError(
                f"--config-dir {own}: cannot read {name} ({error.strerror}); rename or remove it"
            ) from None
        differs = (HOUSE / name).is_file() and (HOUSE / name).read_bytes() != content
        if differs and (file != index or b"\ndefaults:" in content):
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


def _plain(config: DictConfig, resolve: bool) -> dict[str, Any]:
    return cast("dict[str, Any]", OmegaConf.to_container(config, resolve=resolve))


def resolved(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A configuration with its interpolations replaced, and the fault of each key where that failed, by key."""
    faults: dict[str, str] = {}
    if "${" not in str(config):
        return config, faults
    while True:
        try:
            return _plain(OmegaConf.create(config), resolve=True), faults
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


def one_line(error: BaseException) -> str:
    """The message of another package's error without its layout, and with its cause."""
    parts = [line.strip() for line in str(error).splitlines() if line.strip()]
    own = [part for part in parts if not re.match(r"(full_key|object_type|reference_type)[:=]", part)]
    text = " ".join(own) or type(error).__name__
    return f"{text}: {one_line(error.__cause__)}" if error.__cause__ else text
