"""Runs that told the truth, of every kind and ending: ``task=verify`` says REPRODUCED."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stored import COMMAND, RUN, command, copied, here, runs

from odyssey_run import cli
from odyssey_run.runs.recorded import open_folder
from odyssey_run.runs.statements import decode
from odyssey_run.tracking.names import Tag
from odyssey_run.tracking.records import Resume

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

LONG = (*RUN, "trainer.epochs=100000", "trainer.checkpoint_s=0.2", "trainer.log_every=7", "run.name=one")


def verified(folder: Path, run: str = "one", *arguments: str) -> str:
    """What is said of a run that another process made."""
    code, said = here(folder, "task=verify", f"run_id={run}", *arguments)
    assert code == 0, said
    return said


def stopped(folder: Path, *arguments: str, by: int = signal.SIGTERM) -> int:
    """Starts a long run and stops it after two more epochs; returns the exit code."""
    journal = folder / "runs" / "one" / "journal.jsonl"
    before = epochs(journal)
    with open(folder / "out", "w") as out:
        process = subprocess.Popen(
            [*COMMAND, *LONG, *arguments], cwd=folder, stdout=out, stderr=out,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
    deadline = time.monotonic() + 120
    while epochs(journal) < before + 2:
        assert process.poll() is None, (folder / "out").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(by)
    return process.wait(timeout=120)


def epochs(journal: Path) -> int:
    return journal.read_bytes().count(b'"val/loss"') if journal.exists() else 0


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_of_an_epoch(tmp_path, by):
    assert stopped(tmp_path, by=by) == 128 + by
    run = open_folder(tmp_path / "runs" / "one")
    out = verified(tmp_path)
    last = f"{int(run.tags['odyssey.step']):,}"
    assert f"and the weights over {last} steps, bit by bit" in out
    assert f"its last step, {last}, is stated and not verified: a signal, error or time limit ended it" in out


def test_resumed_three_times_and_stopped_again(tmp_path):
    stopped(tmp_path)
    for _ in range(3):
        stopped(tmp_path, "resume=one")
    assert len(open_folder(tmp_path / "runs" / "one").of(Resume)) == 3
    verified(tmp_path)


def test_stopped_and_resumed_to_its_end(tmp_path):
    stopped(tmp_path, "trainer.max_steps=4000")
    command(tmp_path, *LONG, "trainer.max_steps=4000", "resume=auto")
    out = verified(tmp_path)
    assert "and the weights over 4,000 steps" in out


def test_killed_and_ended_by_the_doctor(tmp_path):
    assert stopped(tmp_path, by=signal.SIGKILL) == -signal.SIGKILL
    assert here(tmp_path, "task=doctor")[0] == 0
    out = verified(tmp_path)
    assert "and the weights" not in out  # it kept none


@pytest.mark.parametrize("keep", ["trainer.keep=last", "trainer.keep=best"])
def test_ended_by_a_time_budget(tmp_path, keep):
    command(tmp_path, *LONG, "trainer.time_budget_s=0.3", keep)
    assert "and the weights" in verified(tmp_path, "one", "backend.threads=1")


def test_diverged(tmp_path):
    command(tmp_path, *RUN[:-2], "optim=sgd", "optim.lr=1000", "run.name=one", code=1)
    assert "is not finite" in open_folder(tmp_path / "runs" / "one").reason
    verified(tmp_path)


def test_failed_by_an_exception(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'task=verify' not in sys.argv:\n"
        "    from odyssey_run.training import trainer\n"
        "    def fail(self): raise RuntimeError('a bug')\n"
        "    trainer.Trainer._norms = fail\n"
    )
    said = command(tmp_path, *RUN, "run.name=one", code=1, PYTHONPATH=str(tmp_path))
    assert "RuntimeError: a bug" in said  # a bug of ours shows where it is
    assert [run.info.status for run in runs(tmp_path)[1]] == ["FAILED"]
    verified(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ("trainer.keep=best", "trainer.patience=1", "optim.lr=0.05"),
        ("data.augment={rotation:8,shift:1}", "trainer.clip_norm=1", "loss.label_smoothing=0.1", "scheduler=cosine"),
        ("trainer.validation_size=0", "trainer.max_steps=33"),
        ('expect={test/accuracy: ">= 0.1"}', "plots.enabled=true", "tracking.register=reader"),
    ],
)
def test_of_other_configurations(tmp_path, arguments):
    command(tmp_path, *RUN, *arguments, "run.name=one")
    verified(tmp_path)


def test_begun_with_the_weights_of_another(tmp_path):
    command(tmp_path, *RUN, "run.name=first")
    command(tmp_path, *RUN, "model.weights=first", "run.name=one")
    verified(tmp_path)


@pytest.mark.parametrize("model", ["model=small_resnet", "model=mlp"])
def test_made_with_a_plug_in_stopped_and_resumed(tmp_path, model):
    """One that gives the model, and one that gives no part of it but was there."""
    plugin = ("--plugin", str(Path(__file__).parents[2] / "docs" / "own_parts.py"))
    stopped(tmp_path, *plugin, model, "optim=sign_momentum", "trainer.max_steps=1200")
    command(tmp_path, *plugin, *LONG, model, "optim=sign_momentum", "trainer.max_steps=1200", "resume=auto")
    said = command(tmp_path, *plugin, "task=verify", "run_id=one")
    assert "and the weights over 1,200 steps" in said


def test_only_in_its_folder(tmp_path):
    command(tmp_path, *RUN, "tracking=none", "run.name=one", "seeds=2", "trainer.max_steps=20")
    assert verified(tmp_path).count("REPRODUCED") == 3
    assert verified(tmp_path, "runs/one", "tracking=none").count("REPRODUCED") == 3


def test_what_is_left_for_people_and_programs(tmp_path):
    import json

    command(tmp_path, *RUN, "run.name=one", "plots.enabled=true", "trainer.max_steps=20")
    folder = tmp_path / "runs" / "one"
    digest = open_folder(folder).tags[Tag.RUN_DIGEST]
    assert f'id="digest">{digest}<' in (folder / "report.html").read_text()
    client, (run,) = runs(tmp_path)
    assert run.data.tags[Tag.RUN_DIGEST] == digest
    out = verified(tmp_path, "one", "badge=badge.svg", "json=verdict.json")
    assert f"run digest {digest[:16]}" in out
    assert ">REPRODUCED<" in (tmp_path / "badge.svg").read_text()
    found = json.loads((tmp_path / "verdict.json").read_text())
    assert (found["verdict"], found["exit_code"], found["run_digest"]) == ("REPRODUCED", 0, digest)
    stated = decode((folder / "statements.json").read_bytes(), "")
    assert sum(found["held"].values()) + len(found["only_stated"]) == len(stated)
    experiment = run.info.experiment_id
    (own,) = client.search_runs([experiment], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    assert own.info.status == "FINISHED"
    assert own.data.tags["mlflow.note.content"].startswith("**REPRODUCED** one ")
    assert not client.list_artifacts(own.info.run_id)


def test_verify_writes_nowhere_that_the_store_points(tmp_path):
    import sqlite3
    from contextlib import closing

    command(tmp_path, *RUN, "run.name=one", "trainer.max_steps=20")
    shutil.move(tmp_path / "runs", tmp_path / "elsewhere")
    before = {path: path.read_bytes() for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()}
    (tmp_path / "private").mkdir()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store, store:
        store.execute("UPDATE experiments SET artifact_location = ?", (f"file://{tmp_path}/private",))
    _, (run,) = runs(tmp_path)
    verified(tmp_path, run.info.run_id)
    assert {path: path.read_bytes() for path in (tmp_path / "mlartifacts").rglob("*") if path.is_file()} == before
    assert not list((tmp_path / "private").iterdir())


def test_a_deleted_run_is_one_line(tmp_path, capsys, monkeypatch):
    command(tmp_path, *RUN, "run.name=one", "trainer.max_steps=20")
    shutil.rmtree(tmp_path / "runs")
    client, (run,) = runs(tmp_path)
    client.delete_run(run.info.run_id)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["task=verify", f"run_id={run.info.run_id}"]) == cli.MISTAKE
    assert f"was deleted in MLflow; mlflow runs restore --run-id {run.info.run_id} undoes it" in capsys.readouterr().err


def test_copied_with_its_store(tmp_path):
    (tmp_path / "a").mkdir()
    command(tmp_path / "a", *RUN, "run.name=one", "trainer.max_steps=20")
    verified(copied(tmp_path / "a", tmp_path / "b"))
