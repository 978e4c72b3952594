"""Imports go downward only."""

import ast
import gzip
from pathlib import Path

import numpy as np
import pytest
from idx_files import idx_bytes

import odyssey_core

ROOT = Path(odyssey_core.__file__).parent
RUNNER_ONLY = {"hydra", "omegaconf", "mlflow", "odyssey_run"}
# What each part of the core may import of the others; a part not named may import nothing above the foundations.
FOUNDATIONS = {
    "errors", "fitting", "lazy_numpy", "machine", "places", "ranges", "registry", "random", "arithmetic", "tensor",
    "initial", "whitening",
}  # fmt: skip
ALLOWED = {
    "errors": set(),
    "registry": {"errors"},
    "register": {"registry"},
    "ranges": {"errors"},
    "fitting": {"ranges"},
    "places": set(),
    "files": set(),
    "child_process": set(),
    "machine": set(),
    "lazy_numpy": set(),
    "random": {"lazy_numpy"},
    "arithmetic": {"lazy_numpy"},
    "eigen": {"lazy_numpy"},
    "whitening": {"eigen", "lazy_numpy", "tensor"},
    "initial": {"lazy_numpy", "random", "tensor", "whitening"},
    "tensor": {"errors", "ops"},  # Tensor's operators import ops when they are used
    "checkpoint": {"errors", "files"},
    "ops": FOUNDATIONS,
    "autodiff": FOUNDATIONS | {"ops"},
    "flops": {"tensor"},
    "counterparts": FOUNDATIONS | {"ops"},
    "optim": FOUNDATIONS,
    "nn": FOUNDATIONS | {"ops"},
    "losses": FOUNDATIONS | {"ops"},
    "stored": FOUNDATIONS | {"nn", "ops", "losses"},
    "models": FOUNDATIONS | {"nn", "ops"},
    "views": {"ops", "tensor"},
    "backends": FOUNDATIONS | {"ops", "optim", "backends", "files", "child_process"},
    "data": FOUNDATIONS - {"arithmetic", "fitting", "initial", "tensor", "whitening"}
    | {"checkpoint", "files", "child_process"},
    "inference": FOUNDATIONS | {"losses", "ops", "backends", "data", "nn", "views"},
    "classifier": FOUNDATIONS | {"losses", "inference", "backends", "checkpoint", "data", "models", "stored", "views"},
    "testing": FOUNDATIONS | {"losses", "learner", "ops", "autodiff", "backends", "data", "nn", "optim", "checkpoint"},
    "learner": FOUNDATIONS | {"losses", "inference", "ops", "autodiff", "backends", "data", "nn", "optim", "views"},
}
# A kernel may build on another one's shapes and loops; its rule reads the nodes that it lowers.
KERNELS = {
    "traced", "vector", "memory", "register_tile", "register_patch", "winograd_tile", "instruction", "elementary",
    "random", "step_feed", "lower", "lower_single", "operands", "kernels",
}  # fmt: skip
FILES = sorted(ROOT.rglob("*.py"))


def _imports(path: Path) -> set[str]:
    """Full names of everything a file imports; ``from a import b`` counts as ``a`` and ``a.b``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _part(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_every_part_is_known():
    parts = {_part(path) for path in FILES} - {"__init__"}
    assert parts == set(ALLOWED)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downward(path):
    imports = _imports(path)
    assert not {name.partition(".")[0] for name in imports} & RUNNER_ONLY
    ours = {name.split(".")[1] for name in imports if name.startswith("odyssey_core.")} & set(ALLOWED)
    part = _part(path)
    if part != "__init__":
        assert ours <= ALLOWED[part] | {part}


def test_the_tensor_reaches_up_only_inside_its_operators():
    tree = ast.parse((ROOT / "tensor.py").read_text())
    top = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert "odyssey_core.ops" not in top


@pytest.mark.parametrize("path", sorted((ROOT / "backends/numba/kernels").glob("*.py")), ids=lambda p: p.name)
def test_kernels_know_vectors_and_the_graph_alone(path):
    for name in _imports(path):
        if name.startswith("odyssey_core.backends"):
            inside = name.removeprefix("odyssey_core.backends.numba").strip(".")
            assert not inside or inside.partition(".")[0] in KERNELS, name
        elif name.startswith("odyssey_core."):
            assert name.split(".")[1] in {"ops", "tensor", "optim"}, name
        else:
            assert name.partition(".")[0] in {
                "numba",
                "numpy",
                "math",
                "typing",
                "collections",
                "functools",
                "itertools",
            }, name


@pytest.mark.parametrize("path", sorted((ROOT / "backends/numba/kernels").glob("*.py")), ids=lambda p: p.name)
def test_kernels_name_their_arguments(path):
    """Nothing is read from a row by its column's number, nor looked up by the name of an operation."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            assert node.value.id != "row"
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            named = any(isinstance(x, ast.Attribute) and ast.unparse(x).endswith("op.name") for x in sides)
            assert not (named and any(isinstance(x, ast.Constant) for x in sides)), ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_pickled(path):
    assert not {name.partition(".")[0] for name in _imports(path)} & {"pickle", "cloudpickle", "dill", "joblib"}


CHARACTERS = ROOT.with_name("odyssey_characters")
OTHERS = [*FILES, *sorted(ROOT.with_name("odyssey_run").rglob("*.py"))]


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: str(path.relative_to(ROOT.parent)))
def test_neither_the_core_nor_the_runner_knows_characters(path):
    assert not any(name.partition(".")[0] == "odyssey_characters" for name in _imports(path))


@pytest.mark.parametrize("path", sorted(CHARACTERS.rglob("*.py")), ids=lambda path: path.name)
def test_characters_use_nothing_of_the_runner(path):
    assert not {name.partition(".")[0] for name in _imports(path)} & RUNNER_ONLY


WITHOUT = """
import sys
sys.modules |= dict.fromkeys(("scipy", "sklearn", "odyssey_characters"))  # an import of None fails
import odyssey_core.learner, odyssey_core.classifier
from odyssey_run import cli
print(cli.main(sys.argv[1:]))
"""


def test_mnist_is_trained_and_drawn_without_scipy_scikit_learn_and_characters(run_python, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)
    for part in ("train", "t10k"):
        for kind, array in (("images-idx3", pixels), ("labels-idx1", np.arange(40) % 10)):
            (tmp_path / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx_bytes(array)))
    command = ("data=mnist", f"data.root={tmp_path}", "model=linear", "trainer.validation_size=10", "trainer.epochs=1")
    rest = ("trainer.batch_size=10", "tracking=none", f"run.dir={tmp_path / 'run'}")
    assert run_python(WITHOUT, *command, *rest, ODYSSEY_CACHE=str(tmp_path)).splitlines()[-1] == "0"
    assert (tmp_path / "run" / "report.html").exists()
