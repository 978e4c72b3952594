"""The journal's way into a real MLflow store: once, twice, after a crash, without an answer."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from journals import append, lines

from odyssey_run.config.schema import TrackingConfig
from odyssey_run.tracking.client import make_client
from odyssey_run.tracking.journal import Journal, load
from odyssey_run.tracking.location import Store, absolute, resolve
from odyssey_run.tracking.outbox import Outbox
from odyssey_run.tracking.sender import Sender
from odyssey_run.tracking.uploader import Uploader

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
    append(journal, "start", run=f"{folder}-1", name="lenet5-s0", params=params, tags={"odyssey.code": "abc"})
    for step in range(1, points + 1):
        append(journal, "metrics", step=step, values={"train/loss": 1 / step, "val/accuracy": step / 7})
    return journal


def end(journal: Journal, status: str = "FINISHED") -> None:
    append(journal, "artifact", path="config.yaml", folder="")
    append(journal, "artifact", path="config.yaml", folder="conf")
    append(journal, "end", status=status, reason=None)


def send_all(journal: Journal, store: Store, client=None, patience: float = 30) -> bool:
    outbox = Outbox(store, client)
    outbox.follow(journal.path)
    outbox.close(patience)
    return outbox.run()


def ids(journal: Journal) -> dict:
    return vars(load(journal.path).created)


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
    assert send_all(journal, store)
    client, (run,) = runs(store)
    records = lines(journal.path)
    sent = [(r["step"], r["time"], r["values"]["train/loss"]) for r in records if r["kind"] == "metrics"]
    assert history(client, run.info.run_id) == sent
    assert run.info.run_id == ids(journal)["run_id"]
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
    assert send_all(journal, store)
    before = lines(journal.path)
    assert send_all(journal, store)
    client, (run,) = runs(store)
    assert len(history(client, run.info.run_id)) == 5
    assert lines(journal.path) == before


def test_a_crash_between_making_the_run_and_noting_it(tmp_path, store):
    journal = write_run(tmp_path / "run")
    Sender(journal, store, make_client(store)).send()
    first = ids(journal)["run_id"]
    whole = journal.path.read_bytes()
    journal.close()
    lines = whole.splitlines(keepends=True)
    kept = [line for line in lines if b'"run_id"' not in line]
    assert len(kept) == len(lines) - 1
    journal.path.write_bytes(b"".join(kept))
    journal = Journal(journal.path)
    end(journal, "KILLED")
    assert send_all(journal, store)
    client, (run,) = runs(store)
    assert ids(journal)["run_id"] == first == run.info.run_id
    assert run.info.status == "KILLED"
    assert len(history(client, run.info.run_id)) == 5


@pytest.mark.parametrize("call", ["create_run", "log_batch", "log_artifact", "set_terminated"])
def test_a_failure_anywhere_is_repeated(tmp_path, store, call, monkeypatch):
    monkeypatch.setattr("odyssey_run.tracking.outbox.INTERVAL", 0.01)
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
    end(journal)
    assert send_all(journal, store, Flaky(make_client(store)))
    client, found = runs(store)
    assert len(found) == 1
    assert found[0].info.status == "FINISHED"
    assert len(history(client, found[0].info.run_id)) == 5


def test_a_server_that_never_answers_costs_a_line_and_no_record(tmp_path):
    journal = write_run(tmp_path / "run")
    end(journal)
    uploader = Uploader(Store("http://127.0.0.1:9", "emnist", None))
    uploader.follow(journal.path)
    assert not uploader.close(patience=0.5)
    assert uploader.fault
    assert "\n" not in uploader.fault
    assert len([r for r in lines(journal.path) if r["kind"] == "metrics"]) == 5


def test_the_process_follows_a_run_while_it_lasts(tmp_path, store):
    uploader = Uploader(store)
    _wait_for_its_imports(uploader._child.pid)  # which rest once training has begun
    journal = write_run(tmp_path / "run")
    uploader.follow(journal.path)
    deadline = time.monotonic() + 60
    while not any(r["kind"] == "tracking" and "run_id" in r for r in lines(journal.path)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    append(journal, "metrics", step=6, values={"train/loss": 0.5})
    end(journal)
    assert uploader.close()
    client, (run,) = runs(store)
    assert [step for step, _, _ in history(client, run.info.run_id)] == [1, 2, 3, 4, 5, 6]
    assert ids(journal)["experiment_id"] == run.info.experiment_id


ABANDONED = """
import os, sys, time
from pathlib import Path
from odyssey_run.tracking.location import Store
from odyssey_run.tracking.uploader import Uploader
uploader = Uploader(Store(sys.argv[1], "emnist", None))
if len(sys.argv) > 2:
    uploader.follow(Path(sys.argv[2]))
