"""Files that a task is asked to write with ``out=``: nothing is replaced that this program did not make."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from odyssey_core.errors import ConfigError

MARK = "made-by:ml-odyssey-run"  # near the beginning of every file that may be replaced, and in no path
NEAR = 4096  # bytes


def replaceable(path: Path) -> bool:
    """Whether nothing is there, or a file that this program made."""
    if not path.exists() and not path.is_symlink():
        return True
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return MARK.encode() in file.read(NEAR)


def check_writable(path: Path) -> None:
    """Makes the folder of a file that is to be written.

    Raises:
        OSError: no file can be made there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        pass


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block in which ``path`` is written, refused where it would replace what this program did not make.

    Raises:
        ConfigError: that, or a place that cannot be written to.
    """
    try:
        if not replaceable(path):
            what = "is a folder" if path.is_dir() else "exists and was not made by this program"
            raise ConfigError(f"out: {path} {what}; name another file")
        yield
    except OSError as error:
        raise ConfigError(f"out: cannot write {path} ({error.strerror or error}); name another place") from None
