"""The journal's way into a real MLflow store: once, twice, after a crash, without an answer."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from journals import append, lines
from sending import end, history, ids, runs, send_all, store_in, write_run

from odyssey_run.tracking.client import make_client, put
from odyssey_run.tracking.journal import Journal
from odyssey_run.tracking.location import Store
from odyssey_run.tracking.sender import Sender
from odyssey_run.tracking.uploader import Uploader

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # MLflow's own, and those of what it imports
]


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
    sender = Sender(journal, store, make_client(store))
    sender.send()
    sender.note()
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


@pytest.mark.parametrize("call", ["create_run", "log_batch", "put", "set_terminated"])
def test_a_failure_anywhere_is_repeated(tmp_path, store, call, monkeypatch):
    monkeypatch.setattr("odyssey_run.tracking.outbox.INTERVAL", 0.01)
    failures = iter([True, True])

    def flaky(method):
        def answer_lost(*args, **kwargs):
            result = method(*args, **kwargs)
            if next(failures, False):
                raise ConnectionError("the answer was lost")
            return result

        return answer_lost

    class Flaky:
        def __init__(self, client):
            self._client = client

        def __getattr__(self, name):
            method = getattr(self._client, name)
            return flaky(method) if name == call else method

    if call == "put":
        monkeypatch.setattr("odyssey_run.tracking.sender.put", flaky(put))
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


def test_tables_are_kept_for_the_next_store(tmp_path, monkeypatch):
    monkeypatch.setenv("ODYSSEY_CACHE", str(tmp_path / "cache"))
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.chdir(folder)
        store = store_in(folder)
        (default,) = make_client(store).search_experiments()
        assert default.artifact_location == str(folder / "mlruns/0")
        journal = write_run(folder / "run")
        end(journal)
        assert send_all(journal, store)
        assert [run.info.status for run in runs(store)[1]] == ["FINISHED"]
        (kept,) = (tmp_path / "cache/mlflow").iterdir()
        with closing(sqlite3.connect(kept)) as connection, connection:
            assert connection.execute("SELECT * FROM experiments").fetchall() == []
            connection.execute("CREATE TABLE IF NOT EXISTS mark (x)")
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'mark'").fetchall() == [("mark",)]


@pytest.mark.parametrize("damage", [lambda whole: b"", lambda whole: b"x" * 5000, lambda whole: whole[:50_000]])
def test_damaged_tables_are_made_again(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("ODYSSEY_CACHE", str(tmp_path / "cache"))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    make_client(store_in(tmp_path / "first")).search_experiments()
    (kept,) = (tmp_path / "cache/mlflow").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    (default,) = make_client(store_in(tmp_path / "second")).search_experiments()
    assert default.name == "Default"
    assert kept.read_bytes().startswith(b"SQLite format 3") and kept.stat().st_size == len(whole)


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
    sender.note()
    client, (run,) = runs(store)
    assert (run.info.status, sender.done) == ("RUNNING", False)
    append(journal, "metrics", step=6, values={"train/loss": 0.5})
    end(journal)
    assert send_all(journal, store)
    client, (run,) = runs(store)
    assert run.info.status == "FINISHED"
    assert [step for step, _, _ in history(client, run.info.run_id)] == [1, 2, 3, 4, 5, 6]


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
