"""An edited kernel takes effect at the next run, with the cache of the run before still there."""

import shutil
from pathlib import Path

import pytest

import odyssey_core
from odyssey_core.backends.numba import NumbaBackend, environment
from odyssey_core.data.cache import cache_folder
from odyssey_core.errors import ConfigError

RUN = """
import numpy as np
from odyssey_core import ops
from odyssey_core.backends import BACKENDS
from odyssey_core.backends.base import Feed

x = ops.input_("x", (1, 2))
executable = BACKENDS["numba"](threads=1).compile([ops.sigmoid(x)], {})
feed = Feed(order=np.zeros((1, 1), np.int64), inputs=np.array([[[0.0, 50.0]]]))
print(*executable.run(feed)[0, 0])
"""


SIGMOID = "return ONE / (ONE + exp(ZERO - x))"


@pytest.fixture
def copied(tmp_path):
    """A copy of the package with an empty cache: how a process is run with it, and the file of `SIGMOID`."""
    package = tmp_path / "odyssey_core"
    shutil.copytree(Path(odyssey_core.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    settings = {"package_root": tmp_path, "ODYSSEY_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    return settings | {"PYTHONDONTWRITEBYTECODE": "1"}, package / "backends" / "numba" / "elementary.py"


def test_an_edited_callee_takes_effect_at_the_next_run(copied, tmp_path, run_python):
    settings, callee = copied
    assert run_python(RUN, **settings) == "0.5 1.0"
    compiled = {path for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert compiled, "nothing was cached: the test would show nothing"
    before = callee.read_text()
    assert SIGMOID in before
    # As long as before, so that not even the file's size gives the edit away.
    callee.write_text(before.replace(SIGMOID, SIGMOID.replace("ONE /", "ONE *")))
    assert run_python(RUN, **settings) == "2.0 1.0"
    assert {path for path in (tmp_path / "cache").rglob("*") if path.is_file()} > compiled
    callee.write_text(before)
    assert run_python(RUN, **settings) == "0.5 1.0"


EDIT_AFTER_THE_IMPORT = """
import pathlib, sys, time
import odyssey_core.backends.numba.kernels

callee = pathlib.Path(odyssey_core.backends.numba.elementary.__file__)
time.sleep(0.05)  # more than a file system's clock is behind
callee.write_text(callee.read_text().replace("ONE / (ONE", "ONE * (ONE"))
"""


def test_what_was_imported_before_an_edit_is_not_kept_as_the_edited_source(copied, run_python):
    settings, _ = copied
    assert run_python(EDIT_AFTER_THE_IMPORT + RUN, **settings) == "0.5 1.0"
    assert run_python(RUN, **settings) == "2.0 1.0"


def test_a_container_without_a_home_keeps_its_kernels_in_the_temporary_folder(tmp_path, monkeypatch):
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("ODYSSEY_CACHE", raising=False)
    (folder,) = environment.cache_folders.__wrapped__()
    assert folder.parent.parent == tmp_path
    assert cache_folder() == folder.parent / "data"
    folder.parent.chmod(0o777)  # somebody else could have put code there
    (other,) = environment.cache_folders.__wrapped__()
    assert other.parent != folder.parent


@pytest.mark.parametrize("value", ["0", "x", "-1", "1.5"])
def test_a_number_of_threads_in_the_environment_that_is_none_is_one_line(monkeypatch, value):
    monkeypatch.setenv("NUMBA_NUM_THREADS", value)
    with pytest.raises(ConfigError, match=rf"^NUMBA_NUM_THREADS: expected an integer at least 1, got '{value}'$"):
        NumbaBackend()
