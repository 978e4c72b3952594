"""Where compiled kernels are kept.

Kernels lie in a folder per user, named by the digest of this package's source: an edit takes effect at the next run,
also one in a function that a kernel calls, which numba's own cache does not see.
"""

import hashlib
import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from odyssey_core import IMPORTED
from odyssey_core.places import cache_home, temporary_home

UNUSED_DAYS, MOST_FOLDERS = 30, 32


@cache
def source_digest() -> str:
    """SHA-256 over the files of odyssey_core, in order of path: hexadecimal.

    Where one has changed since it was imported, they do not say what this process runs: the digest is then its own.
    """
    root = Path(__file__).parents[2]
    sha = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        sha.update(f"{path.relative_to(root)}\n".encode())
        sha.update(path.read_bytes())
        if path.stat().st_ctime > IMPORTED:
            sha.update(os.urandom(16))
    return sha.hexdigest()


@cache
def cache_folders() -> tuple[Path, ...]:
    """Folders for kernels of this source: the user's or a shared one, then a temporary one for where that is read-only.

    The temporary one is left out if somebody else could have put code there. There may be none that can be written.
    """
    name, folders = source_digest()[:16], []
    with suppress(OSError):
        folders.append(cache_home() / "kernels" / name)
    with suppress(OSError):  # there may be no place for temporary files either
        private = temporary_home()
        folders = [folder for folder in folders if folder.parents[1] != private]
        private.mkdir(mode=0o700, exist_ok=True)
        found = private.lstat()
        mine = not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)
        if mine and stat.S_ISDIR(found.st_mode):
            folders.append(private / name)
    if not folders:
        with suppress(OSError):
            folders.append(Path(tempfile.mkdtemp(prefix="ml-odyssey-")) / name)
    return tuple(folders)


def mark_used(folder: Path) -> None:
    """Says that the folder was used; at most once a day, so that a shared disk is not written to by every run."""
    with suppress(OSError):
        if time.time() - folder.stat().st_mtime > 86_400:
            os.utime(folder)


def prune(folder: Path) -> None:
    """Removes the kernels of other sources that were not used for a month, and of all but the last few.

    A process that still uses one has loaded its kernels already, and makes the folder again if it compiles another.
    """
    used = []
    with suppress(OSError):
        for other in folder.parent.iterdir():
            if other != folder and other.is_dir():
                used.append((other.stat().st_mtime, other))
    for i, (when, other) in enumerate(sorted(used, reverse=True)):
        if i >= MOST_FOLDERS or time.time() - when > UNUSED_DAYS * 86_400:
            shutil.rmtree(other, ignore_errors=True)