print(uploader._child.pid, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("begun", [True, False])
def test_when_the_main_process_is_killed_what_it_wrote_is_sent(tmp_path, store, begun):
    journal = write_run(tmp_path / "run")
    arguments = [store.uri, *([str(journal.path)] if begun else [])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", ABANDONED, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    deadline = time.monotonic() + 60
    while _alive(int(done.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    sent = [r for r in lines(journal.path) if "run_id" in r]
    assert len(sent) == begun
    if begun:
        assert len(history(make_client(store), sent[0]["run_id"])) == 5


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_for_its_imports(pid: int) -> None:
    """Until it has used no processor time for a second, or for as long as that usually takes."""
    stat, before = Path(f"/proc/{pid}/stat"), None
    for _ in range(30):
        time.sleep(1)
        used = stat.read_text().rpartition(")")[2].split()[11:13] if stat.exists() else None
        if used is not None and used == before:
            return
        before = used


def test_a_process_that_dies_costs_a_line(tmp_path, store):
    journal = write_run(tmp_path / "run")
    end(journal)
    uploader = Uploader(store)
    uploader._child.kill()
    uploader.follow(journal.path)
    assert not uploader.close()
    assert uploader.fault == "the process that sends was killed by SIGKILL"


def test_tables_are_made_whole_or_not_at_all(tmp_path, monkeypatch):
    def killed(*paths):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("odyssey_run.tracking.client.os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            make_client(store_in(tmp_path))
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
    assert make_client(store_in(tmp_path)).search_experiments()
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_one_process_sends_parent_and_children(tmp_path, store):
    parent = write_run(tmp_path / "parent")
    uploader = Uploader(store)
    uploader.follow(parent.path)
    (tmp_path / "child").mkdir()
    child = Journal(tmp_path / "child" / "journal.jsonl")
    start = lines(parent.path)[0]
    append(child, "start", run="child-1", parent=start["run"], name="child", params={}, tags={})
    append(child, "tags", values={"odyssey.claims": "held"})
    uploader.follow(child.path)
    for journal in (child, parent):
        append(journal, "end", status="FINISHED", reason=None)
    assert uploader.close(60), uploader.fault
    client, found = runs(store)
    tags = {run.info.run_name: run.data.tags for run in found}
    assert tags["child"]["mlflow.parentRunId"] == ids(parent)["run_id"]
    assert tags["child"]["odyssey.claims"] == "held"
    assert len(history(client, ids(parent)["run_id"])) == 5


def test_a_run_that_goes_on_is_running_again_until_it_ends(tmp_path, store):
    journal = write_run(tmp_path / "run")
    end(journal, "KILLED")
    assert send_all(journal, store)
    append(journal, "resume", process={})
    sender = Sender(journal, store, make_client(store))
    sender.send()
    client, (run,) = runs(store)
    assert (run.info.status, sender.done) == ("RUNNING", False)
    append(journal, "metrics", step=6, values={"train/loss": 0.5})
    end(journal)
    assert send_all(journal, store)
    client, (run,) = runs(store)
    assert run.info.status == "FINISHED"
    assert [step for step, _, _ in history(client, run.info.run_id)] == [1, 2, 3, 4, 5, 6]


def tracking(uri=None, experiment=None):
    return TrackingConfig("mlflow", uri, experiment, None)


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
    assert resolve(TrackingConfig("none", None, None, None), "emnist", {}) is None


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
        "log_artifact": OSError("no space left on the artifact store"),
        "log_batch": MlflowException("an error of the server's own"),
    }


@pytest.mark.parametrize("call", ["log_artifact", "log_batch"])
def test_what_may_come_later_holds_up_nothing_and_comes_later(tmp_path, store, call):
    journal = write_run(tmp_path / "run")
    end(journal)
    outbox = outbox_of(journal, store, Faulty(make_client(store), call, failures()[call]))
    assert not outbox.complete
    assert outbox.fault == str(failures()[call])
    client, (run,) = runs(store)
    assert run.info.status == ("FINISHED" if call == "log_artifact" else "RUNNING")
    assert len(history(client, run.info.run_id)) == (5 if call == "log_artifact" else 0)
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
    client.delete_run(sender.run_id)
    append(journal, "metrics", step=6, values={"train/loss": 0.1})
    sender.send()
    assert refusals(journal) == {"the run": "it was deleted in MLflow"}
    assert sender.refused == ["the run of run: it was deleted in MLflow"]
    end(journal)
    sender.send()
    assert sender.done
    sender.note_sent()
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


def test_a_registered_version_says_what_it_is(tmp_path, store, monkeypatch):
    # The registry goes by a setting of the whole process, which other tests must not find.
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
    journal = write_run(tmp_path / "run")
    (tmp_path / "run/model").mkdir()
    (tmp_path / "run/model/MLmodel").write_text("flavors: {}\n")
    append(journal, "tags", values={"mlflow.note.content": "**lenet5** on **emnist**"})
    append(journal, "model", path="model", step=5, register="reader")
    end(journal)
    assert send_all(journal, store)
    assert send_all(journal, store)
    client = make_client(store)
    (version,) = client.search_model_versions("name = 'reader'")
    assert (int(version.version), version.description) == (1, "**lenet5** on **emnist**")
    noted = [r for r in lines(journal.path) if "registered" in r]
    assert [(r["registered"], r["version"]) for r in noted] == [("reader", 1)]


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


def test_the_advised_command_shows_the_right_store(tmp_path):
    (tmp_path / "mlruns").mkdir()
    found = resolve(tracking(), "emnist", {}).command()
    assert found == f"mlflow ui --backend-store-uri 'sqlite:///{tmp_path}/mlflow.db'"


@pytest.mark.parametrize(
    ("text", "refused"),
    [("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.name", False), ("Invalid value for a tag", True)],
)
def test_a_constraint_that_two_processes_meet_is_no_refusal(text, refused):
    from odyssey_run.tracking.client import refuses

    error = RuntimeError(text)
    error.error_code = "BAD_REQUEST"
    assert refuses(error) is refused
