"""What a run must say about where it comes from: tags, and the process behind it."""

import getpass
import hashlib
import json
import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from odyssey_core.data import Dataset
from odyssey_core.machine import installed_version
from odyssey_run.config import plugins, sources
from odyssey_run.config.request import Request
from odyssey_run.runs import command
from odyssey_run.tracking.names import Tag

PACKAGES = ("ml-odyssey", "numpy", "numba", "llvmlite", "mlflow")
NO_RESULT = ("run", "plots", "tracking", "task", "resume", "seeds", "expect")  # say where a run goes and what it is for
NO_PARAMETERS = ("backend.threads", "trainer.checkpoint_s", "trainer.log_every")  # change no result
COMMIT = "mlflow.source.git.commit"
MOST_DIFF = 1_000_000  # characters


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """``{"optim": {"lr": 0.01}}`` as ``{"optim.lr": "0.01"}``."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = "null" if value is None else str(value)
    return flat


def parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """What decides a run's results, as MLflow's params, without what is not set."""
    kept = flatten({key: value for key, value in config.items() if key not in NO_RESULT})
    unset = ("null", "[]")
    return {key: value for key, value in kept.items() if key not in NO_PARAMETERS and value not in unset}


def identity(config: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of the part of a configuration that decides a run's results."""
    kept = {key: value for key, value in config.items() if key not in NO_RESULT}
    backend = {key: value for key, value in config["backend"].items() if key != "threads"}
    trainer = {key: value for key, value in config["trainer"].items() if key != "checkpoint_s"}
    text = json.dumps(kept | {"backend": backend, "trainer": trainer}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def data_tags(dataset: Dataset, backend: str) -> dict[str, str]:
    """What results with this data on this backend rest on, as MLflow tags."""
    return {
        Tag.DATA_NAME: dataset.name,
        Tag.DATA_DIGEST: dataset.digest,
        Tag.DATA_OFFICIAL: str(dataset.official).lower(),
        Tag.BACKEND: backend,
    }


def tags(request: Request) -> dict[str, str]:
    """The program, the machine and the command behind a run, as MLflow tags."""
    return {
        "mlflow.source.name": "odyssey-run",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
        Tag.COMMAND: command.line(request.overrides),
        Tag.CONFIG_DIGEST: identity(request.config),
        Tag.CODE_DIGEST: sources.digest(request.plugins),
        **plugins.tags(request.plugins),
        **{f"odyssey.process.{name}": str(value) for name, value in process().items()},
        **environment_tags(),
    }


def of_commit() -> tuple[dict[str, str], bytes]:
    """The commit of the repository that holds this code, or that the run is started in, and whether it was changed
    since, as tags; and how, as a patch. Both are empty where there is none."""
    for folder in (Path(__file__).resolve().parent, Path.cwd()):
        if commit := _git(folder, "rev-parse", "HEAD"):
            changed = _git(folder, "status", "--porcelain")
            diff = _git(folder, "diff", "HEAD") if changed else None
            patch = f"{diff}\n".encode() if diff and len(diff) <= MOST_DIFF else b""
            return {COMMIT: commit, Tag.DIRTY: str(bool(changed)).lower()}, patch
    return {}, b""


def environment() -> bytes:
    """The machine and the packages, as a file for people."""
    return f"{json.dumps({k.removeprefix('odyssey.'): v for k, v in environment_tags().items()}, indent=2)}\n".encode()


@cache
def machine_tags() -> dict[str, str]:
    return {
        "odyssey.python": platform.python_version(),
        "odyssey.machine": f"{platform.system()} {platform.machine()}",
        "odyssey.cpu": _cpu(),
    }


@cache
def environment_tags() -> dict[str, str]:
    versions = {f"odyssey.version.{name}": found for name in PACKAGES if (found := installed_version(name))}
    return machine_tags() | versions


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def process() -> dict[str, Any]:
    """The host, its boot and the process id: tells later whether a run that says nothing is still alive."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "host": socket.gethostname(),
        "boot": boot.read_text().strip() if boot.exists() else "",
        "pid": os.getpid(),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
