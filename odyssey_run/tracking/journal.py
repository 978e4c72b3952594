"""The append-only journal of a run: one JSON object a line, each written whole and at once.

Kinds of records, each with ``time`` in milliseconds since the epoch:

    start      what was asked: run, parent, name, config, params, tags, store, and the process (host, boot, pid)
    resume     another process goes on
    metrics    step and values
    tags       more of them
    artifact   a file or folder that was written: path (in the run's folder) and folder (among MLflow's artifacts)
    model      a folder that MLflow can load: path, step, and the name to register it under or null
    tracking   what MLflow answered: first that a run is being made, then its run_id and experiment_id; the version
               of a registered model
    refused    what MLflow will never take, and its reason
    end        status FINISHED, FAILED or KILLED, and the reason
    sent       everything up to the end, but for what was refused, has reached MLflow

No record holds a password: addresses are masked.
"""

import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from odyssey_core.errors import ConfigError, DataError
from odyssey_run.config.masking import masked

try:
    import fcntl
except ImportError:  # Windows: two processes at one run are not kept apart there
    fcntl = None  # type: ignore[assignment]

FILE_NAME = "journal.jsonl"
STATUSES = ("FINISHED", "FAILED", "KILLED")
RUN_TAG = "odyssey.run"  # a run's key, among its tags in MLflow
MAX_PARAM = 6000  # characters of a parameter that MLflow takes
# What a record of a kind holds at least; one of somebody else's run may hold anything.
_FIELDS: dict[str, dict[str, type]] = {
    "start": {"run": str, "name": str, "config": dict, "params": dict, "tags": dict, "process": dict},
    "resume": {"process": dict},
    "metrics": {"step": int, "values": dict},
    "tags": {"values": dict},
    "artifact": {"path": str, "folder": str},
    "model": {"path": str, "step": int},
    "end": {"status": str},
}
_VALUES = {"metrics": ("values", (int, float)), "tags": ("values", str)}
_GROUPS = ("model", "data", "optim", "trainer", "backend")


class Journal:
    """Writes the journal; may be used by several threads, and beside another process that appends to it.

    Args:
        path: of the file; made if it is not there.
        owner: the one process that the run belongs to. It cuts a torn last line off on opening: a crash in the middle
            of a write left it, it was never a record. False where notes are added beside the owner.

    Raises:
        ConfigError: another process owns the run.
        DataError: a line other than the last cannot be read.
    """

    def __init__(self, path: Path, owner: bool = True):
        self.path = path
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if owner:
            try:
                if fcntl:
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._file)
                raise ConfigError(f"{path.parent}: another process is at this run; wait for it, or stop it") from None
            os.ftruncate(self._file, read(path)[1])

    def append(self, kind: str, **values: Any) -> None:
        """Adds a record, stamped with the time.

        Raises:
            ValueError: nan or inf, which JSON and MLflow have no place for.
            OSError: the disk is full; the journal is as it was before.
        """
        record = masked({"kind": kind, "time": now(), **values})
        line = json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            size, rest = os.fstat(self._file).st_size, memoryview(line)
            try:
                while rest:
                    rest = rest[os.write(self._file, rest) :]
            except OSError:
                if os.fstat(self._file).st_size == size + len(line) - len(rest):  # nobody else wrote behind it
                    os.ftruncate(self._file, size)
                raise

    def close(self) -> None:
        """Forces what was written to the disk."""
        with self._lock:
            os.fsync(self._file)
            os.close(self._file)


def inherit(path: Path, patience: float = 5.0) -> Journal:
    """The journal of a process that died: it lets go of it some moments after its connections are seen to break.

    Raises:
        ConfigError: it still has it after so many seconds.
    """
    end = time.monotonic() + patience
    while True:
        try:
            return Journal(path)
        except ConfigError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def now() -> int:
    """Milliseconds since 1970, as records carry them."""
    return time.time_ns() // 1_000_000


def read(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The whole records from a byte offset on, and the offset behind the last of them.

    Raises:
        DataError: a line that ends but is no record.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        content = file.read()
    whole = content.rfind(b"\n") + 1
    return parse(content[:whole], path, offset), offset + whole


def parse(content: bytes, path: Path, offset: int = 0) -> list[dict[str, Any]]:
    """The records in a journal's lines.

    Raises:
        DataError: a line that is no record.
    """
    records = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            record = json.loads(line)
            records.append({"kind": record["kind"], **record})
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DataError(
                f"{path}: line {number} from byte {offset} is no journal record: {line[:60]!r}; "
                "the file was changed by something else"
            ) from None
    return records


def whole(records: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """The same records, where they are those of a run from its start on.

    Raises:
        DataError: a record lacks something, or has it of another type.
    """
    if not records or records[0]["kind"] != "start":
        raise DataError(f"{path}: says nothing of how the run began")
    for number, record in enumerate(records, 1):
        if fault := _fault(record):
            raise DataError(f"{path}: record {number} is no {record['kind']!r} of this program: {fault}")
    return records


def _fault(record: Mapping[str, Any]) -> str | None:
    kind = record["kind"]
    for name, expected in {"time": int, **_FIELDS.get(kind, {})}.items():
        if not isinstance(record.get(name), expected):
            return f"expected {name} of type {expected.__name__}, got {str(record.get(name))[:40]!r}"
    name, expected = _VALUES.get(kind, ("tags", str) if kind == "start" else (None, None))
    if name and any(not isinstance(value, expected) for value in record[name].values()):
        return f"{name} holds a value of another type"
    if kind == "start":
        if not isinstance(record.get("parent", 0), str | None):
            return "its parent is neither the key of a run nor null"
        config = record["config"]
        if lost := [g for g in _GROUPS if not isinstance(config.get(g), dict) or not _named(config[g])]:
            return f"its config has no {lost[0]}"
    if kind == "end" and record["status"] not in STATUSES:
        return f"expected one of {', '.join(STATUSES)}, got {record['status'][:40]!r}"
    return None


def _named(group: Mapping[str, Any]) -> bool:
    return isinstance(group.get("name", ""), str)


def series(records: Iterable[Mapping[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """The metrics in a journal: name to (step, value)."""
    found: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        if record["kind"] == "metrics":
            for name, value in record["values"].items():
                found.setdefault(name, []).append((record["step"], value))
    return found


def inside(folder: Path, name: str) -> Path:
    """The file or folder that a journal names in its run's folder.

    Raises:
        DataError: it lies elsewhere.
    """
    place = folder / name
    if not place.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{folder / FILE_NAME}: names {name[:200]!r}, which is outside {folder}")
    return place
