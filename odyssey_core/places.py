"""Folders on this machine that belong to the user, where there is one: a container may have neither home nor user."""

import os
import tempfile
from pathlib import Path


def cache_home() -> Path:
    """``$ODYSSEY_CACHE``, or ``~/.cache/ml-odyssey``, or the temporary folder where there is no home; not created."""
    if given := os.environ.get("ODYSSEY_CACHE"):
        return Path(given)
    try:
        return Path.home() / ".cache" / "ml-odyssey"
    except RuntimeError:  # no HOME, and no entry of the user's in the system's list
        return temporary_home()


def temporary_home() -> Path:
    """A folder of this user's below that for temporary files; not created, and maybe somebody else's."""
    return Path(tempfile.gettempdir()) / f"ml-odyssey-{os.getuid() if hasattr(os, 'getuid') else 'kernels'}"


def not_a_file(path: Path) -> str:
    """What a path is that names no regular file, for a message: "does not exist", "is a folder"."""
    return "is a folder" if path.is_dir() else "is no regular file" if path.exists() else "does not exist"


def expanded(path: str | Path) -> Path:
    """A path with its ``~`` replaced, where there is such a home; else as it is, and then no file is found there."""
    return Path(os.path.expanduser(path))
