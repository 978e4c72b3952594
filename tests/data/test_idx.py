"""The IDX parser takes whole files and nothing else."""

import gzip
import struct
from itertools import pairwise

import numpy as np
import pytest
from idx_files import idx_bytes

from odyssey_core.data.idx import read_idx
from odyssey_core.errors import DataError

IMAGES = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
GOOD = idx_bytes(IMAGES)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_reads_what_was_written(tmp_path, pack):
    (tmp_path / "f").write_bytes(pack(GOOD))
    array = read_idx(tmp_path / "f", rank=3)
    assert array.dtype == np.uint8 and np.array_equal(array, IMAGES)


def test_a_file_of_several_chunks(tmp_path):
    big = np.random.default_rng(0).integers(0, 256, (300, 28, 28), np.uint8)
    (tmp_path / "f").write_bytes(gzip.compress(idx_bytes(big)))
    assert np.array_equal(read_idx(tmp_path / "f", rank=3), big)


def test_a_gzip_file_of_several_members(tmp_path):
    for cuts in ((3,), (20, 25), (16,)):
        edges = [0, *cuts, len(GOOD)]
        members = [gzip.compress(GOOD[a:b]) for a, b in pairwise(edges)]
        (tmp_path / "f").write_bytes(b"".join(members))
        assert np.array_equal(read_idx(tmp_path / "f", rank=3), IMAGES)
    (tmp_path / "f").write_bytes(b"".join(members)[:-9])
    with pytest.raises(DataError, match="expected a whole gzip file"):
        read_idx(tmp_path / "f", rank=3)


def test_labels_of_qmnist_are_a_good_file_of_another_kind(tmp_path):
    (tmp_path / "labels").write_bytes(struct.pack(">BBBB2I2i", 0, 0, 0x0C, 2, 1, 2, 7, -70_000))
    with pytest.raises(DataError, match="these are labels of QMNIST, which data=qmnist reads") as caught:
        read_idx(tmp_path / "labels", rank=1)
    assert "delete it" not in str(caught.value)
    assert read_idx(tmp_path / "labels", rank=2, element="int32").tolist() == [[7, -70_000]]
    with pytest.raises(DataError, match=r"expected IDX elements of type 0x0c \(int32\), got 0x08"):
        (tmp_path / "f").write_bytes(GOOD)
        read_idx(tmp_path / "f", rank=3, element="int32")


def flipped(packed, at):
    return packed[:at] + bytes([packed[at] ^ 0xFF]) + packed[at + 1 :]


PACKED = gzip.compress(GOOD)
BAD = {
    "empty": (b"", r"expected an IDX file \(it starts 00 00\), got nothing"),
    "a web page": (b"<!DOCTYPE html>", r"expected an IDX file \(it starts 00 00\), got 3c 21 44 4f"),
    "float elements": (GOOD[:2] + b"\x0d" + GOOD[3:], r"type 0x08 \(uint8\), got 0x0d"),
    "labels for images": (idx_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9]), r"expected 3 dimensions, got 1; .*swapped\?"),
    "half a header": (GOOD[:9], r"expected a header of 16 bytes, got 9"),
    "one byte missing": (GOOD[:-1], r"expected 30 bytes of data for shape \(2, 3, 5\), got 29"),
    "one byte more": (GOOD + b"x", r"expected 30 bytes of data for shape \(2, 3, 5\), got 31"),
    "packed, one byte missing": (gzip.compress(GOOD[:-1]), r"expected 30 bytes of data .* got 29"),
    "gzip cut short": (PACKED[:-9], r"expected a whole gzip file, got one cut short at \d+ bytes"),
    "gzip checksum cut off": (PACKED[:-8], r"expected a whole gzip file, got one cut short"),
    "gzip checksum wrong": (flipped(PACKED, -6), r"expected a sound gzip file, got damaged data .*check"),
    "gzip length wrong": (PACKED[:-4] + b"\0\0\0\1", r"expected a sound gzip file, got damaged data .*length"),
    "bytes after gzip": (PACKED + b"x", r"expected the end of the gzip stream, got further bytes"),
    "impossible shape": (GOOD[:4] + b"\xff" * 12, r"impossible shape \(4294967295, 4294967295, 4294967295\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses(tmp_path, case):
    content, message = BAD[case]
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, rank=3)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    if "swapped" not in message:
        assert "delete it and run again, or point data.root" in str(caught.value)


def test_every_truncation_is_refused(tmp_path):
    for size in range(len(PACKED)):
        (tmp_path / "f").write_bytes(PACKED[:size])
        with pytest.raises(DataError):
            read_idx(tmp_path / "f", rank=3)


def test_unreadable(tmp_path):
    with pytest.raises(DataError, match=r"nothing: cannot be read \(No such file or directory\); delete it"):
        read_idx(tmp_path / "nothing", rank=1)
