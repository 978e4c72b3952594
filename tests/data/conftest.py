"""A cache folder for every test, and where the real data is, if anywhere."""

import os
from pathlib import Path

import pytest

REAL = Path(os.environ.get("ODYSSEY_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and no proxy between the tests and loopback."""
    monkeypatch.setenv("ODYSSEY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def real():
    """real("emnist") is the folder of the real files; skips the test where there is none."""

    def folder(name):
        if not (REAL / name).is_dir():
            pytest.skip(f"no {REAL / name}; set ODYSSEY_TEST_DATA to a folder with emnist/ and mnist/")
        return REAL / name

    return folder
