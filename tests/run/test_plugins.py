"""What a person names on the command line or installs: options from signatures, and one line for what is wrong."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from quick import QUICK
from stored import command

from odyssey_core import ops
from odyssey_core.backends.base import Feed
from odyssey_core.backends.numba import NumbaBackend, compile
from odyssey_core.models import MODELS
from odyssey_run import api, cli
from odyssey_run.config import plugins
from odyssey_run.runs.recorded import open_folder

MODEL = """
from typing import Annotated
from odyssey_core import nn, register
from odyssey_core.ranges import Range

@register.model
def tiny(input_shape, classes, width: Annotated[int, Range(1, 64)] = 8, bias=True):
    channels, height, columns = input_shape
    return nn.Sequential([nn.Flatten(), nn.Linear(channels * height * columns, width), nn.ReLU(),
                          nn.Linear(width, classes, bias=bias)])
"""
GIVEN = ("--plugin", "mine.py", *QUICK, "model=tiny")


@pytest.fixture(autouse=True)
def none_left_over():
    """Plug-ins stay loaded in a process; each test begins without."""
    yield
    for name in [*plugins._loaded]:
        plugins._withdraw(name)


@pytest.fixture
def mine(tmp_path):
    def write(text: str = MODEL, name: str = "mine.py") -> Path:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        return tmp_path / name

    write()
    return write


def test_options_come_from_the_signature(mine, capsys):
    assert cli.main([*GIVEN, "model.width=16", "--cfg", "job", "-p", "model"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == {"name": "tiny", "width": 16, "bias": True}


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("model.width=0", "model.width: expected an integer from 1 to 64, got 0"),
        ("model.width=a", "model.width: expected an integer from 1 to 64, got the text 'a'"),
        ("model.bias=1", "model.bias: expected true or false, got 1"),
        ("model.widht=9", "unknown key model.widht; model has width, bias, weights, head; did you mean model.width?"),
        ("model=tinny", f"unknown model 'tinny'; known: {', '.join(sorted([*MODELS, 'tiny']))}; did you mean 'tiny'?"),
        ("bias=true", "unknown key bias; the configuration has "),
    ],
)  # fmt: skip
def test_a_mistake_in_an_option_is_told_as_for_what_is_shipped(mine, mistake, argument, line):
    (found,) = mistake(*GIVEN, argument)
    assert found.startswith(line)


def test_without_the_plug_in_nothing_is_known_of_it(mistake, mine):
    (line,) = mistake(*QUICK, "model=tiny")
    assert line == f"unknown model 'tiny'; known: {', '.join(sorted(MODELS))}"


def test_a_file_beside_it_sets_other_values(mine, tmp_path, capsys):
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "tiny.yaml").write_text("name: tiny\nwidth: 24\n")
    (tmp_path / "conf" / "model" / "wide.yaml").write_text("name: tiny\nwidth: 60\n")
    for model, width in (("tiny", 24), ("wide", 60)):
        assert cli.main([*GIVEN, f"model={model}", "--cfg", "job", "-p", "model"]) == 0
        assert yaml.safe_load(capsys.readouterr().out) == {"name": "tiny", "width": width, "bias": True}


def test_the_environment_names_files_too(mine, monkeypatch, tmp_path, capsys):
    mine(MODEL.replace("tiny", "other"), "other.py")
    monkeypatch.setenv("ODYSSEY_PLUGINS", os.pathsep.join(["mine.py", str(tmp_path / "other.py")]))
    request = api.compose(*QUICK, "model=other")
    assert [plugin.name for plugin in request.plugins if plugin.is_file] == ["mine.py", "other.py"]
    assert request.overrides[:4] == ("--plugin", "mine.py", "--plugin", str(tmp_path / "other.py"))


WRONG = {
    "import nowhere\n": r"mine.py, line 1: ModuleNotFoundError: No module named 'nowhere'",
    "def f(:\n": r"mine.py, line 1: .*",
    "x = 1\n": r"mine.py: registers nothing; write @register.model, or another, above what it defines",
    "\nraise SystemExit(0)\n": r"mine.py, line 2: SystemExit: 0",
    "\n\n1 / 0\n": r"mine.py, line 3: ZeroDivisionError: division by zero",
    MODEL.replace("tiny", "lenet5"): r"mine.py, line 6: model 'lenet5' is known already, with the program; choose "
    "another name",
    MODEL + "\nregister.model('tiny')(lambda input_shape, classes: None)\n": "mine.py, line 12: model 'tiny' is known "
    "already, by mine.py; choose another name",
    MODEL.replace("bias=True", "weights=None"): r"mine.py, line 6: model 'tiny': the program itself provides weights; "
    "call the parameter otherwise",
    MODEL.replace("bias=True", "name='a'"): r"mine.py, line 6: model 'tiny': the program itself provides name; .*",
    MODEL.replace("input_shape, classes, width", "classes, width"): r"mine.py, line 6: model 'tiny': its signature "
    "must take input_shape, which the program provides",
    MODEL.replace("bias=True", "**rest"): r"mine.py, line 6: model 'tiny': \*\*rest is no option that has a name; .*",
    MODEL.replace("Annotated[int, Range(1, 64)]", "'Wdith'"): r"mine.py: tiny: width: its annotation Wdith cannot be "
    r"read \(name 'Wdith' is not defined\)",
    MODEL.replace("register.model", "register.optimizer"): r"mine.py, line 6: optimizer 'tiny': expected a class "
    "derived from odyssey_core.optim.Optimizer",
    MODEL.replace("model\n", "model('a b')\n"): r"mine.py, line 6: model 'a b': expected a name of letters, digits .*",
    MODEL + "import helper\n": r"mine.py: imports helper \(line 11\), which lies beside it; a plug-in is one file: .*",
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_a_bad_plug_in_gets_one_line(mine, mistake, text):
    mine("", "helper.py")
    mine(text)
    (line,) = mistake(*GIVEN)
    assert re.fullmatch(WRONG[text], line), line


def test_what_is_no_plug_in_gets_one_line(mine, mistake, tmp_path):
    (tmp_path / "folder.py").mkdir()
    mine(name="b/mine.py")
    mine(name="my plug-in.py")
    for argument, line in {
        "no.py": "--plugin no.py: expected a Python file, got no such file",
        "folder.py": "--plugin folder.py: expected a Python file, got a folder; a package is installed and found by "
        "its entry points",
        "my plug-in.py": "--plugin my plug-in.py: expected a name of letters, digits and _.-; rename the file",
        "b/mine.py": "--plugin b/mine.py: mine.py has the same name; rename one of them",
    }.items():
        assert mistake("--plugin", "mine.py", "--plugin", argument, *QUICK) == [line]


def test_an_option_without_a_default_must_be_set(mine, mistake):
    mine(MODEL.replace("= 8, bias", ", bias"))
    assert mistake(*GIVEN) == ["model.width: expected an integer from 1 to 64, got nothing; set it"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("raise RuntimeError('no')", "mine.py, line 8: RuntimeError: no"),
        ("nn.Linear(2, 3, init='kaimin')", "mine.py, line 8: unknown initializer 'kaimin'; known: "),
        ("return Wrong()", "mine.py, line 15: linear: input must be 2-dimensional (N, in), got shape (3, 1, 28, 28)"),
    ],
)
def test_an_error_in_a_plug_in_shows_its_own_line(mine, mistake, line, told):
    wrong = "\nclass Wrong(nn.Module):\n    def forward(self, x):\n        return nn.Linear(7, 5)(x)\n"
    mine(MODEL.replace("    channels", f"    {line}\n    channels") + wrong)
    (found,) = mistake(*GIVEN)
    assert told in found


PARTS = """
from dataclasses import dataclass
import numpy as np
from odyssey_core import nn, ops, register
from odyssey_core.losses import Loss
from odyssey_core.optim import Optimizer

