"""How compiled kernels reach a process: from the cache, whole, and without what only compiling needs."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from odyssey_core.backends.numba import environment

# An operation made from another jitted function, and the parallel loop.
RUN = """
import logging, sys
import numpy as np
from odyssey_core import ops
from odyssey_core.backends import BACKENDS
from odyssey_core.backends.base import Feed

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
backend = BACKENDS["numba"]
assert "numba" not in sys.modules
x = ops.input_("x", (64, 2))
executable = backend(threads=2).compile([ops.sigmoid(x)], {})
inputs = np.linspace(-4, 4, 128).reshape(1, 64, 2)
out = executable.run(Feed(order=np.zeros((1, 64), np.int64), inputs=inputs))
if any(name in sys.modules for name in ("scipy.linalg", "numba.np.arraymath")):
    print("with numba's declarations")
print(out.astype("<f4").tobytes().hex())
"""


def kernels(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def run(run_python, tmp_path):
    def run(cache: Path | str, script: str = RUN) -> list[str]:
        temporary = tmp_path / "tmp"
        temporary.mkdir(exist_ok=True)
        return run_python(script, ODYSSEY_CACHE=str(cache), TMPDIR=str(temporary)).splitlines()

    return run


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A filled cache and what the run that filled it printed."""
    folder = tmp_path_factory.mktemp("filled")
    command = [sys.executable, "-c", RUN]
    # Kernels of this source may lie in the temporary folder of the machine.
    apart = {"ODYSSEY_CACHE": str(folder), "TMPDIR": str(tmp_path_factory.mktemp("tmp"))}
    done = subprocess.run(command, env=os.environ | apart, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout.splitlines()


def test_a_kernel_is_compiled_once_and_then_loaded_without_numbas_declarations(filled, run):
    folder, cold = filled
    before = kernels(folder)
    assert cold[0] == "compiling kernels for this CPU, once: up to 20 seconds, then they are kept in " + str(
        folder / "kernels" / environment.source_digest()[:16]
    )
    assert cold[1] == "with numba's declarations"
    assert run(folder) == cold[2:]
    assert kernels(folder) == before


def test_a_filled_read_only_folder_is_used(filled, run):
    folder, cold = filled
    forbid = "import os\ndef replace(*a): raise AssertionError('written')\nos.replace = replace\n"
    assert run(folder, forbid + RUN) == cold[2:]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that even root cannot write")
def test_where_the_folder_cannot_be_written_a_temporary_one_is(filled, run, tmp_path):
    _, cold = filled
    out = run("/proc/self/nowhere")
    assert out[-1] == cold[-1]
    private = tmp_path / "tmp" / f"ml-odyssey-{os.getuid()}"
    assert kernels(private)
    assert private.stat().st_mode & 0o077 == 0
    assert run("/proc/self/nowhere") == cold[2:]


NO_TEMPORARY_FOLDER = """
import tempfile

def nowhere():
    raise FileNotFoundError(2, "No usable temporary directory found")

tempfile._get_default_tempdir = nowhere
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that even root cannot write")
def test_a_container_that_cannot_write_anywhere_compiles_or_reads(filled, run):
    folder, cold = filled
    assert run(folder, NO_TEMPORARY_FOLDER + RUN) == cold[2:]
    compiled = run("/proc/self/nowhere", NO_TEMPORARY_FOLDER + RUN)
    assert compiled[-1] == cold[-1]
    home_only = 'import os\ndel os.environ["ODYSSEY_CACHE"]\nos.environ["HOME"] = "/proc/self"\n'
    assert run(folder, home_only + NO_TEMPORARY_FOLDER + RUN)[-1] == cold[-1]


def test_a_temporary_folder_of_somebody_elses_is_not_trusted(run, tmp_path):
    private = tmp_path / "tmp" / f"ml-odyssey-{os.getuid()}"
    private.mkdir(parents=True)
    private.chmod(0o777)
    run("/proc/self/nowhere")
    assert not kernels(private)


def test_a_damaged_kernel_is_compiled_again(filled, run):
    folder, cold = filled
    before = kernels(folder)
    for path in folder.rglob("sigmoid_of-*"):
        path.write_bytes(path.read_bytes()[:-100] + bytes(100))
    assert run(folder)[-1] == cold[-1]
    assert kernels(folder).keys() == before.keys()
    assert run(folder) == cold[2:]


def test_two_processes_that_compile_at_once(filled, run, tmp_path):
    _, cold = filled
    environment = {**os.environ, "ODYSSEY_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", RUN]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=120)[0].splitlines()[-1] for process in both] == [cold[-1]] * 2
    assert run(tmp_path / "cache") == cold[2:]
    assert not [name for name in kernels(tmp_path / "cache") if name.startswith(".")]


def test_kernels_of_other_sources_are_pruned(tmp_path):
    days = 86_400
    for i in range(40):
        folder = tmp_path / f"source{i}"
        folder.mkdir()
        (folder / "kernel").write_bytes(b"")
        age = 31 * days if i == 3 else i
        os.utime(folder, (time.time() - age,) * 2)
    environment.prune(tmp_path / "source39")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"source{i}" for i in range(33) if i != 3} | {"source39"}
