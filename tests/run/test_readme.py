"""The README's commands run, and say what it shows."""

import re
import shlex
from pathlib import Path

import pytest
from picture_files import class_folders
from stored import command

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SHORT = ("trainer.max_steps=3", "trainer.validation_size=0", "plots.enabled=false", "tracking=none", "backend=numpy")


def test_it_is_short():
    assert len(README.splitlines()) <= 120


def test_every_page_that_it_names_is_there():
    for name in re.findall(r"\]\(([\w./]+)\)", README):
        assert (Path(__file__).parents[2] / name).exists(), name


@pytest.mark.slow
def test_commands(tmp_path):
    class_folders(tmp_path / "FOLDER", {"daisy": 20, "rose": 20})
    commands = [shlex.split(line)[1:] for line in re.findall(r"^ +(odyssey-run(?: .*)?)$", README, re.MULTILINE)]
    assert len(commands) == 5
    for words in commands:
        if "task=verify" in words:
            command(tmp_path, "data=digits", "run.name=RUN", *SHORT)
            assert command(tmp_path, *words, "tracking=none").startswith("REPRODUCED")
        else:
            sweeps = ("sweep.metric=train/loss",) if "-m" in words else ()
            command(tmp_path, *words, *SHORT, *sweeps, "trainer.log_every=1", "trainer.batch_size=8")


@pytest.mark.slow
def test_mistakes(tmp_path):
    ((words, lines),) = re.findall(r"^    \$ odyssey-run (.*)\n((?:    odyssey-run: .*\n)+)", README, re.MULTILINE)
    said = command(tmp_path, *shlex.split(words), code=2)
    assert said.splitlines() == [line.strip() for line in lines.splitlines()]


@pytest.mark.slow
def test_the_lines_of_python(tmp_path, monkeypatch):
    text = re.search(r"^( +)import odyssey_run\n(?:\1.*\n)+", README, re.MULTILINE)[0]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    names: dict = {}
    exec("".join(line.strip() + "\n" for line in text.splitlines()), names)
    assert len(names["run"].metrics["val/accuracy"]) == 2