@dataclass(frozen=True)
class By(Optimizer):
    lr: float = 0.1
    function = None

    @property
    def rule(self):
        return type(self).function

class Net(nn.Module):
    def __init__(self, input_shape, classes):
        self.last = nn.Linear(input_shape[1] * input_shape[2], self.size or classes)

    def forward(self, x):
        return self.of(self.last(ops.flatten(x)))

    size, of = 0, lambda self, x: x
"""


@pytest.mark.parametrize(
    ("text", "chosen", "line"),
    [
        ("@register.dataset\ndef own(size: int = 3): return None", "data=own",
         "own: returns None, expected an object of odyssey_core.data.Dataset"),
        ("@register.dataset\ndef own(root='x'): return open(root)", "data=own",
         "mine.py, line 27: FileNotFoundError: [Errno 2] No such file or directory: 'x'"),
        ("@register.model\ndef own(input_shape, classes): return 3", "model=own",
         "own: returns 3, expected an object of odyssey_core.nn.Module"),
        ("@register.model\nclass own(Net): size = 7", "model=own",
         "model.name: own: expected logits of shape (N, classes), here (3, 2), got shape (3, 7)"),
        ("@register.model\nclass own(Net): of = lambda self, x: None", "model=own",
         "model.name: own: expected logits of shape (N, classes), here (3, 2), got None"),
        ("@register.optimizer\nclass own(Optimizer): pass", "optim=own",
         "optim.lr: expected a number from 0 to 1e+38, got nothing; set it"),
        ("@register.optimizer\n@dataclass(frozen=True)\nclass own(Optimizer): lr: float = 1.0", "optim=own",
         "optimizer own: define the property rule, a function (p, g, ..., *, lr)"),
        ("@register.optimizer\nclass own(By):\n    def function(p, g, m, *, lr): return p", "optim=own",
         "rule function: expected 2 values (p, m), got 1"),
        ("@register.optimizer\nclass own(By):\n    def function(p, g, *, lr, speed): return p", "optim=own",
         "optimizer own: nothing gives speed"),
        ("@register.optimizer\nclass own(By):\n    def function(p, g, *, lr): return p - np.exp(g)", "optim=own",
         "mine.py, line 28: TypeError: no kernel computes np.exp; there are add, "),
        ("@register.optimizer\nclass own(By):\n    def function(p, g, *, lr): return p if g > 0 else g", "optim=own",
         "mine.py, line 28: TypeError: a kernel has no branch on values; np.minimum and np.maximum choose between two"),
        ("@register.loss\nclass own(Loss):\n    def __call__(self, logits, labels): return None",
         "loss=own", "gradients: expected one loss per image, shape (N,), got None"),
        ("@register.loss\nclass own(Loss):\n    def __call__(self, logits, labels): return ops.cross_entropy(logits)",
         "loss=own", "mine.py, line 28: TypeError: cross_entropy() missing 1 required positional argument: 'labels'"),
    ],
)  # fmt: skip
def test_parts_that_do_not_do_what_they_must_are_refused_before_a_run(mine, mistake, monkeypatch, text, chosen, line):
    monkeypatch.setattr(compile, "_say_compiling", lambda: None)  # other kernels may not be in the cache yet
    mine(PARTS + "\n" + text)
    (found,) = mistake("--plugin", "mine.py", *QUICK, "model=mlp", "backend=numba", chosen)
    assert found.startswith(line), found


def test_a_task_of_ones_own_has_options(mine, mistake, capsys):
    mine("from odyssey_core import register\n@register.task\ndef count(request, times: int = 2, *, unit='run'):\n"
         "    print(f'{times} {unit} of {request.model.name}')\n    return 7 if times else 1 // 0\n")  # fmt: skip
    assert cli.main(["--plugin", "mine.py", "task=count", "model=mlp", "times=4"]) == 7
    assert capsys.readouterr().out == "4 run of mlp\n"
    assert mistake("--plugin", "mine.py", "task=count", "times=0") == [
        "mine.py, line 5: ZeroDivisionError: integer division or modulo by zero"
    ]
    mine("from odyssey_core import register\n@register.task\ndef count(request):\n    return 'done'\n")
    assert mistake("--plugin", "mine.py", "task=count") == [
        "task count: expected it to return its exit code, got 'done'"
    ]


def test_help_shows_the_options_of_what_is_chosen(mine, capsys):
    assert cli.main(["--plugin", "mine.py", "--help", "model=tiny"]) == 0
    out = capsys.readouterr().out
    assert "  model:\n    name: tiny\n    width: 8\n    bias: true\n" in out
    assert re.search(r"^  model       .*\btiny\b", out, re.M)


def test_a_changed_file_is_loaded_again(mine):
    assert api.compose(*QUICK, "model=tiny", plugins=["mine.py"]).model.arguments["width"] == 8
    mine(MODEL.replace("= 8", "= 9"))
    assert api.compose(*QUICK, "model=tiny", plugins=["mine.py"]).model.arguments["width"] == 9


KERNEL = """
from odyssey_core.backends.numba.instruction import instruction
from odyssey_core.backends.numba.kernels.elementwise import elementwise, shapes
from odyssey_core.backends.numba.lower import lowers
from odyssey_core.backends.numba.memory import load, store
from odyssey_core.tensor import Op

