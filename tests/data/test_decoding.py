"""Pictures decoded by several processes are those that one decodes."""

import numpy as np
import pytest
from picture_files import truncated
from PIL import Image

from odyssey_core import child_process
from odyssey_core.data import decoding


@pytest.fixture
def files(tmp_path):
    """30 pictures of noise in two sizes, of which two cannot be read."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i:02d}.png" for i in range(30)]
    for i, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (9 if i == 11 else 8, 8, 3), np.uint8)).save(path)
    truncated(paths[5])
    paths[17].write_bytes(b"no image")
    return list(map(str, paths))


def decoded(files, mode):
    pixels = np.zeros((len(files), 3, 8, 8), np.uint8)
    faults = decoding.decode(files, pixels, mode)
    pixels[[*faults.broken, *faults.other_size]] = 0
    return pixels, faults


@pytest.fixture
def workers(monkeypatch):
    monkeypatch.setattr(decoding, "usable_cores", lambda: 3)
    monkeypatch.setattr(decoding, "WORTH_A_WORKER", 1)
    for name in ("HERE", "THERE", "LEAST"):
        monkeypatch.setattr(decoding, name, 2)


@pytest.mark.parametrize("pipe", [0, 1 << 14])
@pytest.mark.parametrize("mode", [None, "resize"])
def test_workers_find_the_same(files, mode, pipe, workers, monkeypatch):
    monkeypatch.setattr(decoding, "PIPE", pipe)
    monkeypatch.setattr(decoding, "usable_cores", lambda: 1)
    alone = decoded(files, mode)
    monkeypatch.setattr(decoding, "usable_cores", lambda: 3)
    monkeypatch.setattr(decoding, "_chunk", _slowly(decoding._chunk))  # so that the workers get some of it
    together = decoded(files, mode)
    assert np.array_equal(alone[0], together[0]) and alone[1] == together[1]
    assert (
        sorted(alone[1].broken) == [5, 17]
        and alone[1].broken[17] == "is not an image that can be read (PNG, JPEG, ...)"
    )
    assert alone[1].other_size == ({11: (9, 8)} if mode is None else {})
    assert all(np.array_equal(alone[0][i].transpose(1, 2, 0), np.asarray(Image.open(files[i]))) for i in (0, 12, 29))


def test_what_a_dead_worker_was_given_is_decoded_all_the_same(files, workers, monkeypatch):
    expected = decoded(files, "resize")
    monkeypatch.setattr(child_process, "START", "raise SystemExit")
    found = decoded(files, "resize")
    assert np.array_equal(found[0], expected[0]) and found[1] == expected[1]


def test_progress_counts_every_picture(files, workers):
    counted = []
    decoding.decode(files, np.zeros((30, 3, 8, 8), np.uint8), "pad", counted.append)
    assert sum(counted) == 30


def _slowly(function):
    import time

    def wrapped(*arguments):
        time.sleep(0.05)
        return function(*arguments)

    return wrapped
