"""Hooks as a part of a run: named in its configuration, recorded as code, made again when it is verified."""

import re
from pathlib import Path

import pytest
from quick import QUICK

from odyssey_run import cli
from odyssey_run.config import plugins
from odyssey_run.config.claims import METRICS
from odyssey_run.runs.recorded import open_folder

TEXT = """
from odyssey_core import register
from odyssey_run.training.hooks import Hook

@register.hook
class Steady(Hook):
    def __init__(self, epochs: int = 2):
        self.epochs = epochs

    def on_epoch_end(self, state):
        state.log("double", 2 * state.train_loss)
        if state.epoch >= self.epochs:
            state.stop("steady")
"""
GIVEN = ("--plugin", "steady.py", *QUICK[:-1], "model=linear", "trainer.epochs=5")


@pytest.fixture(autouse=True)
def steady(tmp_path):
    (tmp_path / "steady.py").write_text(TEXT)
    yield
    for name in [*plugins._loaded]:
        plugins._withdraw(name)


def test_a_hook_logs_and_ends_a_run_which_is_verified_with_it(capsys, tmp_path):
    assert cli.main([*GIVEN, "hooks=[{name: Steady, epochs: 3}]", "run.name=a"]) == 0
    assert "ended by a hook after epoch 3: steady" in capsys.readouterr().out
    run = open_folder(Path("runs/a"))
    assert [value for _, value in run.metrics["own/double"]] == [2 * x for _, x in run.metrics["train/epoch_loss"]]
    assert (run.status, len(run.metrics["own/double"])) == ("FINISHED", 3)
    verify = ("task=verify", "run_id=a", "tracking=none")
    assert cli.main(["--plugin", "steady.py", *verify]) == 0
    assert "REPRODUCED" in capsys.readouterr().out
    assert cli.main(verify) == 4
    assert "the plug-in steady.py (SHA-256 " in capsys.readouterr().out
    (tmp_path / "steady.py").write_text(TEXT.replace("2 *", "3 *"))
    assert cli.main(["--plugin", "steady.py", *verify]) == 4
    assert "the plug-in steady.py differs" in capsys.readouterr().out


def test_what_a_hook_logs_can_be_claimed(mistake, capsys):
    claim = "expect={own/double: '<1'}"
    assert mistake(*GIVEN, claim) == ["expect: no metric is called own/double; there are " + ", ".join(METRICS)]
    assert cli.main([*GIVEN, claim, "hooks=[Steady]"]) == 3
    assert re.search(r"claim +own/double < 1: \d+\.\d+, missed", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("hooks", "line"),
    [
        ("[Stedy]", "hooks[0].name: unknown hook 'Stedy'; known: Steady; did you mean 'Steady'?"),
        ("[{name: Steady, epochs: a}]", "hooks[0].epochs: expected an integer, got the text 'a'"),
        ("[Steady, {name: Steady, epoch: 1}]", "unknown key hooks[1].epoch; hooks[1] has epochs; did you mean "
         "hooks[1].epochs?"),
        ("[3]", "hooks[0]: expected the name of a hook, or a mapping with name: and options, got 3"),
        ("Steady", "hooks: expected a list, got the text 'Steady'"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_hook_gets_one_line(mistake, hooks, line):
    assert mistake(*GIVEN, f"hooks={hooks}") == [line]


def test_an_error_in_a_hook_is_told_with_its_line(mistake, tmp_path, capsys):
    (tmp_path / "steady.py").write_text(TEXT.replace("2 * state.train_loss", "1 / 0"))
    assert cli.main([*GIVEN, "hooks=[Steady]", "run.name=b"]) == cli.MISTAKE
    assert capsys.readouterr().err == "odyssey-run: steady.py, line 11: ZeroDivisionError: division by zero\n"
    assert open_folder(Path("runs/b")).status == "FAILED"
