"""The cache folder: downloaded files, and uncompressed copies that load in a tenth of the time of the originals.

An uncompressed copy is one line of JSON with its own SHA-256 in front, then the bytes of the pixels and labels of train
and of test. It is only believed when its key is the one asked for and its content has the digest it names. Pixels that
would fill more than half of the memory stay in the file, of which the system holds in memory what is being used.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from odyssey_core import lazy_numpy as np
from odyssey_core.data.dataset import Images, digest_of
from odyssey_core.errors import DataError
from odyssey_core.files import atomic_file
from odyssey_core.machine import usable_memory
from odyssey_core.places import cache_home

FORMAT = 1
Copy = tuple[object, Images, Images, dict[str, Any], str]  # key, training and test images, facts, digest
READ_AHEAD = 1 << 30  # bytes of a copy at most that are read before it is known whether it is the right one


def cache_folder() -> Path:
    """``$ODYSSEY_CACHE``, or ``~/.cache/ml-odyssey/data``; not created here."""
    return (cache_home() if os.environ.get("ODYSSEY_CACHE") else cache_home() / "data").absolute()


def room(shape: tuple[int, ...]) -> np.ndarray:
    """A uint8 array to be filled, C-contiguous: in memory, or where it is too large for that in a file without a name.

    Raises:
        DataError: the cache folder's disk has no room for it.
    """
    if not _too_large(shape):
        return np.empty(shape, np.uint8)
    folder, size = cache_folder() / "ready", math.prod(shape)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a page that finds no room later would end the program
            return np.asarray(np.memmap(file, np.uint8, "r+", shape=shape))
    except OSError as error:
        raise DataError(
            f"{folder}: no room for {size / 2**30:,.1f} GiB of pixels, more than half of the memory "
            f"({error.strerror or error}); make room, or set ODYSSEY_CACHE elsewhere"
        ) from error


def _too_large(shape: Sequence[int]) -> bool:
    return math.prod(shape) > usable_memory() // 2


class Reading:
    """Reads a copy while it is being found out what its key must be.

    Args:
        name: as `cached` takes it.
    """

    def __init__(self, name: str):
        self._path = _copy(name)
        self._found: Copy | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError, ValueError, DataError):
            if self._path.stat().st_size < READ_AHEAD:
                self._found = _read(self._path)

    def take(self) -> Copy | None:
        """What was read, once: a copy that is not the right one must not stay beside what is built instead."""
        self._thread.join()
        found, self._found = self._found, None
        return found


def cached(
    name: str,
    key: object,
    build: Callable[[], tuple[Images, Images, dict[str, Any]]],
    begun: Reading | None = None,
) -> tuple[Images, Images, dict[str, Any], str]:
    """Builds a train and a test set, or reads the copy kept when they were last built for the same key.

    Args:
        name: the copy's file name in the cache folder, less its suffix.
        key: what the data depends on, as JSON can hold it: paths, sizes, modification times, versions.
        build: makes train, test, and a small dictionary of facts that JSON can hold.
        begun: a copy of this name that is being read.

    Returns:
        train, test, the facts, and the digest of the data as read (recomputed on every call).
    """
    path, key = _copy(name), json.loads(json.dumps([FORMAT, key]))
    with suppress(OSError, ValueError, DataError):
        found = begun.take() if begun else None
        if found is None or found[0] != key:
            found = None
            found = _read(path, key)
        return found[1:]
    train, test, facts = build()
    digest = digest_of(train, test)
    # A cache that cannot be written (read-only home, full disk) costs time at the next run and nothing else.
    with suppress(OSError):
        _write(path, {"key": key, "facts": facts, "digest": digest}, train, test)
    return train, test, facts, digest


def _copy(name: str) -> Path:
    return cache_folder() / "ready" / f"{name}.raw"


def _read(path: Path, key: object = None) -> Copy:
    """Key, train, test, facts and digest of a copy; of one for the given key alone, where there is one."""
    with open(path, "rb") as file:
        check, _, text = file.readline().partition(b" ")
        if check != hashlib.sha256(text).hexdigest().encode():
            raise ValueError("not a copy, or one with a damaged header")
        header = json.loads(text)
        if key is not None and header["key"] != key:
            raise ValueError("made for another key")
        train, test = (
            Images(_array(file, shape, np.uint8), _array(file, shape[:1], np.int64)) for shape in header["shapes"]
        )
        if file.read(1) or digest_of(train, test) != header["digest"]:
            raise ValueError("damaged content")
    return header["key"], train, test, header["facts"], header["digest"]


def _array(file: BinaryIO, shape: list[int], dtype: type) -> np.ndarray:
    if not _too_large(shape):
        return np.fromfile(file, dtype, math.prod(shape)).reshape(shape)
    start = file.tell()
    mapped = np.memmap(file, dtype, "r", start, tuple(shape))
    file.seek(start + mapped.nbytes)
    return np.asarray(mapped)


def _write(path: Path, header: dict[str, Any], train: Images, test: Images) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(header | {"shapes": [train.pixels.shape, test.pixels.shape]}).encode() + b"\n"
    with atomic_file(path, durable=False) as file:
        file.write(hashlib.sha256(text).hexdigest().encode() + b" " + text)
        for array in (train.pixels, train.labels, test.pixels, test.labels):
            file.write(array.reshape(-1).view(np.uint8).data)
