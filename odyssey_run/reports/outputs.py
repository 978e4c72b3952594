"""Files that a task writes: with ``out=`` nothing is replaced that this program did not make."""

import csv
import io
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from odyssey_core.errors import ConfigError

MARK = "made-by:ml-odyssey-run"  # near the beginning of every file that may be replaced, and in no path
NEAR = 4096  # bytes
DPI = 160  # pixels an inch, of every picture


def replaceable(path: Path) -> bool:
    """Whether nothing is there, or a file that this program made."""
    if not path.exists() and not path.is_symlink():
        return True
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return MARK.encode() in file.read(NEAR)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block in which ``path`` is written, refused where it would replace what this program did not make. Raises
    ConfigError: that, or a place that cannot be written to."""
    try:
        if not replaceable(path):
            what = "is a folder" if path.is_dir() else "exists and was not made by this program"
            raise ConfigError(f"out: {path} {what}; name another file")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):  # now, not after all the work
            pass
        yield
    except OSError as error:
        raise ConfigError(f"out: cannot write {path} ({error.strerror or error}); name another place") from None


def csv_of(rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = ()) -> bytes:
    """A table as CSV. Its columns are the keys of all rows in the order in which they come, unless they are given."""
    table, out = list(rows), io.StringIO()
    head = list(columns) or list(dict.fromkeys(key for row in table for key in row))
    writer = csv.DictWriter(out, head, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue().encode("utf-8", "surrogateescape")
