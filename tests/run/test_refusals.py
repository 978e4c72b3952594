"""What MLflow will not take, or not now: it is noted and told once, and holds up nothing behind it."""

import pytest
from journals import append, lines
from sending import end, history, runs, send_all, write_run

from odyssey_run.tracking.client import make_client
from odyssey_run.tracking.journal import Journal
from odyssey_run.tracking.location import Store
from odyssey_run.tracking.outbox import Outbox
from odyssey_run.tracking.sender import Sender

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # MLflow's own, and those of what it imports
]


def refusals(journal: Journal) -> dict[str, str]:
    return {r["what"]: r["reason"] for r in lines(journal.path) if r["kind"] == "refused"}


def outbox_of(journal: Journal, store: Store, client=None, patience: float = 0.0) -> Outbox:
    """One that has sent what it could."""
    outbox = Outbox(store, client)
    outbox.follow(journal.path)
    outbox.close(patience)
    outbox.complete = outbox.run()
    return outbox


def test_what_mlflow_refuses_holds_up_nothing_and_is_told_once(tmp_path, store):
    journal = write_run(tmp_path / "run")
    append(journal, "metrics", step=6, values={"acc@1": 0.5, "train/loss": 0.1, "a/../b": 1.0})
    append(journal, "tags", values={"x" * 300: "too long", "kept": "yes"})
    end(journal)
    outbox = outbox_of(journal, store)
    assert (outbox.complete, outbox.fault) == (True, None)
    assert set(refusals(journal)) == {"metric acc@1", "metric a/../b", f"tag {'x' * 300}"}
    assert len(outbox.refused) == 3
    assert outbox.refused[0].startswith("metric acc@1 of run: Invalid value")
    client, (run,) = runs(store)
    assert run.info.status == "FINISHED"
    assert [step for step, _, _ in history(client, run.info.run_id)] == [1, 2, 3, 4, 5, 6]
    assert run.data.tags["kept"] == "yes"
    again = outbox_of(journal, store)
    assert (again.complete, again.refused, len(refusals(journal))) == (True, [], 3)


def test_parameters_that_mlflow_refuses_are_the_only_ones_that_are_missing(tmp_path, store):
    journal = write_run(tmp_path / "run")
    lines = journal.path.read_bytes().replace(b'"p77"', b'"expect.acc@1"').replace(b'"p3"', b'"a[0]"')
    journal.path.write_bytes(lines)
    end(journal)
    assert outbox_of(journal, store).complete
    _, (run,) = runs(store)
    assert len(run.data.params) == 150
    assert set(refusals(journal)) == {"param expect.acc@1", "param a[0]"}


class Faulty:
    """A client one of whose methods fails."""

    def __init__(self, client, name, error):
        self._client, self._name, self._error = client, name, error

    def __getattr__(self, name):
        def fail(*_arguments, **_named):
            raise self._error

        return fail if name == self._name else getattr(self._client, name)


def failures():
    from mlflow.exceptions import MlflowException

    return {
        "put": OSError("no space left on the artifact store"),
        "log_batch": MlflowException("an error of the server's own"),
    }


@pytest.mark.parametrize("call", ["put", "log_batch"])
def test_what_may_come_later_holds_up_nothing_and_comes_later(tmp_path, store, call, monkeypatch):
    journal = write_run(tmp_path / "run")
    end(journal)
    faulty = Faulty(make_client(store), call, failures()[call])
    with monkeypatch.context() as patched:
        if call == "put":
            patched.setattr("odyssey_run.tracking.sender.put", faulty.put)
        outbox = outbox_of(journal, store, faulty)
    assert not outbox.complete
    assert outbox.fault == str(failures()[call])
    client, (run,) = runs(store)
    assert run.info.status == ("FINISHED" if call == "put" else "RUNNING")
    assert len(history(client, run.info.run_id)) == (5 if call == "put" else 0)
    assert send_all(journal, store)
    client, (run,) = runs(store)
    assert run.info.status == "FINISHED"
    assert len(history(client, run.info.run_id)) == 5
    assert client.list_artifacts(run.info.run_id)
    assert refusals(journal) == {}


def test_a_run_that_was_deleted_in_mlflow_is_noted_once_and_left_out(tmp_path, store):
    journal = write_run(tmp_path / "run")
    client = make_client(store)
    sender = Sender(journal, store, client)
    sender.send()
    sender.note()
    client.delete_run(sender.run_id)
    append(journal, "metrics", step=6, values={"train/loss": 0.1})
    sender.send()
    sender.note()
    assert refusals(journal) == {"the run": "it was deleted in MLflow"}
    assert sender.refused == ["the run of run: it was deleted in MLflow"]
    end(journal)
    sender.send()
    assert sender.done
    sender.note()
    assert lines(journal.path)[-1]["kind"] == "sent"
    again = outbox_of(journal, store)
    assert (again.complete, again.refused, len(refusals(journal))) == (True, [], 1)
    client.restore_run(sender.run_id)  # a change of mind
    assert send_all(journal, store)
    _, (run,) = runs(store)
    assert run.info.status == "FINISHED"


def test_no_file_outside_the_folder_is_sent(tmp_path, store):
    (tmp_path / "secret.txt").write_text("mine")
    journal = write_run(tmp_path / "run")
    folder = tmp_path / "run"
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "plots").mkdir()
    (folder / "plots/link.txt").symlink_to(tmp_path / "secret.txt")
    for path in ("../secret.txt", str(tmp_path / "secret.txt"), "link.txt", "plots", ".."):
        append(journal, "artifact", path=path, folder="")
    append(journal, "model", path="..", step=1, register=None)
    end(journal)
    assert outbox_of(journal, store).complete
    client, (run,) = runs(store)
    assert {a.path for a in client.list_artifacts(run.info.run_id)} == {"config.yaml", "conf", "journal.jsonl"}
    assert run.info.status == "FINISHED"
    assert set(refusals(journal).values()) == {"it is outside the run's folder"}
    assert "mine" not in "".join(p.read_text() for p in (tmp_path / "mlartifacts").rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("text", "refused"),
    [("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.name", False), ("Invalid value for a tag", True)],
)
def test_a_constraint_that_two_processes_meet_is_no_refusal(text, refused):
    from odyssey_run.tracking.client import refuses

    error = RuntimeError(text)
    error.error_code = "BAD_REQUEST"
    assert refuses(error) is refused
