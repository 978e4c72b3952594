"""Several runs in one transaction of a SQLite file: all of them, or none, which are then sent one by one."""

from pathlib import Path

import pytest
from journals import append, lines
from sending import end, history, runs, write_run

from odyssey_run.tracking import sender
from odyssey_run.tracking.client import make_client, put
from odyssey_run.tracking.outbox import Outbox

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # MLflow's own, and those of what it imports
]
POINTS = ("a", "b", "c")


@pytest.fixture
def outbox(tmp_path, store):
    """One that has sent the beginning of a parent, and was told of three runs under it that have ended."""
    parent = write_run(tmp_path / "parent")
    outbox = Outbox(store, make_client(store))
    outbox.follow(parent.path)
    outbox._send()
    for name in POINTS:
        journal = write_run(tmp_path / name)
        place = tmp_path / name / "model"
        place.mkdir()
        (place / "MLmodel").write_text("flavors: {}\n")
        append(journal, "metrics", step=5, values={"test/accuracy": 0.5})
        append(journal, "model", path="model", step=5, register=None)
        end(journal)
        outbox.follow(journal.path)
    return outbox


@pytest.fixture
def commits():
    """The transactions that wrote something, as SQLAlchemy tells of them."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    found = []

    def note(connection):
        if connection.connection.dbapi_connection.in_transaction:
            found.append(connection)

    event.listen(Engine, "commit", note)
    yield found
    event.remove(Engine, "commit", note)


def whole(tmp_path: Path, store) -> bool:
    """Whether MLflow has each of the three once, to its end, and their journals say so."""
    client, found = runs(store)
    ended = {run.info.run_id: run for run in found if run.info.status == "FINISHED"}
    assert len(found) == len(POINTS) + 1
    for run_id, run in ended.items():
        (output,) = run.outputs.model_outputs
        model = client.get_logged_model(output.model_id)
        assert model.status == "READY"
        assert {metric.key for metric in model.metrics} == {"test/accuracy", "val/accuracy"}
        assert [item.path for item in client.list_logged_model_artifacts(model.model_id)] == ["MLmodel"]
        assert {item.path for item in client.list_artifacts(run_id)} == {"config.yaml", "conf", "journal.jsonl"}
        assert len(run.data.params) == 152
        assert len(history(client, run_id)) == 5
    said = [line["run_id"] for name in POINTS for line in lines(tmp_path / name / "journal.jsonl") if "run_id" in line]
    return sorted(said) == sorted(ended) and len(said) == len(POINTS)


def test_what_has_ended_since_is_one_transaction(tmp_path, store, outbox, commits):
    outbox._send()
    assert len(commits) == 1
    assert whole(tmp_path, store)


def test_what_fails_in_one_takes_back_all_and_each_comes_by_itself(tmp_path, store, outbox, commits, monkeypatch):
    failures = iter([True, True])  # at once, and by itself

    def failing(path, *rest):
        if path.parent.name == "b" and next(failures, False):
            raise OSError("no space left")
        put(path, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(sender, "put", failing)
        with pytest.raises(OSError, match="no space left"):
            outbox._send()
    assert len(commits) > len(POINTS)
    sent = [name for name in POINTS if lines(tmp_path / name / "journal.jsonl")[-1]["kind"] == "sent"]
    assert sent == ["a", "c"]
    outbox._send()
    assert whole(tmp_path, store)


def test_what_mlflow_gets_over_by_itself_is_not_lost(tmp_path, store, outbox, monkeypatch):
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import text

    log_outputs, calls = SqlAlchemyStore.log_outputs, []

    def rolled_back(self, run_id, models):
        calls.append(run_id)
        log_outputs(self, run_id, models)
        if len(calls) == 2:
            with self.ManagedSessionMaker(read_only=False) as session:
                session.execute(text("SELECT 1"))
                session.rollback()

    monkeypatch.setattr(SqlAlchemyStore, "log_outputs", rolled_back)
    outbox._send()
    assert len(calls) > len(POINTS)
    assert whole(tmp_path, store)


def test_a_model_is_registered_by_itself(tmp_path, store, outbox, monkeypatch):
    # The registry goes by a setting of the whole process, which other tests must not find.
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
    content = (tmp_path / "c/journal.jsonl").read_bytes()
    (tmp_path / "c/journal.jsonl").write_bytes(content.replace(b'"register":null', b'"register":"reader"'))
    outbox._send()
    assert whole(tmp_path, store)
    (version,) = make_client(store).search_model_versions("name = 'reader'")
    assert int(version.version) == 1
