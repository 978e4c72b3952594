"""Weights that training begins with: files of other programs, and a last layer for other classes."""

from dataclasses import replace

import numpy as np
from quick import QUICK

from odyssey_characters.digits import digits
from odyssey_core.checkpoint import load_weights
from odyssey_core.data import DATASETS, Dataset, Images, pixel_options
from odyssey_run import cli


def test_a_run_may_begin_with_its_export_for_torch(tmp_path):
    assert cli.main([*QUICK, "run.name=first"]) == 0
    assert cli.main(["task=export", "run_id=first", "tracking=none", "out=theirs.safetensors"]) == 0
    assert cli.main([*QUICK, "model.weights=theirs.safetensors", "optim.lr=0", "run.name=again"]) == 0
    kept, again = (load_weights(p / "lenet5_weights" / "lenet5.safetensors")[0] for p in (tmp_path / "runs").iterdir())
    assert {name: w.tobytes() for name, w in again.items()} == {name: w.tobytes() for name, w in kept.items()}


def test_a_new_head_is_drawn_for_other_classes_and_said(tmp_path, capsys, monkeypatch):
    assert cli.main([*QUICK, "run.name=ten"]) == 0
    monkeypatch.setitem(DATASETS._table, "digits", of_six)
    six = [*QUICK, "model.weights=ten", "optim.lr=0"]
    assert cli.main([*six, "run.name=no"]) == cli.MISTAKE
    says = "fc3.weight: lenet5 needs shape (6, 84) for 6 classes, got (10, 84); model.head=new draws this layer anew"
    assert says in capsys.readouterr().err
    assert cli.main([*six, "model.head=new", "run.name=six"]) == 0
    assert "its last layer, fc3, is left out and drawn anew" in " ".join(capsys.readouterr().out.split())
    files = (tmp_path / "runs" / name / "lenet5_weights" / "lenet5.safetensors" for name in ("ten", "six"))
    ten, made = (load_weights(file)[0] for file in files)
    assert {name for name in ten if not np.array_equal(made[name], ten[name])} == {"fc3_weights", "fc3_bias"}
    assert made["fc3_weights"].shape == (6, 84) and np.abs(made["fc3_weights"]).max() > 0


@pixel_options
def of_six() -> Dataset:
    """The digits without the classes from the seventh on."""
    data = digits()
    parts = [Images(p.pixels[p.labels < 6], p.labels[p.labels < 6]) for p in (data.train, data.test)]
    return replace(data, train=parts[0], test=parts[1], class_names=data.class_names[:6])


def test_a_head_is_new_or_kept_and_needs_weights(capsys):
    assert cli.main([*QUICK, "model.head=old"]) == cli.MISTAKE
    assert "model.head: expected new or null, got old" in capsys.readouterr().err
    assert cli.main([*QUICK, "model.head=new"]) == cli.MISTAKE
    assert "model.head: new replaces the last layer of model.weights, which is null" in capsys.readouterr().err
