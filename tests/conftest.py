"""Fixtures and paths that the tests of several packages share."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import odyssey_core


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
