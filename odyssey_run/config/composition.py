"""From options of groups to one configuration: Hydra composes, without the one global Hydra that a process may have."""

import copy
import re
import threading
from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.defaults_list import create_defaults_list
from hydra._internal.utils import create_config_search_path
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import setup_globals
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from odyssey_core.errors import ConfigError, OdysseyError, shortened
from odyssey_run.config.binding import Faults
from odyssey_run.config.command_line import EMPTY_GROUPS, GROUPS, group_options, hydra_hint, registry_of

if TYPE_CHECKING:
    from odyssey_run.config.plugins import Plugin

CONFIG_MODULE = "odyssey_run.conf"
HOUSE = Path(str(files(CONFIG_MODULE)))
# YAML 1.1 reads the first as a number to base 8 and the second as minutes and seconds.
MISREAD = re.compile(r"[-+]?0[0-9_]*[0-9]|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_composing = threading.RLock()  # Hydra's version is one for the process


class _OwnFiles(FileConfigSource):
    """A folder of a user's own configuration files; what is wrong with one is told with its name."""

    def load_config(self, config_path: str) -> ConfigResult:
        """See FileConfigSource."""
        path = Path(self.path) / self._normalize_file_name(config_path)
        try:
            _check_numbers(path)
            result = super().load_config(config_path)
            if not OmegaConf.is_dict(result.config):
                raise ConfigError(f"{path}: expected keys with values, got a list or text")
            return result
        except ConfigError:
            raise
        except Exception as error:  # of the file's encoding, of YAML, of OmegaConf
            raise ConfigError(f"{path}: {one_line(error)}") from None


def _check_numbers(path: Path) -> None:
    """Refuses whole numbers that YAML 1.1 reads as others than a person does, as the command line does."""
    text = path.read_text(encoding="utf-8")
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

    def __init__(self) -> None:
        super().__init__("plug-ins", f"{self.scheme()}://")

    @staticmethod
    def scheme() -> str:
        """See ConfigSource, as the others."""
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


class ConfigFiles:
    """The configuration files that are shipped and, beside them, those in folders of a user's own.

    Args:
        folder: the user's.
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
        """The groups and the options of each."""
        options = group_options(self.folders)
        if self.plugins:
            for group in GROUPS:
                options[group] = sorted({*options[group], *registry_of(group).added})
        return options

    def compose(self, groups: Sequence[str]) -> dict[str, Any]:
        """The configuration with these options, as plain values; interpolations are still text.

        Args:
            groups: ``group=option`` for each that is chosen.

        Raises:
            ConfigError: files that do not fit together, or that set what Hydra would do.
        """
        chosen = [text for text in groups if text not in {f"{group}=null" for group in EMPTY_GROUPS}]
        config = self._load(chosen)
        if settings := config.pop("hydra", None):
            raise Faults(
                [
                    f"{self._where}: {key}: Hydra's own settings are not used here{hydra_hint(key)}"
                    for key in (f"hydra.{name}" for name in settings)
                ]
            )
        if not isinstance(task := config.get("task"), dict) or "name" not in task:  # all else rests on it
            raise ConfigError(f"{self._where}: task: expected a mapping with a name, got {shortened(repr(task))}")
        return _with_defaults(config)

    @property
    def _where(self) -> str:
        return " or ".join(map(str, self.own)) or HOUSE.name

    def _load(self, groups: list[str]) -> dict[str, Any]:
        """What Hydra composes, less the half of it that says how Hydra itself is to run a program."""
        with _composing:
            before = version.VersionBase.instance().getbase()
            version.setbase("1.3")
            setup_globals()
            try:
                loader = ConfigLoaderImpl(create_config_search_path(f"pkg://{CONFIG_MODULE}"))
                own = [_OwnFiles("--config-dir", str(place.absolute())) for place in self.own]
                loader.repository.sources[-1:-1] = [*own, _Registered()]
                repository = CachingConfigRepository(loader.repository)
                chosen = OverridesParser.create().parse_overrides(groups)
                defaults = create_defaults_list(repository, "config", chosen, prepend_hydra=False, skip_missing=False)
                config = loader._compose_config_from_defaults_list(defaults.defaults, repository)
                return OmegaConf.to_container(config, resolve=False)
            except OdysseyError:
                raise
            except Exception as error:  # whatever Hydra makes of files that do not fit together
                raise ConfigError(f"{self._where}: {one_line(error)}") from None
            finally:
                version.VersionBase.instance().version_base = before


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
            config[group] = {"name": name, **own, **values}
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
    """Sets a key in a composed configuration; a mapping is merged into one that is there.

    Raises:
        ConfigError: a key below something that has no keys.
    """
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


def resolved(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """A configuration with its interpolations replaced, and the fault of each key where that failed, by key."""
    faults: dict[str, str] = {}
    if "${" not in str(config):
        return config, faults
    while True:
        try:
            return OmegaConf.to_container(OmegaConf.create(config), resolve=True), faults
        except Exception as error:  # of OmegaConf's, or of a resolver
            key = getattr(error, "full_key", None)
            if not key or key in faults:
                where = f"{shortened(key)}: " if key else ""
                raise ConfigError(f"{where}a value with ${{...}} does not stand for another one") from None
            if unset := re.search("Environment variable '(.+)' not found", str(error)):
                name = unset[1]
                faults[key] = (
                    f"{key}: the environment variable {name} is not set; set it, or write ${{oc.env:{name},VALUE}}"
                )
            else:
                other = "seed" if key == "optim.lr" else "optim.lr"
                how = f"write it as ${{{other}}}, with a key that has one"
                faults[key] = f"{key}: ${{...}} does not stand for a value; {how}"
            set_value(config, key, None)


def one_line(error: BaseException) -> str:
    """The message of another package's error without its layout, and with its cause."""
    parts = [line.strip() for line in str(error).splitlines() if line.strip()]
    own = [part for part in parts if not re.match(r"(full_key|object_type|reference_type)[:=]", part)]
    text = " ".join(own) or type(error).__name__
    return f"{text}: {one_line(error.__cause__)}" if error.__cause__ else text
