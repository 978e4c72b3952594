"""What the terminal shows before a run, and what it can be asked to leave out."""

import re
from io import StringIO

import pytest
from quick import QUICK
from rich.console import Console

from odyssey_run import cli
from odyssey_run.config.changes import changed
from odyssey_run.config.schema import SweepConfig
from odyssey_run.runs.console import Screen
from odyssey_run.runs.requests import request_of
from odyssey_run.sweep.plan import Point
from odyssey_run.sweep.results import PointStatus, Result
from odyssey_run.sweep.table import LiveTable

PLUGIN = """
from odyssey_core import nn, register


@register.model
class Own(nn.Module):
    def __init__(self, input_shape, classes, width: int = 8):
        super().__init__()
"""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], []),
        (["optim.lr=0.01", "optim.momentum=0"], []),
        (["optim.lr=0.1", "seed=3"], ["seed 3 (0)", "optim.lr 0.1 (0.01)"]),
        (["optim=adam", "optim.lr=0.1"], ["optim adam (sgd)", "optim.lr 0.1 (0.001)"]),
        (["expect={test/accuracy: '> 0'}"], ["expect {'test/accuracy': '> 0'} ({})"]),
        (["plots.enabled=false", "tracking=none"], ["plots.enabled False (True)", "tracking none (mlflow)"]),
        (["run.name=a", "trainer.max_steps=5"], ["trainer.max_steps 5 (null)"]),
        (["debug=overfit", "data=digits"], ["debug overfit", "data digits"]),
        (["seed=1", "experiment=lenet5_mnist", "run.name=a"], ["experiment lenet5_mnist", "seed 1"]),
        (["experiment=null", "seed=1"], ["seed 1 (0)"]),
    ],
    ids=str,
)
def test_what_is_not_a_default_is_named_with_the_default(arguments, expected):
    request = request_of(arguments)
    assert list(changed(request.config, request.overrides)) == expected


@pytest.mark.parametrize(
    ("terminal", "expected"),
    [
        (True, ["changed  one 1, two", "         2", f"         {'x' * 20}"]),
        (False, [f"changed  one 1, two 2 {'x' * 20}"]),
    ],
)
def test_a_line_of_a_summary_is_wrapped_between_words_on_a_terminal_alone(tmp_path, terminal, expected):
    screen = Screen(tmp_path / "log")
    screen.console = Console(file=(out := StringIO()), width=20, force_terminal=terminal, color_system=None)
    screen.field("changed", f"one 1, two 2 {'x' * 20}")
    screen.close()
    assert [line.rstrip() for line in out.getvalue().splitlines()] == expected


def test_a_sweep_names_its_rows_in_full_beside_a_bar_that_takes_the_rest(tmp_path):
    screen = Screen(tmp_path / "log")
    screen.console = Console(file=(out := StringIO()), width=60, force_terminal=True, color_system=None)
    config = SweepConfig("grid", None, None, "val/accuracy", None, 0, True, None, "local", None, False, False, False)
    done = Result(Point("optim.lr=0.1", request_of([]), ""), tmp_path, PointStatus.FINISHED, value=0.951)
    with LiveTable(screen, config, 2) as table:
        table.update([done], 0, ["optim.lr=0.2"])
    screen.close()
    rows = out.getvalue().splitlines()
    assert any(row.startswith("best     val/accuracy 95.10%  optim.lr=0.1") for row in rows)
    assert any(row.startswith("running  optim.lr=0.2") for row in rows)


@pytest.mark.parametrize("columns", ["0", "1", "x", "80"])
def test_lines_are_printed_whatever_the_environment_says_of_the_width(tmp_path, monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", columns)
    screen = Screen(tmp_path / "log")
    screen.say("one line")
    screen.field("digest", "abc", "of all")
    screen.close()
    assert capsys.readouterr().out == "one line\ndigest   abc  of all\n"


def test_a_run_says_what_was_changed(capsys):
    assert cli.main([*QUICK, "model=linear", "run.name=a"]) == 0
    (line,) = re.findall("^changed .*$", capsys.readouterr().out, re.M)
    assert "model linear (lenet5), data digits (glyphs), " in line
    assert "trainer.max_steps 3 (null)" in line


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_prints_nothing_but_what_is_wrong(flag, capsys, tmp_path):
    assert cli.main([flag, *QUICK, "model=linear", "run.name=a"]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "runs/a/train.log").read_text()
    assert cli.main([flag, "model=lenet6"]) == cli.MISTAKE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("odyssey-run: unknown model 'lenet6'")


def test_help_names_the_exit_codes_the_plugins_and_examples(capsys, tmp_path):
    (tmp_path / "own.py").write_text(PLUGIN)
    assert cli.main(["--plugin", "own.py", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(re.search(rf"^  {code} +\w", out, re.M) for code in ("0", "1", "2", "3", "4", "5", r"128 \+ N"))
    assert re.search("^  odyssey_characters: dataset digits, dataset emnist, dataset glyphs", out, re.M)
    assert re.search("^  own.py: model Own$", out, re.M)
    assert len(re.findall("^  odyssey-run", out.partition("Examples:\n")[2].partition("\n\n")[0], re.M)) == 3


def test_a_current_folder_that_was_deleted(monkeypatch, tmp_path, capfd):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert cli.main(["data=digits"]) == cli.MISTAKE
    assert capfd.readouterr().err == "odyssey-run: the current folder was deleted; change to another\n"
