"""The folder of a run, the first thing that is made and the last place that anything is lost from."""

import os
import re
import secrets
import tempfile
from pathlib import Path

from odyssey_core.errors import ConfigError
from odyssey_core.files import stray_files
from odyssey_run.config.request import Request
from odyssey_run.config.schema import FolderConfig
from odyssey_run.tracking.journal import FILE_NAME

RUNS = Path("runs")  # in the working directory
CONFIG, LOG, REPORT, CHECKPOINT = "config.yaml", "train.log", "report.html", "checkpoint.safetensors"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
LONGEST = 200  # characters of a name: a folder's has 255, and files are called after a run


def check_writable(run: FolderConfig) -> None:
    """Fails before anything is loaded where the run's folder could not be made; leaves nothing behind.

    Raises:
        ConfigError: a bad name, a folder that cannot be written or already holds a run.
    """
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
    names = {path.name for path in target.iterdir()} - {path.name for path in stray_files(target)}
    if FILE_NAME in names and (target / FILE_NAME).stat().st_size:
        return "a run"
    others = sorted(names - {FILE_NAME, CONFIG, LOG}) if FILE_NAME in names else sorted(names)
    return f"other files ({', '.join(others[:3])}{', ...' if len(others) > 3 else ''})" if others else None


def make(request: Request, base: str, wanted: Path | None = None) -> tuple[Path, str]:
    """Makes the folder; returns it and the run's name, ``<base>-<4 hex>`` unless it is given.

    Args:
        base: says what differs: ``lenet5-sgd-lr0.01-s0``.
        wanted: the folder, where the request does not decide it.

    Raises:
        ConfigError: the folder cannot be made.
    """
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
