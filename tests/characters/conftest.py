"""A cache folder for every test."""

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("ODYSSEY_CACHE", str(tmp_path / "cache"))
