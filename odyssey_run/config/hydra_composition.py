"""Hydra's composition of options of groups to one configuration, and what else Hydra answers itself.

Nothing else that the answer to a mistake needs imports Hydra, which takes a fifth of a second with what it imports.
Hydra is one for a process: whoever else uses it there finds it as it was.
"""

import copy
import json
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, cast

import yaml
from hydra import compose, initialize_config_module, main, version
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from odyssey_core.errors import ConfigError, OdysseyError
from odyssey_run.config.binding import Faults
from odyssey_run.config.command_line import CONFIG_MODULE, EMPTY_GROUPS, KINDS, hydra_hint, registry_of
from odyssey_run.config.masking import masked

# YAML 1.1 reads the first as a number to base 8 and the second as minutes and seconds.
MISREAD = re.compile(r"[-+]?0[0-9_]*[0-9]|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_composing = threading.RLock()


def composed(groups: list[str], folders: Sequence[Path], where: str) -> dict[str, Any]:
    """The configuration with options such as ``model=mlp``, as plain values.

    Args:
        folders: the one that is shipped, and those with files of the user's own.
        where: what messages call the latter.

    Raises:
        ConfigError: files that do not fit together, or that set what Hydra would do.
    """
    places = [f"{_OwnFiles.scheme()}://{folder.absolute()}" for folder in folders[1:]]
    search = f"hydra.searchpath={json.dumps(places, ensure_ascii=False)}"
    with _composing, _hydra_as_it_was():
        _store_registered(folders)
        try:
            with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
                found = compose("config", [*groups, search])
                return cast("dict[str, Any]", OmegaConf.to_container(found, resolve=False))
        except OdysseyError:
            raise
        except RecursionError:
            raise ConfigError(
                f"{where}: a file's defaults name the file itself, or one whose defaults lead back to it; remove one"
            ) from None
        except Exception as error:  # whatever Hydra makes of files that do not fit together
            raise ConfigError(f"{where}: {one_line(error)}") from None


def answer(argv: list[str]) -> int:
    """Prints Hydra's own answer to ``--info``, ``--hydra-help`` and shell completion; returns its exit code."""
    saved = sys.argv
    sys.argv = [saved[0], *argv]
    said = StringIO()
    try:
        with redirect_stdout(said):
            main(config_path=f"pkg://{CONFIG_MODULE}", config_name="config", version_base="1.3")(print)()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        print(masked(said.getvalue()), end="")
        sys.argv = saved
        GlobalHydra.instance().clear()
    return 0


@contextmanager
def _hydra_as_it_was() -> Iterator[None]:
    """A block that may change the process's Hydra, which is restored after it."""
    Plugins.instance().register(_OwnFiles)  # with Hydra's own, which leave something in the store
    whole, base = GlobalHydra.instance(), version.VersionBase.instance()
    hydra, before, store = whole.hydra, base.getbase(), ConfigStore.instance()
    stored, store.repo = store.repo, copy.deepcopy(store.repo)
    whole.clear()
    try:
        yield
    finally:
        GlobalHydra.set_instance(whole)  # Hydra itself brings back a copy
        whole.hydra, base.version_base, store.repo = hydra, before, stored


class _OwnFiles(ConfigSource):
    """A folder of a user's own configuration files; a fault in one is reported with its name."""

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
            text = path.read_text(encoding="utf-8-sig")  # a byte order mark would hide the header
            config: Any = OmegaConf.create(text) if text.strip() else OmegaConf.create()
            header = self._get_header_dict(text)
        except RecursionError:
            why = "is nested too deeply, or a part of it contains itself (&name, *name)"
            raise ConfigError(f"{shown}: {why}") from None
        except Exception as error:  # of the file's encoding, of YAML, of OmegaConf
            raise ConfigError(f"{shown}: {one_line(error)}") from None
        _check_numbers(shown, text)
        if not OmegaConf.is_dict(config):
            raise ConfigError(f"{shown}: expected keys with values, got a list or text")
        if header["package"] is None and config_path.partition("/")[0] in EMPTY_GROUPS:
            raise ConfigError(f"{shown}: expected the first line # @package _global_, without which it sets no key")
        if header["package"] == "_global_" and "hydra" in config:
            keys = [f"hydra.{name}" for name in config["hydra"]] if OmegaConf.is_dict(config["hydra"]) else ["hydra"]
            unused = "Hydra's own settings are not used here"
            raise Faults([f"{os.path.relpath(self.path)}: {key}: {unused}{hydra_hint(key)}" for key in keys])
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


def _store_registered(folders: Sequence[Path]) -> None:
    """Gives Hydra what is registered and no file configures: its name, since the rest is in its signature."""
    for group in KINDS:
        for name in registry_of(group):
            if not any((folder / group / f"{name}.yaml").is_file() for folder in folders):
                node, package = ({"task": {"name": name}}, "_global_") if group == "task" else ({"name": name}, None)
                ConfigStore.instance().store(name, node, group, package)


def one_line(error: BaseException) -> str:
    """The message of another package's error without its layout, and with its cause."""
    parts = [line.strip() for line in str(error).splitlines() if line.strip()]
    own = [part for part in parts if not re.match(r"(full_key|object_type|reference_type)[:=]", part)]
    text = " ".join(own) or type(error).__name__
    return f"{text}: {one_line(error.__cause__)}" if error.__cause__ else text
