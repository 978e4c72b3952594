"""Fixtures and paths that the tests of several packages share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import odyssey_core

REAL = Path(os.environ.get("ODYSSEY_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture
def run_python():
    """Runs a script in a fresh interpreter that finds this odyssey_core; returns its standard output, stripped."""

    def run(script: str, *arguments: str, package_root: Path | None = None, **environment: str) -> str:
        path = str(package_root or Path(odyssey_core.__file__).parents[1])
        done = subprocess.run(
            [sys.executable, "-P", "-W", "error", "-c", script, *arguments],
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture(scope="session")
def real():
    """real("emnist") is the folder of the real files; skips the test where there is none."""

    def folder(name):
        if not (REAL / name).is_dir():
            pytest.skip(f"no {REAL / name}; set ODYSSEY_TEST_DATA to a folder with emnist/ and mnist/")
        return REAL / name

    return folder
