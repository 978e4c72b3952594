"""Every way a run can end, in a real process, as MLflow's client then sees it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from journals import lines
from mlflow_server import free_port, serve, stop

from odyssey_run.runs.recorded import open_folder
from odyssey_run.tracking.records import Sent

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

COMMAND = [sys.executable, "-m", "odyssey_run.cli"]
LONG = (
    "plots.enabled=false",
    "model=linear",
    "data=digits",
    "backend=numpy",
    "trainer.validation_size=100",
    "trainer.epochs=5000",
)
SHORT = (*LONG, "trainer.epochs=3", "trainer.log_every=10")
BROKEN = """
from odyssey_run.training import trainer
def fail(self):
    raise RuntimeError("a bug")
trainer.Trainer._validate = fail
"""


def launch(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def when_training(process: subprocess.Popen) -> subprocess.Popen:
    """Waits for the end of the first epoch."""
    for line in process.stdout:
        if re.match(r"\s*1/\d+\s", line):
            return process
    raise AssertionError("it ended before")


def in_mlflow(uri: str) -> list:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    return client.search_runs([client.get_experiment_by_name("digits").experiment_id])


def store(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def wait_until_sent(folder: Path) -> None:
    """A killed run's own sender goes on until it has sent what was written."""
    (journal,) = folder.glob("runs/*/journal.jsonl")
    deadline = time.monotonic() + 60
    while not any("run_id" in record for record in lines(journal)):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_finished(tmp_path):
    process = launch(tmp_path, *SHORT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    (run,) = in_mlflow(store(tmp_path))
    assert run.info.status == "FINISHED"
    assert run.data.tags["odyssey.process.pid"] == str(process.pid)


def test_an_exception(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BROKEN)
    process = launch(tmp_path, *SHORT, PYTHONPATH=os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "RuntimeError: a bug" in out  # a bug of ours shows where it is
    (run,) = in_mlflow(store(tmp_path))
    assert run.info.status == "FAILED"


@pytest.mark.parametrize(
    ("signals", "code"), [([signal.SIGINT], 130), ([signal.SIGTERM], 143), ([signal.SIGINT, signal.SIGINT], 130)]
)
def test_a_signal_and_how_it_goes_on(tmp_path, signals, code):
    process = when_training(launch(tmp_path, *LONG))
    for signum in signals:
        process.send_signal(signum)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code, out
    assert "Traceback" not in out
    (run,) = in_mlflow(store(tmp_path))
    assert run.info.status == "KILLED"
    if len(signals) == 1:
        (folder,) = (tmp_path / "runs").iterdir()
        process = launch(tmp_path, *LONG, "resume=auto", "trainer.epochs=5000")
        resumed = any("resumed at step" in line for line in process.stdout)
        process.kill()
        process.communicate()
        assert resumed
        assert [path.name for path in (tmp_path / "runs").iterdir()] == [folder.name]


def test_kill_9_is_found_by_the_doctor(tmp_path):
    process = when_training(launch(tmp_path, *LONG))
    process.kill()
    process.communicate()
    wait_until_sent(tmp_path)
    (run,) = in_mlflow(store(tmp_path))
    assert run.info.status == "RUNNING"
    doctor = launch(tmp_path, "task=doctor")
    out, _ = doctor.communicate(timeout=120)
    assert doctor.returncode == 0, out
    (run,) = in_mlflow(store(tmp_path))
    assert run.info.status == "KILLED"
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"marked KILLED; to go on: odyssey-run {' '.join(LONG)} resume={folder.name}" in out
    assert open_folder(folder).records[-1].__class__ is Sent
    out, _ = launch(tmp_path, "task=doctor").communicate(timeout=120)
    assert out == "all runs are uploaded\n"


def test_the_doctor_leaves_a_living_run_alone_and_knows_one_whose_folder_is_gone(tmp_path):
    import shutil

    process = when_training(launch(tmp_path, *LONG))
    wait_until_sent(tmp_path)
    out, _ = launch(tmp_path, "task=doctor").communicate(timeout=120)
    assert out == "all runs are uploaded\n"
    assert process.poll() is None
    process.kill()
    process.communicate()
    time.sleep(2)
    shutil.rmtree(tmp_path / "runs")
    out, _ = launch(tmp_path, "task=doctor").communicate(timeout=120)
    assert "is gone; marked KILLED in MLflow" in out
    (run,) = in_mlflow(store(tmp_path))
    assert run.info.status == "KILLED"


def test_eight_at_once_on_an_empty_store(tmp_path):
    processes = [launch(tmp_path, *SHORT, f"seed={seed}") for seed in range(8)]
    for process in processes:
        out, _ = process.communicate(timeout=300)
        assert process.returncode == 0, out
    runs = in_mlflow(store(tmp_path))
    assert [run.info.status for run in runs] == ["FINISHED"] * 8
    assert {run.data.params["seed"] for run in runs} == set("01234567")


def test_a_server_that_goes_away_and_comes_back(tmp_path):
    port = free_port()
    server = serve(tmp_path, port)
    uri = f"http://127.0.0.1:{port}"
    process = launch(tmp_path, *LONG, "trainer.epochs=400", "trainer.log_every=10", f"tracking.uri={uri}")
    when_training(process)
    time.sleep(4)
    stop(server)
    time.sleep(10)
    server = serve(tmp_path, port)
    out, _ = process.communicate(timeout=120)
    try:
        assert process.returncode == 0, out
        assert "is incomplete" not in out
        (run,) = in_mlflow(uri)
        from mlflow import MlflowClient

        sent = MlflowClient(uri).get_metric_history(run.info.run_id, "val/accuracy")
        (folder,) = (tmp_path / "runs").iterdir()
        assert run.info.status == "FINISHED"
        assert [(m.step, m.value) for m in sent] == open_folder(folder).metrics["val/accuracy"]
        assert len(sent) == 400
    finally:
        stop(server)
