"""Where a run's store is: by setting, from its journal, and after its folder was moved or copied."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from sending import end, runs, send_all, store_in, write_run

from odyssey_run.config.schema import TrackingConfig
from odyssey_run.tracking.location import absolute, resolve

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # MLflow's own, and those of what it imports
]


def tracking(uri=None, experiment=None):
    return TrackingConfig("mlflow", uri, experiment, None)


def test_where_runs_go(tmp_path):
    default = resolve(tracking(), "emnist", {})
    assert default.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert default.artifact_location == f"file://{tmp_path}/mlartifacts"
    assert default.experiment == "emnist"
    assert not default.served
    asked = resolve(tracking("http://host:80/", "mine"), "emnist", {"MLFLOW_TRACKING_URI": "x"})
    assert (asked.uri, asked.experiment, asked.artifact_location) == ("http://host:80/", "mine", None)
    assert asked.address("1", "ab") == "http://host:80/#/experiments/1/runs/ab?workflowType=machine_learning"
    assert asked.served
    environment = {"MLFLOW_TRACKING_URI": "sqlite:///other.db", "MLFLOW_EXPERIMENT_NAME": "theirs"}
    found = resolve(tracking(), "emnist", environment)
    assert (found.uri, found.experiment) == (f"sqlite:///{tmp_path}/other.db", "theirs")
    assert resolve(TrackingConfig("none", None, None, None), "emnist", {}) is None


def move(folder: Path, to: Path, copied: bool) -> None:
    shutil.copytree(folder, to) if copied else folder.rename(to)


@pytest.mark.parametrize("copied", [True, False])
def test_artifacts_follow_a_folder_that_was_moved_or_copied(tmp_path, empty_store, copied):
    before, after = tmp_path / "be fore", tmp_path / "after"
    before.mkdir()
    (before / "mlflow.db").write_bytes(empty_store)
    journal = write_run(before / "run")
    end(journal)
    assert send_all(journal, store_in(before))
    journal.close()
    move(before, after, copied)
    client, (run,) = runs(store_in(after))
    assert run.info.artifact_uri.startswith((after / "mlartifacts").as_uri())
    client.download_artifacts(run.info.run_id, "config.yaml", str(tmp_path))
    second = write_run(after / "second")
    end(second)
    assert send_all(second, store_in(after))
    assert before.exists() == copied
    assert len(list(after.glob("mlartifacts/*"))) == 2
    if copied:
        assert len(list(before.glob("mlartifacts/*"))) == 1
        assert runs(store_in(before))[1][0].info.artifact_uri.startswith((before / "mlartifacts").as_uri())


def test_artifacts_that_were_put_elsewhere_on_purpose_stay_there(tmp_path, store):
    elsewhere = (tmp_path / "big disk/mlartifacts").as_uri()
    journal = write_run(tmp_path / "run")
    end(journal)
    assert send_all(journal, replace(store, artifact_location=elsewhere))
    (tmp_path / "mlartifacts").mkdir()
    _, (run,) = runs(store)
    assert run.info.artifact_uri.startswith(elsewhere)


@pytest.mark.parametrize("name", ["what?", "100%41", "a#b c'd", "naïve"])
def test_a_folder_of_any_name_keeps_its_store(tmp_path, name, monkeypatch):
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    store = resolve(tracking(), "emnist", {})
    journal = write_run(folder / "run")
    end(journal)
    assert send_all(journal, store)
    assert {path.name for path in folder.iterdir()} == {"run", "mlflow.db", "mlartifacts"}
    assert [path.name for path in tmp_path.iterdir()] == [name]
    client, (run,) = runs(store)
    assert client.download_artifacts(run.info.run_id, "config.yaml", str(tmp_path))


def test_what_a_journal_calls_its_store(tmp_path):
    default = resolve(tracking(), "emnist", {})
    assert default.named_in(tmp_path / "runs/a") == "sqlite:///../../mlflow.db"
    assert default.named_in(Path("runs/s/a")) == "sqlite:///../../../mlflow.db"
    assert default.named_in(Path("/elsewhere/a")) == f"sqlite:///{tmp_path}/mlflow.db"
    assert absolute("sqlite:///../../mlflow.db", tmp_path / "runs/a") == f"sqlite:///{tmp_path}/mlflow.db"
    server = resolve(tracking("http://maria:pw@host"), "emnist", {})
    assert server.named_in(tmp_path) == "http://maria:***@host" == absolute("http://maria:***@host", tmp_path)
