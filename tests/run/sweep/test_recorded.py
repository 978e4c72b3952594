"""What MLflow shows of a run, of a point of a sweep and of the sweep: nothing that was there goes missing."""

import pytest
from small import SMALL
from stored import command, runs

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
PARAMS = {
    "seed", "model.name", "data.name", "data.mean", "data.std", "loss.name", "loss.label_smoothing", "optim.name",
    "optim.lr", "optim.momentum", "optim.nesterov", "optim.weight_decay", "scheduler.name", "scheduler.warmup",
    "trainer.batch_size", "trainer.epochs", "trainer.keep", "trainer.monitor", "backend.name",
}  # fmt: skip
METRICS = {
    "epoch", "train/loss", "train/lr", "train/epoch_loss", "train/accuracy", "val/loss", "val/accuracy", "test/loss",
    "test/accuracy", "time/train_s", "time/evaluation_s", "time/first_call_s", "time/run_s", "time/cpu_s",
    "time/images_per_s", "system/process_cpu_percentage", "system/process_memory_megabytes",
    "weight_norm/fc.weight", "weight_grad_norm/fc.weight",
}  # fmt: skip
TAGS = {
    "mlflow.note.content", "mlflow.runName", "mlflow.source.name", "mlflow.source.type", "mlflow.user",
    "odyssey.command", "odyssey.folder", "odyssey.process.boot", "odyssey.process.host", "odyssey.process.pid",
    "odyssey.run", "odyssey.run.sha256",
}  # fmt: skip
FILES = {"config.yaml", "journal.jsonl", "statements.json", "train.log"}
WEIGHTS = {"linear_weights/linear.safetensors"}
MODEL = {
    "MLmodel", "conda.yaml", "input_example.json", "python_env.yaml", "requirements.txt", "serving_input_example.json",
    "weights.safetensors",
}  # fmt: skip
SWEPT = {f"sweep.{key}" for key in ("strategy", "metric", "seed", "prune", "jobs", "executor", "dry_run", "rerun")}
BOARD = {"leaderboard.csv", "leaderboard.html", "experiment/best.yaml", "environment.json"}
POINT = {"mlflow.parentRunId", "odyssey.sweep", "odyssey.weights.sha256"}
# By name of the run: params, metrics, tags, artifacts. What is the same for all points is with the sweep alone.
EXPECTED = {
    "alone": (PARAMS, METRICS, TAGS | {"odyssey.weights.sha256"}, FILES | WEIGHTS | {"environment.json"}),
    "optim.lr=0.1": (PARAMS, METRICS, TAGS | POINT, FILES | WEIGHTS),
    "sweep:two": (
        PARAMS | SWEPT, {"best/val/accuracy"}, TAGS | {"odyssey.sweep", "odyssey.sweep.best"}, FILES | BOARD,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with a run, and with a sweep of two points."""
    folder = tmp_path_factory.mktemp("store")
    command(folder, *SMALL, "plots.enabled=false", "run.name=alone")
    command(folder, "-m", *SMALL, "optim.lr=0.1,0.2", "sweep.name=two", "sweep.jobs=1")
    return folder


def _files(client, run_id, below=None):
    for item in client.list_artifacts(run_id, below):
        yield from _files(client, run_id, item.path) if item.is_dir else [item.path]


@pytest.mark.parametrize("name", EXPECTED)
def test_nothing_is_missing_in_mlflow(made, name):
    client, found = runs(made)
    (run,) = (each for each in found if each.info.run_name == name)
    there = (*map(set, (run.data.params, run.data.metrics, run.data.tags)), set(_files(client, run.info.run_id)))
    assert [expected - held for expected, held in zip(EXPECTED[name], there, strict=True)] == [set()] * 4
    assert run.info.status == "FINISHED"


def test_a_point_says_where_the_rest_is_and_has_the_commit_of_its_sweep(made):
    _, found = runs(made)
    by_name = {run.info.run_name: run for run in found}
    sweep, points = by_name["sweep:two"], [by_name[f"optim.lr={lr}"] for lr in (0.1, 0.2)]
    for run in points:
        assert run.data.tags["mlflow.parentRunId"] == sweep.info.run_id
        assert "are among the artifacts of its parent run" in run.data.tags["mlflow.note.content"]
    commits = [run.data.tags.get("mlflow.source.git.commit") for run in (sweep, *points)]
    assert len(set(commits)) == 1


@pytest.mark.parametrize("name", ["alone", "optim.lr=0.1"])
def test_nothing_is_missing_of_a_model_and_its_data(made, name):
    client, found = runs(made)
    (run,) = (each for each in found if each.info.run_name == name)
    (told,) = run.inputs.dataset_inputs
    assert (told.dataset.name, told.tags[0].value) == ("digits", "training")
    (output,) = run.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert model.status == "READY"
    assert {metric.key for metric in model.metrics} == {"test/accuracy", "test/loss", "val/accuracy", "val/loss"}
    assert {item.path for item in client.list_logged_model_artifacts(model.model_id)} == MODEL
