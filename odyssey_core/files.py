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

AT_ONCE = 12  # files that are waited for
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
    """Waits until files that were written without waiting are on the disk.

    Each in a thread: asked for one after the other, a disk empties its own cache for each, which for eleven files took
    110 ms where all together took 12.
    """
    from concurrent.futures import ThreadPoolExecutor  # not for the answer to a mistake

    def wait(path: Path) -> None:
        with open(path, "rb+") as file:
            os.fsync(file.fileno())

    waiting = list(paths)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            list(pool.map(wait, waiting))
        except RuntimeError:  # there are no more threads
            list(map(wait, waiting))


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
