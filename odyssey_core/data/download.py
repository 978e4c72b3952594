"""Downloads that resume where they were cut, and that nobody sees before their checksum is right."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from odyssey_core.errors import DataError
from odyssey_core.files import lock

CHUNK = 1 << 18
TIMEOUT = (10, 30)  # seconds to connect, seconds of silence
Progress = Callable[[int, int | None], None]


class _Failed(Exception):
    """One address did not give the file; the text is the reason."""


def fetch(
    urls: Sequence[str], path: Path, checksum: str, *, instead: str | None = None, progress: Progress | None = None
) -> Path:
    """Makes sure that a file is there, whole and as published.

    Bytes arrive in ``NAME.part`` beside it. A cut connection is resumed by an HTTP range request, at once as long as
    it moves on, else at the next call; a server that ignores the range starts over. Of several processes
    one downloads and the others wait for it.

    Args:
        urls: the same file at several addresses, tried in order.
        path: where it goes.
        checksum: of the whole file, in hex: its SHA-256, or where no other is published its MD5.
        instead: what else may be put in the folder by hand, for the message.
        progress: called with (bytes so far, bytes in all or None); a bar on stderr where it is None.

    Returns:
        ``path``.

    Raises:
        DataError: no address gave the file, a file of that name is another one, or the folder cannot be written.
    """
    try:
        if path.exists():  # perhaps in a shared folder, where a lock file could not be made
            return _verified(path, checksum)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if path.exists():
                return _verified(path, checksum)
            reasons = []
            for url in urls:
                try:
                    with _reporting(path, url, progress) as report:
                        _obtain(url, path, checksum, report)
                    return path
                except _Failed as failure:
                    reasons.append(f"{url} ({failure})")
    except OSError as error:
        raise DataError(
            f"{path.parent}: cannot be written ({error.strerror or error}); "
            "make room, or set ODYSSEY_CACHE to a folder that can be"
        ) from error
    raise DataError(
        f"{path.name}: could not be downloaded from {' or '.join(reasons)}; put {path.name}"
        f"{f' or {instead}' if instead else ''} in {path.parent} by hand, point data.root at a folder that has the "
        "files, or train without the network: data=glyphs"
    )


def _verified(path: Path, checksum: str) -> Path:
    if (got := checksum_of(path, checksum)) != checksum:
        raise DataError(f"{path}: expected {_kind(checksum)} {checksum}, got {got}; delete it and run again")
    return path


def _obtain(url: str, path: Path, checksum: str, report: Progress) -> None:
    part = path.with_name(path.name + ".part")
    resumed = part.exists()
    _transfer(url, part, report)
    if (got := checksum_of(part, checksum)) == checksum:
        os.replace(part, path)
        return
    part.unlink()
    if not resumed:
        raise _Failed(f"expected {_kind(checksum)} {checksum}, got {got}")
    # The half that was there may have been of another file.
    _obtain(url, path, checksum, report)


def _transfer(url: str, part: Path, report: Progress) -> None:
    """Requests what is missing again and again until nothing is, or until a request brings nothing new."""
    while True:
        have = part.stat().st_size if part.exists() else 0
        try:
            _request(url, part, have, report)
            return
        except _Failed:
            if not part.exists() or part.stat().st_size <= have:
                raise


def _request(url: str, part: Path, have: int, report: Progress) -> None:
    import requests
    import urllib3

    # Without "identity" a server may send a .gz file as an encoding to be undone, and the digest would be another.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if have and answer.status_code == 416:  # nothing is missing; the digest will tell
                return
            if answer.status_code not in (200, 206):
                raise _Failed(f"HTTP {answer.status_code}")
            done = have if answer.status_code == 206 else 0
            length = answer.headers.get("Content-Length")
            total = done + int(length) if length else None
            with open(part, "ab" if done else "wb") as file:
                report(done, total)
                for chunk in answer.raw.stream(CHUNK, decode_content=False):
                    file.write(chunk)
                    done += len(chunk)
                    report(done, total)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _Failed(_reason(error)) from error
    if total is not None and done < total:
        raise _Failed(f"cut after {done:,} of {total:,} bytes")


def _reason(error: Exception) -> str:
    import requests
    import urllib3

    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "timed out"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate was not accepted"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return f"cut: {error}" if isinstance(error, urllib3.exceptions.HTTPError) else str(error)


def checksum_of(path: Path, like: str = "") -> str:
    """A file's checksum in hex, of the kind of another one; without one its SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, _kind(like).replace("-", "").lower()).hexdigest()


def _kind(checksum: str) -> str:
    return "MD5" if len(checksum) == 32 else "SHA-256"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock among processes, in a file beside a download."""
    with open(path.with_name(f".{path.name}.lock"), "wb") as file:
        lock(file.fileno())
        yield


@contextmanager
def _reporting(path: Path, url: str, progress: Progress | None) -> Iterator[Progress]:
    if progress is not None:
        yield progress
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    console.print(f"downloading {url} to {path}", soft_wrap=True, highlight=False, markup=False)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Bars(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(path.name, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
