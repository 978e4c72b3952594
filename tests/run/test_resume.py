"""Runs that are killed at any moment and go on: the same weights, the same history, once."""

import fcntl
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stored import here

from odyssey_core.checkpoint import load_weights
from odyssey_core.files import stray_files
from odyssey_run.runs.recorded import open_folder
from odyssey_run.tracking.records import Resume
from odyssey_run.training.resume import BEFORE

COMMAND = [sys.executable, "-m", "odyssey_run.cli"]
RUN = ("plots.enabled=false", "data=digits", "trainer.validation_size=100", "trainer.epochs=40", "trainer.log_every=10")
RUN += ("trainer.checkpoint_s=0.1", "trainer.keep=best", "trainer.ema=0.99", "trainer.clip_norm=1", "optim=adamw")
MOMENTS = int(os.environ.get("ODYSSEY_KILLS", "4"))


def points(metrics: dict) -> dict:
    """{name: [(step, value), ...]} without what the machine was doing."""
    return {name: sorted(values) for name, values in metrics.items() if not name.startswith(("time/", "system/"))}


def weights_of(folder: Path) -> dict:
    return {name: w.tobytes() for name, w in load_weights(folder / "lenet5_weights" / "lenet5.safetensors")[0].items()}


def in_mlflow(folder: Path):
    """The one run in a folder's store, and its history as MLflow has it."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    history = {k: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, k)] for k in run.data.metrics}
    return run, points(history)


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen([*COMMAND, *RUN, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_for_the_first_sender(run: Path) -> None:
    """A killed run's own sender may still have been at it when `task=doctor` looked."""
    handle = os.open(run, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.close(handle)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted: its seconds, weights and history."""
    folder = tmp_path_factory.mktemp("whole")
    begun = time.monotonic()
    out, _ = start(folder, "run.dir=run").communicate(timeout=300)
    assert b"accuracy" in out, out
    return time.monotonic() - begun, weights_of(folder / "run"), points(open_folder(folder / "run").metrics)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("moment", range(MOMENTS))
def test_kill_9_at_any_moment(tmp_path, whole, moment):
    seconds, weights, history = whole
    random_, place = random.Random(moment), tmp_path / "place"
    process = start(place)
    time.sleep(random_.uniform(0.05, 1.05) * seconds)
    if moment % 2:  # and what sends, which may be in the middle of it
        subprocess.run(["pkill", "-9", "-P", str(process.pid)])
    process.kill()
    process.communicate()
    # A run that had said its last word needs only to be sent.
    over = any(b'"end"' in path.read_bytes() for path in place.glob("runs/*/journal.jsonl"))
    again = start(place, "task=doctor" if over else "resume=auto")
    out, _ = again.communicate(timeout=300)
    assert again.returncode == 0, out
    (run,) = [path.parent.parent for path in place.glob("runs/*/*_weights/*.safetensors")]
    wait_for_the_first_sender(run)
    recorded, sent = in_mlflow(place)
    assert weights_of(run) == weights
    assert points(open_folder(run).metrics) == history
    assert sent == history
    assert recorded.info.status == "FINISHED"
    left = {path.name for path in run.iterdir()} - {"uncommitted.diff"}
    assert left == {
        "config.yaml", "environment.json", "journal.jsonl", "lenet5_weights", "model", "statements.json", "train.log",
    }  # fmt: skip
    assert not list(stray_files(place))


ALONE = ("plots.enabled=false", "tracking=none", "trainer.checkpoint_s=0", "run.dir=run")
NETS = {
    "batch norm and an average": (
        "model=resnet8", "model.width=2", "data=digits", "backend=numpy", "trainer.batch_size=8",
        "trainer.validation_size=100", "trainer.train_size=80", "trainer.epochs=10", "trainer.ema=0.9",
    ),
    # The whitening filters are made of the images once; the slow weights lie between two steps of lookahead.
    "airbench": (
        "model=airbench", "model.size=93", "model.width=4", "data=noise", "data.count=250", "data.shape=[3,25,25]",
        "data.augment={flip: alternating, crop: 2, border: reflect}", "loss.label_smoothing=0.2", "optim.lr=0.1",
        "optim.momentum=0.85", "optim.nesterov=true", "scheduler=triangular", "trainer.batch_size=16",
        "optim.groups=[{match: '*.norm?.bias', lr: 8}, {match: whiten.bias, epochs: 3}]",
        "trainer.lookahead={every: 5, decay: 0.77, power: 3}", "trainer.tta=mirror", "trainer.epochs=40",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("net", NETS)
def test_kill_9_in_the_middle_of_training(tmp_path, net):
    """After two checkpoints, and before the last step."""
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    arguments = (*ALONE, *NETS[net])
    code, out = here(tmp_path / "whole", *arguments)
    assert code == 0, out
    process = subprocess.Popen([*COMMAND, *arguments], cwd=tmp_path / "cut", stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while not (tmp_path / "cut" / "run" / BEFORE).exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait() < 0, "it was killed before its end"
    code, out = here(tmp_path / "cut", *arguments, "resume=auto")
    assert code == 0, out
    whole, cut = (open_folder(tmp_path / name / "run") for name in ("whole", "cut"))
    assert len(cut.of(Resume)) == 1
    assert 0 < int(out.partition("resumed at step ")[2].split()[0]) < int(whole.tags["odyssey.step"])
    assert cut.tags["odyssey.weights.sha256"] == whole.tags["odyssey.weights.sha256"]
    assert points(cut.metrics) == points(whole.metrics)
