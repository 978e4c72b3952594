"""Arrays in NumPy's files, read a stretch at a time: no object is ever made of what they say."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from odyssey_core import lazy_numpy as np
from odyssey_core.errors import DataError

CHUNK = 1 << 22  # bytes


class Array(NamedTuple):
    """What the header of an array says, and where its elements come from."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    elements: IO[bytes]


def names_in(path: Path) -> list[str]:
    """The arrays of an NPZ file.

    Raises:
        DataError: it is none.
    """
    try:
        with zipfile.ZipFile(path) as packed:
            return [name.removesuffix(".npy") for name in packed.namelist() if name.endswith(".npy")]
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: expected an NPZ file, got {getattr(error, 'strerror', None) or error}") from None


@contextmanager
def opened(path: Path, name: str) -> Iterator[Array]:
    """An array of an NPZ file, its header read.

    Raises:
        DataError: no such file or array, one of Python objects, or a damaged one.
    """
    try:
        with zipfile.ZipFile(path) as packed, packed.open(f"{name}.npy") as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = header(file)
            if dtype.hasobject:
                raise DataError(
                    f"{path}: {name} holds Python objects, which are a pickle and may run anything; save numbers with "
                    "np.savez"
                )
            needed, there = math.prod(shape) * dtype.itemsize, packed.getinfo(f"{name}.npy").file_size
            if needed > there:  # else so much memory would be asked for
                raise ValueError(f"its header states {needed:,} bytes, it has {there:,}")
            yield Array(shape, dtype, fortran, file)
    except KeyError:
        raise DataError(f"{path}: expected the array {name}, got {', '.join(names_in(path)) or 'none'}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: {name} cannot be read ({error}); is the file whole?") from None


def read_npy(path: Path, name: str) -> np.ndarray:
    """An array of an NPZ file.

    Raises:
        DataError: as `opened` does.
    """
    with opened(path, name) as array:
        out = np.empty(math.prod(array.shape), array.dtype)
        view = out.view(np.uint8)
        for start in range(0, len(view), CHUNK):
            view[start : start + CHUNK] = np.frombuffer(_exactly(array, min(CHUNK, len(view) - start)), np.uint8)
    return out.reshape(array.shape[::-1]).T if array.fortran else out.reshape(array.shape)


def rows(array: Array, count: int) -> Iterator[np.ndarray]:
    """An array's leading axis in stretches of ``count``.

    Raises:
        ValueError: it ends too soon, or lies column by column.
    """
    if array.fortran and len(array.shape) > 1:
        raise ValueError("it is in Fortran's order; save np.ascontiguousarray of it")
    each = math.prod(array.shape[1:])
    for start in range(0, array.shape[0], count):
        number = min(count, array.shape[0] - start)
        content = _exactly(array, number * each * array.dtype.itemsize)
        yield np.frombuffer(content, array.dtype).reshape(number, *array.shape[1:])


def _exactly(array: Array, size: int) -> bytes:
    content = array.elements.read(size)
    if len(content) != size:
        raise ValueError(f"it ends {size - len(content):,} bytes too soon")
    return content
