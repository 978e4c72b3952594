"""The uncompressed copy is used when it is right, and never otherwise."""

import os

import numpy as np
import pytest

from odyssey_core.data.cache import Reading, cache_folder, cached, room
from odyssey_core.data.dataset import Images
from odyssey_core.errors import DataError
from odyssey_core.files import atomic_file


class Builder:
    """Counts how often the data was built."""

    def __init__(self, fill=7):
        self.calls, self.fill = 0, fill

    def __call__(self):
        self.calls += 1
        part = Images(np.full((3, 1, 4, 4), self.fill, np.uint8), np.arange(3))
        return part, part, {"from": "test"}


def test_built_once_then_read(cache):
    builder = Builder()
    train, test, facts, digest = cached("toy", [1, "key"], builder)
    again = cached("toy", [1, "key"], builder)
    assert builder.calls == 1 and again[2:] == (facts, digest) and facts == {"from": "test"}
    assert np.array_equal(again[0].pixels, train.pixels) and np.array_equal(again[1].labels, test.labels)
    assert again[0].pixels.flags.c_contiguous and os.listdir(cache / "ready") == ["toy.raw"]


def test_another_key_rebuilds_and_replaces(cache):
    cached("toy", [1], Builder())
    builder = Builder(fill=9)
    assert cached("toy", [2], builder)[0].pixels[0, 0, 0, 0] == 9 and builder.calls == 1
    assert os.listdir(cache / "ready") == ["toy.raw"]


def test_every_truncation_rebuilds(cache):
    cached("toy", [1], Builder())
    path = cache / "ready" / "toy.raw"
    whole = path.read_bytes()
    for size in [*range(0, len(whole), 13), len(whole) - 1]:
        path.write_bytes(whole[:size])
        builder = Builder()
        assert (cached("toy", [1], builder)[0].pixels == 7).all() and builder.calls == 1
        assert path.read_bytes() == whole


@pytest.mark.parametrize("garbage", [b"", b"\n", b"PK\x03\x04", b"{}\n", b"x" * 1000])
def test_garbage_rebuilds(cache, garbage):
    cached("toy", [1], Builder())
    (cache / "ready" / "toy.raw").write_bytes(garbage)
    builder = Builder()
    cached("toy", [1], builder)
    assert builder.calls == 1


def test_every_changed_byte_is_noticed(cache):
    cached("toy", [1], Builder())
    path = cache / "ready" / "toy.raw"
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        builder = Builder()
        cached("toy", [1], builder)
        assert builder.calls == 1


def test_bytes_after_the_end_rebuild(cache):
    cached("toy", [1], Builder())
    with open(cache / "ready" / "toy.raw", "ab") as file:
        file.write(b"x")
    builder = Builder()
    cached("toy", [1], builder)
    assert builder.calls == 1


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("ODYSSEY_CACHE", str(tmp_path / "file"))
    builder = Builder()
    assert (cached("toy", [1], builder)[0].pixels == 7).all()
    cached("toy", [1], builder)
    assert builder.calls == 2 and (tmp_path / "file").read_text() == "in the way"


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    (tmp_path / "f").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_file(tmp_path / "f") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert (tmp_path / "f").read_text() == "old" and os.listdir(tmp_path) == ["f"]


def test_folder(monkeypatch):
    monkeypatch.delenv("ODYSSEY_CACHE")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(cache_folder()) == "/home/somebody/.cache/ml-odyssey/data"


def test_what_is_too_large_for_memory_stays_in_files(cache, monkeypatch):
    expected = cached("toy", [1], Builder())
    monkeypatch.setattr("odyssey_core.data.cache.usable_memory", lambda: 64)  # the pixels are 48 bytes
    for builder in (Builder(), Builder()):
        train, test, _, digest = cached("toy", [1], builder)
        assert builder.calls == 0 and digest == expected[3] and np.array_equal(train.pixels, expected[0].pixels)
        assert isinstance(train.pixels.base, np.memmap) and np.array_equal(test.labels, np.arange(3))
    filled = room((3, 1, 4, 4))
    filled[...] = 5
    assert isinstance(filled.base, np.memmap) and (filled == 5).all() and os.listdir(cache / "ready") == ["toy.raw"]
    assert room((2, 2)).base is None


def test_no_room_on_the_disk(cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("odyssey_core.data.cache.usable_memory", lambda: 64)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        DataError, match=r"ready: no room for .* GiB of pixels, .*No space left on device.*ODYSSEY_CACHE"
    ):
        room((3, 1, 4, 4))


def test_a_copy_that_is_read_ahead_is_used_for_its_key_alone(cache):
    first = cached("toy", [1], Builder())
    builder, begun = Builder(fill=9), Reading("toy")
    assert cached("toy", [1], builder, begun)[3] == first[3] and builder.calls == 0
    assert begun.take() is None, "nothing is held twice"
    begun = Reading("toy")
    assert (cached("toy", [2], builder, begun)[0].pixels == 9).all() and builder.calls == 1 and begun.take() is None
    path = cache / "ready" / "toy.raw"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    cached("toy", [2], builder, Reading("toy"))
    cached("none", [1], builder, Reading("none"))
    assert builder.calls == 3
