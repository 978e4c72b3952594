"""The digest of the code covers every module that can change a result."""

import ast
import json
import shutil
import sys
from pathlib import Path

import pytest
from quick import QUICK

import odyssey_core
from odyssey_run import api
from odyssey_run.config import sources

# What reads the command line hands a configuration over, which is recorded; it is covered all the same.
LOADED = """
import json, sys
from odyssey_run.config.request import check
from odyssey_run.training import train
train.run(check(json.loads(sys.argv[1])))
print(json.dumps([name for name in sys.modules if name.partition(".")[0] in ("odyssey_core", "odyssey_run")]))
"""


def parsed(text: str) -> set[str]:
    """Every name that the parser finds imported."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import would be passed over"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def file(name: str) -> Path | None:
    """The file of a module of the program; None where there is none of that name."""
    package, *rest = name.split(".")
    place = sources.PACKAGES.get(package, Path("nowhere")).joinpath(*rest)
    return next((p for p in (place / "__init__.py", place.with_suffix(".py")) if p.is_file()), None)


def test_what_the_parser_finds_is_covered():
    modules = sources.modules()
    for name, content in modules.items():
        imported = {other for other in parsed(content.decode()) if file(other)}
        assert imported <= modules.keys(), name


def test_what_training_loads_is_covered(run_python, tmp_path):
    config = api.compose(*QUICK, "backend=numba", "plots.enabled=true", f"run.dir={tmp_path / 'run'}").config
    loaded = set(json.loads(run_python(LOADED, json.dumps(config)).splitlines()[-1]))
    assert {"odyssey_run.training.train", "odyssey_core.backends.numba.kernels.conv"} <= loaded
    assert loaded - {"odyssey_run.conf"} <= sources.modules().keys()


@pytest.mark.parametrize(
    "file", ["odyssey_run/training/train.py", "odyssey_core/data/mnist.py", "odyssey_run/training/resume.py"]
)
def test_a_changed_line_is_another_digest(run_python, tmp_path, file):
    root = sources.PACKAGES["odyssey_run"].parent
    for package in sources.PACKAGES:
        shutil.copytree(root / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "conf"))
    script = "from odyssey_run.config import sources; print(sources.digest())"
    assert run_python(script, package_root=tmp_path) == sources.digest()
    (tmp_path / file).write_text((tmp_path / file).read_text() + "\n# lr * 3\n")
    assert run_python(script, package_root=tmp_path) != sources.digest()


def test_what_decides_no_result_is_not_covered():
    """Else nobody could go on with a run after a change to what verifies or serves it."""
    for name in (
        "odyssey_run.tasks.verify",
        "odyssey_run.tracking.serving",
        "odyssey_run.tasks.benchmark.measure",
        "odyssey_run.tasks.ui",
    ):
        assert name not in sources.modules()
        assert file(name)
    assert odyssey_core.__name__ in sources.modules()
    assert sys.modules["odyssey_run.config.sources"] is sources
