"""Files that appear whole or not at all, and locks among processes."""

import os
import re
import secrets
import sys
from collections.abc import Iterable, Iterator
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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with open(temporary, "xb") as file:
        try:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
            file.close()
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_atomic(path: Path, content: bytes, durable: bool = True) -> None:
    """Writes a file as `atomic_file` does, and makes its folder where there is none."""
    path = Path(path)
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, durable) as file:
        file.write(content)


def sync(paths: Iterable[Path]) -> None:
    """Waits until files are on the disk, with their names in their folders.

    All begin to be written before one is waited for, so that a file system with a journal commits once or twice, not
    once for each. Windows syncs a file while it is open for writing alone: there nothing is done.
    """
    if sys.platform == "win32":
        return
    files = list(paths)
    handles = [os.open(path, os.O_RDONLY) for path in dict.fromkeys([*files, *(path.parent for path in files)])]
    try:
        if hasattr(os, "posix_fadvise"):  # not on macOS
            for handle in handles[: len(files)]:
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        for handle in handles:
            os.fsync(handle)
    finally:
        for handle in handles:
            os.close(handle)


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
