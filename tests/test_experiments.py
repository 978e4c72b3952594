"""Experiments: their YAMLs run, their READMEs say what the YAMLs do, and nothing in a table is typed."""

import functools
import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from odyssey_core.errors import ConfigError
from odyssey_run import cli

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("record", ROOT / "experiments" / "record.py")
record = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(record)
NAMES = record.names()
NARROW = {"airbench": 8, "resnet20": 4, "resnet18": 8, "mobilenet_v1": 8}  # of a net that a step is tried of
STEP = ("backend=numpy", "tracking=none", "plots.enabled=false", "trainer.max_steps=1", "seeds=1")


@functools.cache
def recipe(name):
    return record.recipe(name)


def readme(name):
    return (record.EXPERIMENTS / name / record.README).read_text()


def small(name):
    model = recipe(name)["model.name"]
    return [f"model.width={NARROW[model]}"] if model in NARROW else []


def data(name, folder):
    """Images of the kind that an experiment's model takes: digits, or a few in colour of the size of CIFAR-10's."""
    if recipe(name)["data.name"] != "cifar10":
        return ["data=digits"]
    rng, file = np.random.default_rng(0), folder / "few.npz"
    parts = {"train": 20, "test": 10}
    images = {f"x_{part}": rng.integers(0, 256, (n, 32, 32, 3), np.uint8) for part, n in parts.items()}
    np.savez(file, **images, **{f"y_{part}": np.arange(n) % 10 for part, n in parts.items()})
    # Batch norm over one pixel of each of two images is over two values, and explodes in a deep net.
    batch = 8 if name.endswith("_epoch") else 2
    return ["data=npz", f"data.file={file}", f"trainer.batch_size={batch}", "trainer.tta=null"]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n.endswith("cifar10_epoch") else ()) for n in NAMES]
)
def test_runs_a_step_and_misses_its_claim(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main([f"experiment={name}", *data(name, tmp_path), *small(name), *STEP]) == 3
    assert "missed" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_readme_has_the_command_and_every_claim(name):
    text, values = readme(name), recipe(name)
    assert f"\n    odyssey-run experiment={name}\n" in text
    held = {f"`{key.removeprefix('expect.')} {value}`" for key, value in values.items() if key.startswith("expect.")}
    assert held
    assert all(claim in text.partition("## Run")[0] for claim in held), held


@pytest.mark.parametrize("name", NAMES)
def test_yaml_says_its_command(name):
    lines = (record.CONF / f"{name}.yaml").read_text().splitlines()
    assert lines[:2] == ["# @package _global_", f"# odyssey-run experiment={name}"]


def test_every_folder_is_an_experiment():
    assert sorted(path.parent.name for path in record.EXPERIMENTS.glob("*/README.md")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_table_is_what_was_recorded(name):
    assert record.between(readme(name), record.MEASURED) == record.measured(record.result(name))


def test_overview_is_what_was_recorded():
    results = [found for name in NAMES if (found := record.result(name))]
    assert record.between((ROOT / "README.md").read_text(), record.ALL) == record.overview(results)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_recorded_is_of_the_experiment_as_it_is_now(name):
    found = record.result(name)
    if found is None:
        pytest.skip("not run yet")
    now = recipe(name)
    assert {key: now.get(key) for key in found["recipe"]} == found["recipe"]
    trained = found["metrics"]["time/train_s"]["mean"] * len(found["seeds"])
    prefix = re.fullmatch(r"REPRODUCED to step [\d,]+", found["verified"])
    # What trains for more than a quarter of an hour, all seeds together, need not be trained to its end again.
    assert found["verified"] == "REPRODUCED" or (prefix and trained > 900)
    assert {row["verdict"] for row in found["claims"]} == {"held"}


TINY = """\
# @package _global_
# odyssey-run experiment=tiny
defaults:
  - override /data: digits

seeds: 2
trainer: {epochs: 1, validation_size: 0}
expect: {test/accuracy: "> 0.05", test/loss: "< 0"}
"""


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A project of one experiment, in a folder of its own."""
    shutil.copytree(record.CONF.parent, tmp_path / "conf", ignore=shutil.ignore_patterns("experiment"))
    (tmp_path / "conf" / "experiment").mkdir()
    (tmp_path / "conf" / "experiment" / "tiny.yaml").write_text(TINY)
    (tmp_path / "experiments" / "tiny").mkdir(parents=True)
    (tmp_path / "experiments" / "tiny" / "README.md").write_text("a\n<!-- measured -->\nold\n<!-- /measured -->\nz\n")
    (tmp_path / "README.md").write_text("b\n<!-- experiments -->\n<!-- /experiments -->\ny\n")
    for name, path in (("ROOT", ""), ("EXPERIMENTS", "experiments"), ("CONF", "conf/experiment")):
        monkeypatch.setattr(record, name, tmp_path / path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own, and those of what it imports
def test_a_verified_run_is_recorded_and_no_other(tiny, capsys):
    from mlflow import MlflowClient

    def refused(*arguments):
        capsys.readouterr()
        assert record.main(list(arguments)) == 2
        assert not (tiny / "experiments" / "tiny" / "result.json").exists()
        return capsys.readouterr().err

    assert cli.main(["--config-dir", "conf", "experiment=tiny", "backend.threads=1"]) == 3  # no loss is below 0
    client = MlflowClient(f"sqlite:///{tiny}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    (run_id,) = (run.info.run_id for run in runs if "odyssey.seeds" in run.data.tags)

    assert "unknown experiment 'small'; known: tiny" in refused("small", run_id)
    assert "no run 'abc'" in refused("tiny", "abc")
    assert "expected one that is REPRODUCED, got None; run odyssey-run task=verify" in refused("tiny", run_id)
    assert cli.main(["task=verify", f"run_id={run_id}", "backend.threads=1"]) == 0
    yaml = tiny / "conf" / "experiment" / "tiny.yaml"
    yaml.write_text(TINY.replace("epochs: 1", "epochs: 2"))
    assert "was not made by the current experiment=tiny: trainer.epochs differ" in refused("tiny", run_id)

    yaml.write_text(TINY)
    assert record.main(["tiny", run_id]) == 0
    found = json.loads((tiny / "experiments" / "tiny" / "result.json").read_text())
    assert [seed["seed"] for seed in found["seeds"]] == [0, 1]
    values = [seed["test/accuracy"] for seed in found["seeds"]]
    assert found["metrics"]["test/accuracy"]["mean"] == sum(values) / 2
    assert [(row["metric"], row["verdict"]) for row in found["claims"]] == [
        ("test/accuracy", "held"),
        ("test/loss", "missed"),
    ]
    assert str(tiny) not in json.dumps(found)
    text = (tiny / "experiments" / "tiny" / "README.md").read_text()
    assert text == f"a\n<!-- measured -->\n{record.measured(found)}\n<!-- /measured -->\nz\n"
    assert f"| 0 | {values[0]:.2%} |" in text
    losses = [seed["test/loss"] for seed in found["seeds"]]
    assert found["metrics"]["test/loss"]["mean"] == sum(losses) / 2
    assert f"| `test/loss < 0` | {sum(losses) / 2:.4f} ±" in text
    overview = (tiny / "README.md").read_text()
    assert overview == f"b\n<!-- experiments -->\n{record.overview([found])}\n<!-- /experiments -->\ny\n"
    assert "missed, REPRODUCED" in overview


def test_a_readme_without_markers_is_refused():
    with pytest.raises(ConfigError, match="expected <!-- measured --> and after it <!-- /measured -->"):
        record.between("text", record.MEASURED)
