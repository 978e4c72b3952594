"""Files that appear whole or not at all, and locks among processes."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

_STRAY = re.compile(r"\..+\.[a-z0-9_]{8}")  # what `atomic_file` calls a file that is not complete yet


@contextmanager
def atomic_file(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """A binary file that appears under its name when the block ends well, and not at all otherwise.

    A reader, or a crash at any moment, sees the old content or the new, never a part.

    Args:
        path: its folder must exist.
        durable: wait until it is on the disk; False for what can be made again, and may be empty after a power cut.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp's own mode would keep others from reading
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes, durable: bool = True) -> None:
    """Writes a file as `atomic_file` does, and makes its folder where there is none."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, durable) as file:
        file.write(content)


def stray_files(folder: Path) -> Iterator[Path]:
    """What a process that was killed while it wrote left in a folder and in those below it."""
    return (path for path in Path(folder).rglob(".*") if _STRAY.fullmatch(path.name) and path.is_file())


def lock(handle: int, wait: bool = True) -> None:
    """Locks an open file or folder against other processes until it is closed.

    Windows has no such locks: processes are not kept apart there.

    Raises:
        OSError: another process has the lock, where this one is not to wait for it.
    """
    if sys.platform != "win32":
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Waits for the lock of a folder and holds it; the folder itself is locked, so no lock file is left behind."""
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        lock(handle)
        yield
    finally:
        os.close(handle)
