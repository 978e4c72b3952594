"""The journal's way into a real MLflow store: once, twice, after a crash, without an answer."""

import multiprocessing
import sys
import warnings
from pathlib import Path

import pytest

from odyssey_run.schema import TrackingConfig
from odyssey_run.tracking.journal import Journal, read
from odyssey_run.tracking.location import Store, resolve
from odyssey_run.tracking.uploader import Uploader, make_client

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # MLflow's own, and those of what it imports
]


def store_in(folder: Path, name: str = "mlflow.db", experiment: str = "emnist") -> Store:
    return Store(f"sqlite:///{folder / name}", experiment, (folder / "mlartifacts").as_uri())


def write_run(folder: Path, points: int = 5) -> Journal:
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: 0\n")
    journal = Journal(folder / "journal.jsonl")
    params = {"optim.lr": "0.01", "long": "x" * 7000} | {f"p{i}": str(i) for i in range(150)}
    journal.append("start", run=f"{folder}-1", name="lenet5-s0", params=params, tags={"odyssey.code": "abc"})
    for step in range(1, points + 1):
        journal.append("metrics", step=step, values={"train/loss": 1 / step, "val/accuracy": step / 7})
    return journal


def end(journal: Journal, status: str = "FINISHED") -> None:
    journal.append("artifact", path="config.yaml", folder="")
    journal.append("artifact", path="config.yaml", folder="conf")
    journal.append("end", status=status, reason=None)


def runs(store: Store):
    client = make_client(store)
    experiment = client.get_experiment_by_name(store.experiment)
    return client, client.search_runs([experiment.experiment_id])


def history(client, run_id, key="train/loss"):
    return [(m.step, m.timestamp, m.value) for m in client.get_metric_history(run_id, key)]


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """A store whose tables are made, to copy: making them takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    make_client(store_in(folder)).search_experiments()
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def store(tmp_path, empty_store):
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    return store_in(tmp_path)


def test_everything_arrives_with_the_journals_times(tmp_path, store):
    journal = write_run(tmp_path / "run")
    end(journal)
    uploader = Uploader(journal, store)
    assert uploader.close()
    client, (run,) = runs(store)
    records = read(journal.path)[0]
    sent = [(r["step"], r["time"], r["values"]["train/loss"]) for r in records if r["kind"] == "metrics"]
    assert history(client, run.info.run_id) == sent
    assert run.info.run_id == uploader.run_id
    assert (run.info.status, run.info.run_name) == ("FINISHED", "lenet5-s0")
    times = {r["kind"]: r["time"] for r in records}
    assert (run.info.start_time, run.info.end_time) == (times["start"], times["end"])
    assert run.data.params["optim.lr"] == "0.01"
    assert len(run.data.params) == 152
    assert len(run.data.params["long"]) == 6000
    assert run.data.tags["odyssey.code"] == "abc"
    assert {a.path for a in client.list_artifacts(run.info.run_id)} == {"config.yaml", "conf", "journal.jsonl"}
    assert run.info.artifact_uri.startswith((tmp_path / "mlartifacts").as_uri())
    tags = client.get_experiment(run.info.experiment_id).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert [r["kind"] for r in records][-1] == "sent"


def test_sent_twice_it_is_there_once(tmp_path, store):
    journal = write_run(tmp_path / "run")
    end(journal)
    assert Uploader(journal, store).close()
    before = read(journal.path)[0]
    assert Uploader(journal, store).close()
    client, (run,) = runs(store)
    assert len(history(client, run.info.run_id)) == 5
    assert read(journal.path)[0] == before


def test_a_crash_between_making_the_run_and_noting_it(tmp_path, store):
    journal = write_run(tmp_path / "run")
    uploader = Uploader(journal, store)
    uploader.send()
    whole = journal.path.read_bytes()
    journal.close()
    lines = whole.splitlines(keepends=True)
    kept = [line for line in lines if b'"run_id"' not in line]
    assert len(kept) == len(lines) - 1
    journal.path.write_bytes(b"".join(kept))
    journal = Journal(journal.path)
    end(journal, "KILLED")
    again = Uploader(journal, store)
    assert again.close()
    client, (run,) = runs(store)
    assert again.run_id == uploader.run_id == run.info.run_id
    assert run.info.status == "KILLED"
    assert len(history(client, run.info.run_id)) == 5


@pytest.mark.parametrize("call", ["create_run", "log_batch", "log_artifact", "set_terminated"])
def test_a_failure_anywhere_is_repeated(tmp_path, store, call, monkeypatch):
    monkeypatch.setattr("odyssey_run.tracking.uploader.INTERVAL", 0.01)
    failures = iter([True, True])

    class Flaky:
        def __init__(self, client):
            self._client = client

        def __getattr__(self, name):
            method = getattr(self._client, name)

            def answer_lost(*args, **kwargs):
                result = method(*args, **kwargs)
                if name == call and next(failures, False):
                    raise ConnectionError("the answer was lost")
                return result

            return answer_lost

    journal = write_run(tmp_path / "run")
    uploader = Uploader(journal, store, client=lambda s: Flaky(make_client(s)))
    uploader.start()
    end(journal)
    assert uploader.close()
    client, found = runs(store)
    assert len(found) == 1
    assert found[0].info.status == "FINISHED"
    assert len(history(client, found[0].info.run_id)) == 5


def test_a_server_that_never_answers_costs_a_line_and_no_record(tmp_path):
    journal = write_run(tmp_path / "run")
    end(journal)
    uploader = Uploader(journal, Store("http://127.0.0.1:9", "emnist", None))
    assert not uploader.close(patience=0.5)
    assert uploader.fault
    assert "\n" not in uploader.fault
    assert len([r for r in read(journal.path)[0] if r["kind"] == "metrics"]) == 5


def upload_one(folder: str, number: int) -> None:
    warnings.simplefilter("ignore")
    journal = write_run(Path(folder) / f"run{number}")
    end(journal)
    sys.exit(0 if Uploader(journal, store_in(Path(folder))).close(60) else 1)


def test_eight_processes_on_an_empty_store(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=upload_one, args=(str(tmp_path), n)) for n in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 8
    _, found = runs(store_in(tmp_path))
    assert [run.info.status for run in found] == ["FINISHED"] * 8
    assert sorted(p.name for p in tmp_path.iterdir() if "run" not in p.name) == ["mlartifacts", "mlflow.db"]


def tracking(uri=None, experiment=None):
    return TrackingConfig("mlflow", uri, experiment)


def test_where_runs_go(tmp_path):
    default = resolve(tracking(), "emnist", {})
    assert default.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert default.artifact_location == f"file://{tmp_path}/mlartifacts"
    assert default.experiment == "emnist"
    assert default.command() == "mlflow ui"
    asked = resolve(tracking("http://host:80/", "mine"), "emnist", {"MLFLOW_TRACKING_URI": "x"})
    assert (asked.uri, asked.experiment, asked.artifact_location) == ("http://host:80/", "mine", None)
    assert asked.address("1", "ab") == "http://host:80/#/experiments/1/runs/ab?workflowType=machine_learning"
    assert asked.command() is None
    environment = {"MLFLOW_TRACKING_URI": "sqlite:///other.db", "MLFLOW_EXPERIMENT_NAME": "theirs"}
    found = resolve(tracking(), "emnist", environment)
    assert (found.uri, found.experiment) == (f"sqlite:///{tmp_path}/other.db", "theirs")
    assert found.command() == f"mlflow ui --backend-store-uri 'sqlite:///{tmp_path}/other.db'"
    assert resolve(TrackingConfig("none", None, None), "emnist", {}) is None
