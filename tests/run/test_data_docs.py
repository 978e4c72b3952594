"""The commands of docs/data.md, on small files of the kinds that they name."""

import csv
import shlex
from pathlib import Path

import numpy as np
import pytest
from picture_files import class_folders

from odyssey_core.data import cifar
from odyssey_run import cli

DOCS = Path(__file__).parents[2] / "docs" / "data.md"
COMMANDS = [line.strip() for line in DOCS.read_text().splitlines() if line.startswith("    odyssey-run ")]
SMALL = ["trainer.max_steps=2", "trainer.batch_size=4", "trainer.validation_size=0", "tracking=none"]
SMALL += ["backend=numpy", "plots.enabled=false"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the files that the commands name."""
    monkeypatch.setenv("ODYSSEY_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "here"
    for name in ("FOLDER", "flowers"):
        class_folders(place / name, {"daisy": 8, "rose": 8})
    _table(
        place / "labels.csv",
        ["path", "label"],
        [[f"flowers/{c}/{i:03d}.png", c] for c in ("daisy", "rose") for i in range(8)],
    )
    pixels = [f"pixel{i}" for i in range(1, 785)]
    for name in ("sign_mnist_train.csv", "sign_mnist_test.csv"):
        _table(place / name, ["label", *pixels], [[3 * (i % 2), *[i] * 784] for i in range(8)])
    images, labels = np.arange(30 * 28 * 28).reshape(30, 28, 28).astype(np.uint8), np.arange(30) % 3
    np.savez(place / "shapes.npz", images, labels)
    colour = np.repeat(images[..., None], 3, axis=3)
    parts = {f"{part}_images": colour for part in ("train", "val", "test")}
    np.savez(place / "bloodmnist.npz", **parts, **{name.replace("images", "labels"): labels[:, None] for name in parts})
    (place / "cifar-10-batches-bin").mkdir()
    for name in cifar.CIFAR10.official:
        records = np.zeros((10, 3073), np.uint8)
        records[:, 0] = np.arange(10)
        (place / "cifar-10-batches-bin" / name).write_bytes(records.tobytes())
    monkeypatch.chdir(place)
    return place


def _table(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.mark.parametrize("command", COMMANDS)
def test_command(here, command, capsys):
    arguments = shlex.split(command)[1:]
    downloads = any(x.startswith("experiment=") for x in arguments) or (
        "data=cifar10" in arguments and not any(x.startswith("data.root=") for x in arguments)
    )
    extra = ["--cfg", "job"] if downloads else [] if "task=data" in arguments else SMALL
    assert cli.main([*arguments, *extra]) == 0, capsys.readouterr().err
    if "task=data" in arguments:
        assert "class" in capsys.readouterr().out and list(here.glob("*.png"))


def test_there_is_a_command_for_each_reader():
    assert {name for name in ("folder", "table", "npz", "cifar10") for line in COMMANDS if f"data={name} " in line} == {
        "folder", "table", "npz", "cifar10",
    }  # fmt: skip
