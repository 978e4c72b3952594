"""Where a run goes, its folder and its store in MLflow: decided and checked before anything is written."""

import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from odyssey_core.errors import ConfigError
from odyssey_core.files import stray_files, write_atomic
from odyssey_run.config.binding import Faults, collecting
from odyssey_run.config.request import Request
from odyssey_run.config.schema import FolderConfig, TrackingConfig
from odyssey_run.config.yaml_text import yaml_text
from odyssey_run.tracking import names
from odyssey_run.tracking.location import Store, check_driver, resolve
from odyssey_run.tracking.names import JOURNAL

RUNS = Path("runs")  # in the working directory
CONFIG, LOG, REPORT, CHECKPOINT = "config.yaml", "train.log", "report.html", "checkpoint.safetensors"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
LONGEST = 200  # characters of a name: a folder's has 255, and files are called after a run


def check_places(request: Request, resuming: bool = False, experiment: str | None = None) -> Store | None:
    """Where a run goes in MLflow, None for nowhere; writes nothing. Raises Faults: it could not be stored.

    Args:
        resuming: the folder is there already.
        experiment: where the request names none; by default the data's name.
    """
    store, faults = place_faults(request.run, request.tracking, experiment or request.data.name, resuming)
    if faults:
        raise Faults(faults)
    return store


def place_faults(
    run: FolderConfig, tracking: TrackingConfig, experiment: str, resuming: bool
) -> tuple[Store | None, list[str]]:
    """The store of a run, and what is wrong with it or with the run's folder, with arguments as in `check_places`."""
    faults: list[str] = []
    store = None
    with collecting(faults):
        if store := resolve(tracking, experiment):
            if not 0 < len(name := store.experiment) <= names.MOST:
                faults.append(f"tracking.experiment: MLflow takes 1 to {names.MOST} characters, got {name[:60]!r}")
            if tracking.register is not None and (fault := names.model_fault(tracking.register)):
                faults.append(f"tracking.register: {fault}, got {tracking.register[:60]!r}")
            check_driver(store)
    with collecting(faults):
        if not resuming:
            check_writable(run)
    return store, faults


def check_writable(run: FolderConfig) -> None:
    """Fails before anything is loaded where the run's folder could not be made; leaves nothing behind. Raises
    ConfigError: a bad name, a folder that cannot be written or already holds a run."""
    name, wanted = run.name, run.dir
    if name is not None and not NAME.fullmatch(name):
        raise ConfigError(f"run.name: expected letters, digits and ._+- only, got {name!r}")
    if name is not None and len(name) > LONGEST:
        raise ConfigError(f"run.name: expected at most {LONGEST} characters, got {len(name)}")
    target = Path(wanted) if wanted else RUNS / (name or "x")
    if (wanted or name) and (held := _holds(target)):
        raise ConfigError(f"run.{'dir' if wanted else 'name'}: {target} already holds {held}; choose another")
    place = target.absolute()
    while not place.exists():
        place = place.parent
    try:
        if not place.is_dir():
            raise NotADirectoryError(f"{place} is a file")
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ConfigError(
            f"run.dir: cannot write to {place}: {error.strerror or error}; start elsewhere or set run.dir=FOLDER"
        ) from None


def _holds(target: Path) -> str | None:
    """What is in a folder that a run would mix with; a run that was killed before its first line left nothing."""
    if not target.is_dir():
        return None
    there = {path.name for path in target.iterdir()} - {path.name for path in stray_files(target)}
    if JOURNAL in there and (target / JOURNAL).stat().st_size:
        return "a run"
    others = sorted(there - {JOURNAL, CONFIG, LOG}) if JOURNAL in there else sorted(there)
    return f"other files ({', '.join(others[:3])}{', ...' if len(others) > 3 else ''})" if others else None


def make(request: Request, base: str, wanted: Path | None = None) -> tuple[Path, str]:
    """Makes the folder; returns it and the run's name: a base such as ``lenet5-sgd-lr0.01-s0`` and four letters, unless
    it is given. Raises ConfigError: the folder cannot be made."""
    given = wanted or (request.run.dir and Path(request.run.dir))
    for _ in range(100):
        name = request.run.name or f"{base}-{secrets.token_hex(2)}"
        path = given or RUNS / name
        try:
            path.mkdir(parents=True, exist_ok=given is not None)
            return path, name
        except FileExistsError:
            if request.run.name:
                raise ConfigError(f"run.name: {path} already exists; choose another") from None
        except OSError as error:
            raise ConfigError(f"run.dir: cannot make {path}: {os.strerror(error.errno or 0)}") from None
    raise ConfigError(f"run.name: 100 names like {name} exist already; set run.name")


def write_config(path: Path, config: Mapping[str, Any]) -> None:
    """Writes the configuration that the journal of a run begins with into its folder.

    Nothing waits for the disk: where a power cut has emptied the file, whoever goes on with the run, or writes its end,
    writes it again.
    """
    text = "".join(_as_yaml(json.dumps({name: value})) for name, value in config.items())
    write_atomic(path / CONFIG, text.encode(), durable=False)


@cache  # the points of a sweep have nearly all in common, and PyYAML would take a tenth of a short run's time
def _as_yaml(content: str) -> str:
    return yaml_text(json.loads(content))


def numbered(folder: Path) -> Iterator[Path]:
    """``run``, ``run-2``, ``run-3``, ... without end."""
    yield folder
    yield from (folder.with_name(f"{folder.name}-{number}") for number in count(2))
