"""What a notebook or a script defines becomes a plug-in file that says all it takes."""

import sys
from types import ModuleType

import pytest
from quick import QUICK
from stored import command

from odyssey_core.errors import ConfigError
from odyssey_run import api
from odyssey_run.api.written import plugin_of
from odyssey_run.config import plugins

CELLS = [
    "import math\nfrom odyssey_core import nn, ops\nfrom odyssey_core.ranges import Size as Bounded\n"
    "from dataclasses import dataclass\nfrom odyssey_core.optim import Optimizer\nSIZES = (6, 'a')\nx = object()\n",
    "def activation(x):\n    return ops.relu(x)\n",
    "class Block(nn.Module):\n    def __init__(self, size):\n        self.linear = nn.Linear(size, size)\n\n"
    "    def forward(self, x):\n        return x + activation(self.linear(x))\n",
    "class Net(nn.Module):\n    def __init__(self, input_shape, classes, width: int = SIZES[0]):\n"
    "        self.first = nn.Linear(math.prod(input_shape), width)\n"
    "        self.blocks = [Block(width) for _ in range(2)]\n        self.last = nn.Linear(width, classes)\n\n"
    "    def forward(self, x):\n        x = activation(self.first(ops.flatten(x)))\n"
    "        for block in self.blocks:\n            x = block(x)\n        return self.last(x)\n",
    "@dataclass(frozen=True)\nclass Plain(Optimizer):\n    lr: Bounded = 0.1\n\n    @property\n    def rule(self):\n"
    "        return plain\n\ndef plain(p, g, *, lr):\n    return p - lr * g\n",
    "def uses(input_shape, classes):\n    return x\n",
    "MOST = float('inf')\n\ndef unbounded(input_shape, classes):\n    return MOST\n",
]  # fmt: skip


@pytest.fixture
def notebook(monkeypatch):
    """A module whose cells no file holds, as in IPython."""
    import linecache

    module = ModuleType("cells")
    monkeypatch.setitem(sys.modules, "cells", module)
    for number, cell in enumerate(CELLS):
        name = f"<ipython-input-{number}>"
        monkeypatch.setitem(linecache.cache, name, (len(cell), None, cell.splitlines(keepends=True), name))
        exec(compile(cell, name, "exec"), vars(module))
    yield module
    for name in [*plugins._loaded]:
        plugins._withdraw(name)


def test_the_recorded_file_trains_the_same(notebook, tmp_path):
    made = [plugin_of("model", notebook.Net), plugin_of("optimizer", notebook.Plain)]
    run = api.train(*QUICK, "model=Net", "model.width=5", "optim=Plain", "run.name=one", plugins=made)
    assert run.weights
    assert (tmp_path / "runs/one/plugins/Net.py").read_bytes() == made[0].files["Net.py"]
    texts = [text for name in ("Net.py", "Plain.py") for text in ("--plugin", f"runs/one/plugins/{name}")]
    out = command(tmp_path, *texts, "task=verify", "run_id=one", "tracking=none")
    assert "REPRODUCED" in out
    assert b"SIZES = (6, 'a')" in made[0].files["Net.py"]
    assert b"object" not in made[0].files["Net.py"]


def test_an_infinite_number_is_recorded(notebook):
    made = plugin_of("model", notebook.unbounded)
    assert b"MOST = float('inf')" in made.files["unbounded.py"]


def test_a_value_that_no_source_gives_is_refused(notebook):
    with pytest.raises(ConfigError, match=r"^uses: x, of type object, cannot be recorded; make it an argument$"):
        plugin_of("model", notebook.uses)
