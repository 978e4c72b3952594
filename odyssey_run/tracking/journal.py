"""The append-only journal of a run: one JSON object a line, each written whole and at once.

No line holds a password: addresses are masked.
"""

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

from odyssey_core.errors import ConfigError, DataError
from odyssey_core.files import lock
from odyssey_run.config.masking import masked
from odyssey_run.tracking.names import JOURNAL
from odyssey_run.tracking.records import Record, RunRecords, Start, parse, whole

SENT, LONGEST_SENT = b'{"kind":"sent",', 100  # how the line of that kind begins, and the bytes that it has at most


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
        self._records, self._read = list[Record](), 0  # what was read, and how many bytes that is
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        if owner:
            try:
                lock(self._file, wait=False)
            except OSError:
                os.close(self._file)
                raise ConfigError(
                    f"{path.parent}: another process is writing this run; wait for it, or stop it"
                ) from None
            os.ftruncate(self._file, read(path)[1])

    def append(self, record: Record) -> None:
        """Adds a record, stamped with the time unless it has one. Raises ValueError: nan or inf, which JSON and MLflow
        have no place for; OSError: the disk is full, and the journal is as it was before."""
        record = record if record.time else replace(record, time=now())
        values = masked({"kind": record.kind, **vars(record)})
        line = json.dumps(values, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            size, rest = os.fstat(self._file).st_size, memoryview(line)
            try:
                while rest:
                    rest = rest[os.write(self._file, rest) :]
            except OSError:
                if os.fstat(self._file).st_size == size + len(line) - len(rest):  # nobody else wrote behind it
                    os.ftruncate(self._file, size)
                raise

    def records(self) -> RunRecords:
        """All that it says, also by other processes; a line is read once. Raises DataError as `load` does."""
        with self._lock:
            fresh, self._read = read(self.path, self._read)
            self._records += fresh
            return whole([*self._records], self.path)

    def close(self) -> None:
        """Forces what was written to the disk."""
        with self._lock:
            os.fsync(self._file)
            os.close(self._file)


def inherit(path: Path, patience: float = 5.0) -> Journal:
    """The journal of a process that died, which lets go of it some moments after its connections are seen to break.

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


def load(path: Path) -> RunRecords:
    """A run's journal. Raises DataError: a line is no record, or the first is not a run's start."""
    return whole(read(path)[0], path)


def read(path: Path, offset: int = 0) -> tuple[list[Record], int]:
    """The whole records from a byte offset on, and the offset behind them. Raises DataError: a line is no record."""
    with open(path, "rb") as file:
        file.seek(offset)
        content = file.read()
    complete = content.rfind(b"\n") + 1
    return parse(content[:complete], path, offset), offset + complete


def first_record(path: Path) -> Start | None:
    """A journal's first record, without reading the others; None where not even that was written.

    Raises:
        DataError: a first line that this program did not write.
    """
    with open(path, "rb") as file:
        line = file.readline()
    return whole(parse(line, path), path).start if line.endswith(b"\n") else None


def is_sent(path: Path) -> bool:
    """Whether the last record says that MLflow has all, without reading the others."""
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LONGEST_SENT))
        last = file.read().removesuffix(b"\n").rpartition(b"\n")[2]
    return last.startswith(SENT)


def inside(folder: Path, name: str) -> Path:
    """The file or folder that a journal names in its run's folder. Raises DataError where it lies elsewhere."""
    place = folder / name
    if not place.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"{folder / JOURNAL}: names {name[:200]!r}, which is outside {folder}")
    return place