TWICE = Op("twice", lambda x: x.shape, lambda node, g: (TWICE(g),), numpy=lambda x: x * 2)

@instruction(reads="x", writes="y", shapes=shapes)
def twice(memory, x, y, vectors):
    for at in range(0, vectors * 16, 16):
        store(memory, y + at, load(memory, x + at) + load(memory, x + at))

lowers("twice")(elementwise(twice))
"""


def test_the_kernel_of_a_changed_file_is_another(mine, monkeypatch):
    monkeypatch.setattr(compile, "_say_compiling", lambda: None)
    once = KERNEL.replace("load(memory, x + at) + load(memory, x + at)", "load(memory, x + at)")
    for text, factor in ((KERNEL, 2), (once, 1), (KERNEL, 2)):
        plugins.load([str(mine(text + MODEL))])
        y = sys.modules["plugin_mine"].TWICE(ops.input_("x", (1, 2)))
        given = np.array([[[3.0, 0.5]]])
        row = NumbaBackend(threads=1).compile([y], {}).run(Feed(order=np.zeros((1, 1), np.int64), inputs=given))[0, 0]
        np.testing.assert_array_equal(row, factor * given[0, 0])


def package(folder: Path) -> None:
    """As if installed: a package with an entry point."""
    (folder / "outside").mkdir(parents=True)
    (folder / "outside" / "__init__.py").write_text("")
    (folder / "outside" / "nets.py").write_text(MODEL.replace("@register.model\n", ""))
    info = folder / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ml_odyssey.models]\ntiny = outside.nets:tiny\n")


def test_an_installed_package_is_found_by_its_entry_point(tmp_path, monkeypatch):
    installed = tmp_path / "installed"
    package(installed)
    environment, verify = {"PYTHONPATH": str(installed)}, ("task=verify", "run_id=one", "tracking=none")
    command(tmp_path, *QUICK, "model=tiny", "model.width=5", "run.name=one", **environment)
    run = open_folder(tmp_path / "runs" / "one")
    assert run.config["model"]["width"] == 5
    with monkeypatch.context() as here:
        here.syspath_prepend(installed)
        assert run.tags["odyssey.plugin.outside.sha256"] == plugins.package("outside").digest
    assert command(tmp_path, *verify, **environment).startswith("REPRODUCED")
    told = "the plug-in outside (SHA-256 "
    assert told in command(tmp_path, *verify, code=4)
    assert f"known: {', '.join(sorted([*MODELS, 'tiny']))};" in command(
        tmp_path, *QUICK, "model=tinny", code=2, **environment
    )
    nets = installed / "outside" / "nets.py"
    nets.write_text(nets.read_text().replace("ReLU", "Tanh"))
    out = command(tmp_path, *verify, code=4, **environment)
    assert "the plug-in outside differs (SHA-256 " in out
    assert "the run's version of the package" in out
    nets.write_text("import nowhere\n")
    told = command(tmp_path, *QUICK, "model=tiny", code=2, **environment)
    assert re.search(r"outside: \S+outside/nets.py, line 1: ModuleNotFoundError: No module named 'nowhere'", told)


def test_a_name_in_two_packages_is_none_of_them(tmp_path):
    package(tmp_path)
    info = tmp_path / "second-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: second\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ml_odyssey.models]\ntiny = second:tiny\n")
    told = command(tmp_path, *QUICK, "model=tiny", code=2, PYTHONPATH=str(tmp_path))
    assert (
        "model 'tiny' is in several installed packages (outside.nets:tiny, second:tiny); uninstall all but one" in told
    )
