"""The IDX format of MNIST and EMNIST, gzipped or plain.

Source: LeCun, Cortes, Burges, "The MNIST database", file formats: two zero bytes, a dtype byte (8 is uint8), the
rank, one big-endian uint32 a dimension, then the elements in row-major order. A gzip file may have several members, one
after the other, which together are the content (RFC 1952, section 2.2).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from odyssey_core import lazy_numpy as np
from odyssey_core.errors import DataError

ELEMENTS = {"uint8": 0x08, "int32": 0x0C}
QMNIST = b"\x0c\x02"  # int32, rows and columns: its labels
CHUNK = 1 << 16
REMEDY = "delete it and run again, or point data.root at a folder with good files"


def read_idx(path: Path, rank: int, element: Literal["uint8", "int32"] = "uint8") -> np.ndarray:
    """Reads a whole IDX file, and nothing but a whole one.

    Args:
        path: the file; gzip is recognised by its first two bytes, not by its name.
        rank: dimensions expected: 3 for images, 1 for labels.
        element: type expected.

    Returns:
        The elements in the file's dimensions; int32 in the file's byte order.

    Raises:
        DataError: a file that cannot be read, is no IDX, has another dtype or rank, is damaged, too short or too long.
    """
    try:
        with open(path, "rb") as file:
            parts = _inflate(path, file) if file.peek(2)[:2] == b"\x1f\x8b" else _plain(file)
            return _fill(path, rank, element, parts)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); {REMEDY}") from error


def _plain(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def _inflate(path: Path, file: BinaryIO) -> Iterator[bytes]:
    inflater = zlib.decompressobj(31)
    for chunk in _plain(file):
        while chunk:
            if inflater.eof:
                if not chunk.startswith(b"\x1f"):
                    raise DataError(f"{path}: expected the end of the gzip stream, got further bytes; {REMEDY}")
                inflater = zlib.decompressobj(31)
            try:
                yield inflater.decompress(chunk)
            except zlib.error as error:
                raise DataError(f"{path}: expected a sound gzip file, got damaged data ({error}); {REMEDY}") from error
            chunk = inflater.unused_data
    if not inflater.eof:
        raise DataError(f"{path}: expected a whole gzip file, got one cut short at {file.tell():,} bytes; {REMEDY}")


def _fill(path: Path, rank: int, element: str, parts: Iterator[bytes]) -> np.ndarray:
    """The array is allocated once and filled piecewise: joining the pieces would double the peak memory."""
    head, header_size = b"", 4 + 4 * rank
    while len(head) < header_size and (part := next(parts, None)) is not None:
        head += part
    shape = _shape(path, rank, element, head[:header_size])
    kind = np.dtype(element).newbyteorder(">")
    wanted = math.prod(shape) * kind.itemsize
    # A header may ask for terabytes; empty() only reserves, and memory is touched as data arrives.
    try:
        array = np.empty(wanted, np.uint8)
    except (MemoryError, OverflowError, ValueError) as error:
        raise DataError(f"{path}: its header asks for an impossible shape {shape}; {REMEDY}") from error
    got, part = 0, head[header_size:]
    while part is not None:
        if got + len(part) <= wanted:
            array[got : got + len(part)] = np.frombuffer(part, np.uint8)
        got += len(part)
        part = next(parts, None)
    if got != wanted:
        raise DataError(f"{path}: expected {wanted:,} bytes of data for shape {shape}, got {got:,}; {REMEDY}")
    return array.view(kind).reshape(shape)


def _shape(path: Path, rank: int, element: str, header: bytes) -> tuple[int, ...]:
    if len(header) < 4 or header[:2] != b"\0\0":
        got = header[:4].hex(" ") or "nothing"
        raise DataError(f"{path}: expected an IDX file (it starts 00 00), got {got}; {REMEDY}")
    if header[2] != ELEMENTS[element]:
        qmnist = "; these are labels of QMNIST, which data=qmnist reads"
        raise DataError(
            f"{path}: expected IDX elements of type 0x{ELEMENTS[element]:02x} ({element}), got 0x{header[2]:02x}"
            f"{qmnist if rank == 1 and header[2:4] == QMNIST else f'; {REMEDY}'}"
        )
    if header[3] != rank:
        raise DataError(
            f"{path}: expected {rank} dimension{'s' * (rank > 1)}, got {header[3]}; are image and label files swapped?"
        )
    if len(header) < 4 + 4 * rank:
        raise DataError(f"{path}: expected a header of {4 + 4 * rank} bytes, got {len(header)}; {REMEDY}")
    return struct.unpack(f">{rank}I", header[4:])
