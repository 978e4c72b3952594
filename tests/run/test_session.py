"""Whole runs of a small model on bundled data: what they leave, how they end."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from journals import lines
from quick import QUICK

from odyssey_core.checkpoint import load_weights
from odyssey_run import cli
from odyssey_run.reports import presentation

COMMAND = [sys.executable, "-m", "odyssey_run.cli"]
LONG = ("model=linear", "data=digits", "backend=numpy", "trainer.validation_size=100", "trainer.epochs=1000")


def records(folder: Path) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for record in lines(folder / "journal.jsonl"):
        found.setdefault(record["kind"], []).append(record)
    return found


def only_run(folder: Path) -> Path:
    (run,) = (folder / "runs").iterdir()
    return run


def test_a_run_leaves_what_it_says(tmp_path, capsys):
    assert cli.main([*QUICK, "seed=3"]) == 0
    run = only_run(tmp_path)
    assert re.fullmatch(r"lenet5-sgd-lr0\.01-s3-[0-9a-f]{4}", run.name)
    left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file() and p.parent.name != "model"}
    assert left - {f"runs/{run.name}/uncommitted.diff"} == {
        f"runs/{run.name}/{file}"
        for file in (
            "config.yaml",
            "environment.json",
            "journal.jsonl",
            "lenet5_weights/lenet5.safetensors",
            "statements.json",
            "train.log",
        )
    }
    found = records(run)
    assert found["start"][0]["config"] == yaml.safe_load((run / "config.yaml").read_text())
    assert found["start"][0]["params"]["trainer.max_steps"] == "3"
    assert found["end"][0]["status"] == "FINISHED"
    names = {name for record in found["metrics"] for name in record["values"]}
    assert {"train/loss", "val/accuracy", "val/loss", "test/accuracy", "test/loss", "time/train_s"} <= names
    for record in found["metrics"]:
        for name, low, high in (("process_memory_megabytes", 20, 4000), ("process_cpu_percentage", 0, 100_000)):
            assert low < record["values"].get(f"system/{name}", low + 1) < high
    assert "system/process_memory_megabytes" in names
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert str(run.relative_to(tmp_path)) in out
    digest = hashlib.sha256((run / "statements.json").read_bytes()).hexdigest()
    assert out == f"{(run / 'train.log').read_text()}digest   {digest}  of all that the run states\n"
    assert found["tags"][-1]["values"] == {"odyssey.run.sha256": digest}


def test_the_weights_can_be_used_alone(tmp_path):
    cli.main(list(QUICK))
    weights, metadata = load_weights(only_run(tmp_path) / "lenet5_weights" / "lenet5.safetensors")
    assert weights["conv1_kernel"].shape == (6, 1, 5, 5)
    assert weights["fc1_weights"].shape == (120, 256)
    assert (metadata["model"], metadata["dataset"], metadata["orientation"]) == ("lenet5", "digits", "upright")
    assert json.loads(metadata["class_names"]) == list("0123456789")
    assert json.loads(metadata["input_shape"]) == [1, 28, 28]
    assert (float(metadata["mean"]), float(metadata["std"])) == (0.0, 1.0)


def test_a_run_may_begin_with_the_weights_of_another(tmp_path, capsys):
    assert cli.main([*QUICK, "run.dir=first"]) == 0
    first = tmp_path / "first" / "lenet5_weights" / "lenet5.safetensors"
    kept = load_weights(first)[0]
    for number, source in enumerate((first, "first")):
        assert cli.main([*QUICK, f"model.weights={source}", "optim.lr=0", f"run.dir=again{number}"]) == 0
        again = load_weights(tmp_path / f"again{number}" / "lenet5_weights" / "lenet5.safetensors")[0]
        assert {name: w.tobytes() for name, w in again.items()} == {name: w.tobytes() for name, w in kept.items()}
        assert len(records(tmp_path / f"again{number}")["start"][0]["tags"]["odyssey.start.sha256"]) == 64
    assert cli.main([*QUICK, "model=mlp", f"model.weights={first}", "run.dir=other"]) == cli.MISTAKE
    assert f"model.weights: {first}: weights fc1.weight: the model needs shape (256, 784), got (120, 256)" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "other").exists()


def test_the_same_command_gives_the_same_run(tmp_path):
    for name in "ab":
        cli.main([*QUICK, f"run.name={name}"])
    first, second = (
        [(r["step"], k, v) for r in records(tmp_path / "runs" / n)["metrics"] for k, v in r["values"].items()]
        for n in "ab"
    )
    own = ("time/", "system/")
    assert [p for p in first if not p[1].startswith(own)] == [p for p in second if not p[1].startswith(own)]


@pytest.mark.filterwarnings("ignore:.*(overflow|invalid value):RuntimeWarning")
def test_divergence_fails_and_names_the_step(tmp_path, capsys):
    assert cli.main([*QUICK, "optim.lr=1e30", "trainer.max_steps=20"]) == cli.FAILED
    run = only_run(tmp_path)
    ending = records(run)["end"][0]
    assert ending["status"] == "FAILED"
    assert re.match(r"train loss is not finite at step \d+, first in conv2; lower optim\.lr", ending["reason"])
    assert ending["reason"] in capsys.readouterr().out
    weights, _ = load_weights(run / "lenet5_weights" / "lenet5.safetensors")
    assert all(abs(w).max() < 10 for w in weights.values())


def test_a_bug_ends_a_run_as_failed(tmp_path, monkeypatch):
    def fail(self):
        raise RuntimeError("a bug")

    monkeypatch.setattr("odyssey_run.training.trainer.Trainer.run", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(list(QUICK))
    assert records(only_run(tmp_path))["end"][0]["status"] == "FAILED"


def test_without_tracking_nothing_of_mlflow_is_imported(tmp_path):
    script = "import sys; from odyssey_run.cli import main; main(sys.argv[1:]); sys.exit('mlflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", script, *QUICK], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize("last", [False, True])
def test_a_signal_in_the_pictures_of_a_seed_stops_before_the_next(tmp_path, capsys, monkeypatch, last):
    present, shown = presentation.present, []

    def signalled(*arguments: object) -> None:
        shown.append(1)
        if len(shown) == 1 + last:
            os.kill(os.getpid(), signal.SIGTERM)
        present(*arguments)

    monkeypatch.setattr(presentation, "present", signalled)
    assert cli.main([*QUICK, "seeds=2"]) == (0 if last else 143)
    parent = only_run(tmp_path)
    if not last:
        out = capsys.readouterr().out
        assert "KILLED after 1 of 2 seeds: stopped by SIGTERM" in out
        assert out.splitlines()[-1] == f"to go on: odyssey-run {' '.join(QUICK)} seeds=2 resume={parent.name}"
        assert [path.name for path in sorted(parent.glob("seed-*"))] == ["seed-0"]
        assert records(parent)["end"][-1]["reason"] == "stopped by SIGTERM"
        assert cli.main([*QUICK, "seeds=2", "resume=auto"]) == 0
    assert [records(path)["end"][-1]["status"] for path in (parent, parent / "seed-0", parent / "seed-1")] == (
        ["FINISHED"] * 3
    )


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*COMMAND, *LONG, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if re.match(r"\s*1/1000\s", line):
            return process
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_as_killed(tmp_path, signum, code):
    process = start(tmp_path, "tracking=none")
    asked = time.monotonic()
    process.send_signal(signum)
    out, err = process.communicate(timeout=20)
    assert time.monotonic() - asked < 5
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert "KILLED after" in out
    run = only_run(tmp_path)
    assert records(run)["end"][0]["status"] == "KILLED"
    assert load_weights(run / "linear_weights" / "linear.safetensors")[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_shows_a_run_that_was_stopped(tmp_path):
    from mlflow import MlflowClient

    process = start(tmp_path)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err == ""
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("digits")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "KILLED"
    address = f"http://127.0.0.1:5000/#/experiments/{experiment.experiment_id}/runs/{run.info.run_id}"
    assert f"{address}?workflowType=machine_learning" in out
    assert run.data.params["model.name"] == "linear"
    assert "trainer.max_steps" not in run.data.params  # it is null
    shown = {name for name in run.data.tags if not name.startswith("mlflow.")}
    assert len(shown) <= 8, shown
    assert {"odyssey.command", "odyssey.run.sha256"} <= shown
    environment = only_run(tmp_path) / "environment.json"
    assert {"python", "cpu", "version.numba"} <= json.loads(environment.read_text()).keys()
    local = records(only_run(tmp_path))
    expected = [(m["step"], m["values"]["train/loss"]) for m in local["metrics"] if "train/loss" in m["values"]]
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "train/loss")] == expected
    artifacts = {a.path for a in client.list_artifacts(run.info.run_id)}
    left = {
        "config.yaml", "environment.json", "journal.jsonl", "train.log", "statements.json", "linear_weights",
        "checkpoint.safetensors",
    }  # fmt: skip
    assert artifacts - {"uncommitted.diff"} == left
    weights = [a.path for a in client.list_artifacts(run.info.run_id, "linear_weights")]
    assert weights == ["linear_weights/linear.safetensors"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mlartifacts", "mlflow.db", "runs"]
