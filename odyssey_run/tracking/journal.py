"""The append-only journal of a run: one JSON object a line, each written whole and at once.

Kinds of records, each with ``time`` in milliseconds since the epoch:

    start      what was asked: run, parent, name, config, params, tags, store, and the process (host, boot, pid)
    resume     another process goes on
    metrics    step and values
    tags       more of them
    artifact   a file or folder that was written: path (in the run's folder) and folder (among MLflow's artifacts)
    model      a folder that MLflow can load: path, step, and the name to register it under or null
    tracking   what MLflow answered: first that a run is being made, then its run_id and experiment_id
    end        status FINISHED, FAILED or KILLED, and the reason
    sent       everything up to the end has reached MLflow
"""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from odyssey_core.errors import ConfigError, DataError

try:
    import fcntl
except ImportError:  # Windows: two processes at one run are not kept apart there
    fcntl = None  # type: ignore[assignment]

FILE_NAME = "journal.jsonl"
STATUSES = ("FINISHED", "FAILED", "KILLED")


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
        """
        record = {"kind": kind, "time": time.time_ns() // 1_000_000, **values}
        line = json.dumps(record, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._file, rest) :]

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


def read(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The whole records from a byte offset on, and the offset behind the last of them.

    Raises:
        DataError: a line that ends but is no record.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        content = file.read()
    whole = content.rfind(b"\n") + 1
    records = []
    for number, line in enumerate(content[:whole].splitlines(), 1):
        try:
            record = json.loads(line)
            records.append({"kind": record["kind"], **record})
        except (ValueError, KeyError, TypeError):
            raise DataError(
                f"{path}: line {number} from byte {offset} is no journal record: {line[:60]!r}; "
                "the file was changed by something else"
            ) from None
    return records, offset + whole
