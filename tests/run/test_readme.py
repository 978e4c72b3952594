"""The README's notebook lines run."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.slow
def test_notebook_lines(monkeypatch):
    text = README.read_text(encoding="utf-8")
    lines = re.search(r"From a notebook.*?\n\n((?:    .*\n)+)", text)[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    names: dict = {}
    exec("".join(line[4:] for line in lines.splitlines(keepends=True)), names)
    assert len(names["labels"]) == 5
    assert names["probabilities"].shape == (5, 10)
    assert len(names["run"].metrics["val/accuracy"]) == 2
    right = [name == str(label) for name, label in zip(names["labels"], names["images"].labels[:5], strict=True)]
    assert sum(right) >= 3


def test_it_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150
