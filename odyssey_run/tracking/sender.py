"""The one way from a journal to MLflow: late, twice or after a crash, with the same run at the end.

`uploader` starts this module as a process of its own: MLflow takes two seconds of a core to import and open a store,
most of which pass beside the main process's own start, and holds no interpreter lock that training needs. What is left
of them disturbs the first second of training: one epoch of EMNIST, beside them, took 0.7 s longer, and the whole run
1.4 s less than one whose sender gave way until training was over.

Everything sent carries the journal's own times, so that sending it again changes nothing: MLflow drops a metric whose
time, step and value it has, a parameter with the value it has, and overwrites an artifact.
"""

import contextlib
import gc
import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from odyssey_core.errors import ConfigError
from odyssey_run.tracking import models
from odyssey_run.tracking.journal import MAX_PARAM, RUN_TAG, Journal, inside, read
from odyssey_run.tracking.location import Store

try:
    import fcntl
except ImportError:  # Windows: starting several runs at once on an empty store is not guarded there
    fcntl = None  # type: ignore[assignment]

INTERVAL = 1.0  # seconds between batches
MAX_FAULT = 200  # characters of MLflow's message
PARAMS_A_BATCH, METRICS_A_BATCH = 100, 1000  # MLflow's own limits
# What MLflow imports where it is there, and does not need to record a run: a quarter of its time and memory.
UNNEEDED = ("pandas", "pyarrow", "scipy", "sklearn", "matplotlib")


class Sender:
    """Follows a journal and sends what it says.

    Args:
        journal: of the run; what MLflow answers is written to it.
        store: where to send.
        client: MLflow's.

    Attributes:
        done: MLflow has everything up to the end of the run.
    """

    def __init__(self, journal: Journal, store: Store, client: Any):
        self.journal, self.store = journal, store
        self.run_id: str | None = None
        self.experiment_id: str | None = None
        self.done = False
        self._client = client
        self._offset = 0
        self._tried = False

    def send(self) -> None:
        """Sends what the journal holds beyond what was sent. Raises whatever MLflow raises; may be called again."""
        records, offset = read(self.journal.path, self._offset)
        # The thread looks at its own notes too: they only say how far an earlier attempt came.
        for record in records:
            if record["kind"] == "tracking":
                self._tried = True
                self.run_id = record.get("run_id", self.run_id)
                self.experiment_id = record.get("experiment_id", self.experiment_id)
        for kind, group in groupby(records, key=lambda record: record["kind"]):
            handler = getattr(self, f"_send_{kind}", None)
            if handler:
                handler(list(group))
        self._offset = offset

    def _send_start(self, records: list[dict[str, Any]]) -> None:
        for record in records:
            self._open_run(record)

    def _send_resume(self, records: list[dict[str, Any]]) -> None:
        self.done = False
        self._client.update_run(self.run_id, status="RUNNING")

    def _send_tags(self, records: list[dict[str, Any]]) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(key, value) for record in records for key, value in record["values"].items()]
        self._client.log_batch(self.run_id, tags=tags)

    def _send_artifact(self, records: list[dict[str, Any]]) -> None:
        for record in records:
            path = inside(self.journal.path.parent, record["path"])
            if path.is_dir():
                self._client.log_artifacts(self.run_id, str(path), record["path"])
            elif path.exists():  # else a checkpoint that a resumed run has left behind
                self._client.log_artifact(self.run_id, str(path), record["folder"] or None)

    def _send_model(self, records: list[dict[str, Any]]) -> None:
        before = [r for r in read(self.journal.path)[0] if r["kind"] == "metrics"]
        for record in records:
            folder = inside(self.journal.path.parent, record["path"])
            models.log(self._client, self.store.uri, self.run_id, self.experiment_id, folder, record, before)

    def _send_end(self, records: list[dict[str, Any]]) -> None:
        self._client.log_artifact(self.run_id, str(self.journal.path))
        self._client.set_terminated(self.run_id, records[-1]["status"], records[-1]["time"])
        self.done = True

    def note_sent(self) -> None:
        """Writes to the journal that MLflow has everything, once."""
        kinds = [r["kind"] for r in read(self.journal.path)[0] if r["kind"] in ("end", "sent")]
        if kinds[-1:] == ["end"]:
            self.journal.append("sent")

    def _send_metrics(self, batches: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric

        points = [Metric(k, v, r["time"], r["step"]) for r in batches for k, v in r["values"].items()]
        for i in range(0, len(points), METRICS_A_BATCH):
            self._client.log_batch(self.run_id, metrics=points[i : i + METRICS_A_BATCH])

    def _open_run(self, start: dict[str, Any]) -> None:
        from mlflow.entities import Param

        if self.run_id is None:
            self.experiment_id = self._experiment()
            # An attempt may have ended between making the run and noting its id.
            self.run_id = (self._find(start["run"]) if self._tried else None) or self._create(start)
            self.journal.append("tracking", run_id=self.run_id, experiment_id=self.experiment_id)
        params = [Param(key, value[:MAX_PARAM]) for key, value in start["params"].items()]
        for i in range(0, len(params), PARAMS_A_BATCH):
            self._client.log_batch(self.run_id, params=params[i : i + PARAMS_A_BATCH])
        if data := models.dataset(start["tags"]):
            self._client.log_inputs(self.run_id, [data])

    def _find(self, key: str) -> str | None:
        """MLflow's id of a run of ours."""
        known = self._client.search_runs([self.experiment_id], f"tags.`{RUN_TAG}` = '{key}'")
        return known[0].info.run_id if known else None

    def _create(self, start: dict[str, Any]) -> str:
        self.journal.append("tracking", state="creating")
        self._tried = True
        tags = {**start["tags"], RUN_TAG: start["run"]}
        if start.get("parent") and (parent := self._find(start["parent"])):
            tags["mlflow.parentRunId"] = parent
        return self._client.create_run(self.experiment_id, start["time"], tags, start["name"]).info.run_id

    def _experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = self.store.experiment
        with _alone(self.store.database):
            known = self._client.get_experiment_by_name(name)
            if known is not None:
                return known.experiment_id
            tags = {"mlflow.experimentKind": "custom_model_development"}
            try:
                return self._client.create_experiment(name, self.store.artifact_location, tags)
            except MlflowException:
                known = self._client.get_experiment_by_name(name)  # another process may have made it
                if known is None:
                    raise
                return known.experiment_id


class Outbox:
    """The journals that one process sends: of one run, or of all runs of a sweep.

    Args:
        store: where to send.
        client: MLflow's, if it is already made; otherwise it is when something is first sent.

    Attributes:
        fault: why the last attempt failed.
    """

    def __init__(self, store: Store, client: Any = None):
        self.store, self.fault, self._client = store, None, client
        self._open: dict[Path, tuple[Sender, int | None]] = {}  # with the lock on its folder
        self._waiting: list[Path] = []
        self._closing = threading.Event()
        self._deadline = float("inf")

    def follow(self, path: Path) -> None:
        """Begins to send a journal; safe to call from another thread."""
        self._waiting.append(path)

    def close(self, patience: float) -> None:
        """Lets ``run`` end once all is sent, or after so many seconds of failures."""
        self._deadline = min(self._deadline, time.monotonic() + patience)
        self._closing.set()

    def run(self) -> bool:
        """Sends about once a second until closed; returns whether MLflow has every run to its end."""
        while True:
            closing = self._closing.is_set()
            try:
                self._send()
                self.fault = None
            except Exception as error:  # whatever the tracking does, the training goes on
                self.fault = fault_of(error)
                if isinstance(error, ImportError):  # a database driver that is not installed does not come later
                    self._deadline = 0.0
            if closing and (self.fault is None or time.monotonic() > self._deadline):
                return not self._open and not self._waiting
            time.sleep(INTERVAL) if closing else self._closing.wait(INTERVAL)

    def _send(self) -> None:
        if self._client is None:
            self._client = make_client(self.store)
        while self._waiting:
            path = self._waiting[0]
            if path not in self._open:  # a run that another worker goes on with is told of again
                # A killed run's own process may still be sending what the run wrote: it is waited for.
                lock = _lock(path.parent)
                self._open[path] = (Sender(Journal(path, owner=False), self.store, self._client), lock)
            self._waiting.pop(0)
        failed = None
        for path, (sender, lock) in list(self._open.items()):
            try:
                sender.send()
                if sender.done:
                    sender.note_sent()
                    sender.journal.close()
                    _unlock(lock)
                    del self._open[path]
            except Exception as error:  # one run's fault is not its neighbours'
                failed = error
        if failed:
            raise failed


def import_mlflow() -> type:
    """MLflow's client class. Its settings are read at import: no telemetry, no minutes of retries within one call."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    import logging

    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient


def make_client(store: Store) -> Any:
    """MLflow's client for a store."""
    client = import_mlflow()
    with _alone(store.database):  # the client makes the tables of an empty store
        if store.database and not store.database.exists():
            _make_tables(client, store.database)
        return client(store.uri)


def reach(store: Store) -> Any:
    """MLflow's client for a store that must be there.

    Raises:
        ConfigError: it does not open.
    """
    try:
        return make_client(store)
    except Exception as error:  # whatever a database or a server answers with
        raise ConfigError(f"tracking.uri: {store.uri} does not open: {fault_of(error)}") from None


def _make_tables(client: type, database: Path) -> None:
    """A file with all of MLflow's tables or none: one killed among them leaves a store that never opens again."""
    for left in database.parent.glob(f".{database.name}.*"):
        left.unlink()
    temporary = database.with_name(f".{database.name}.{secrets.token_hex(4)}")  # MLflow remembers what it opened
    client(f"sqlite:///{temporary}").search_experiments()
    os.replace(temporary, database)


def fault_of(error: Exception) -> str:
    """One line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:MAX_FAULT]


@contextlib.contextmanager
def _alone(database: Path | None) -> Iterator[None]:
    """One process at a time: several that open an empty SQLite store together crash in its migrations."""
    lock = None if database is None else _lock(database.parent)
    try:
        yield
    finally:
        _unlock(lock)


def _lock(folder: Path) -> int | None:
    """Waits for the lock on a folder itself, so that no lock file is left behind."""
    if fcntl is None:
        return None
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def _unlock(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


def main(store: Store) -> None:
    """The process: hears of journals and at last of its patience from stdin, answers with a JSON object at its end.

    Where stdin ends early the main process is gone: what it wrote until then is sent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to answer
    said = _Said()
    client = None
    # An empty store is made when the run is certain: a mistake in what was asked for leaves nothing behind.
    with contextlib.suppress(Exception):  # told when something is sent
        _import_lightly(store)
        if store.database is None or store.database.exists():
            client = make_client(store)
    said.begun.wait()
    if said.paths:
        outbox = Outbox(store, client)
        said.tell(outbox)
        done = outbox.run()
        print(json.dumps({"done": done, "fault": outbox.fault}), flush=True)
    os._exit(0)  # without a third of a second of tidying up what MLflow imported


class _Said:
    """What the main process says, heard beside the imports: paths of journals, then the patience at its end."""

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self.begun, self.over = threading.Event(), threading.Event()
        self._patience = 0.0
        self._outbox: Outbox | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "close":
                self._patience = float(rest)
                break
            with self._lock:
                self.paths.append(Path(rest))
                if self._outbox:
                    self._outbox.follow(self.paths[-1])
            self.begun.set()
        self.over.set()
        self.begun.set()
        with self._lock:
            if self._outbox:
                self._outbox.close(self._patience)

    def tell(self, outbox: Outbox) -> None:
        """Passes on what was said and what will be."""
        with self._lock:
            self._outbox = outbox
            for path in self.paths:
                outbox.follow(path)
            if self.over.is_set():
                outbox.close(self._patience)


def _import_lightly(store: Store) -> None:
    """Imports MLflow as if what it does not need were not installed."""
    absent = [name for name in UNNEEDED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # None: an import of it fails at once
    gc.disable()
    try:
        import_mlflow()
        if store.artifact_location is not None:  # a database: the client would import this, with the store locked
            import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    except ImportError:  # another MLflow needs one of them after all
        for name in [n for n in sys.modules if n in absent or n.partition(".")[0] == "mlflow"]:
            del sys.modules[name]
    finally:
        gc.freeze()  # it all stays: looking through it once takes a quarter of a second
        gc.enable()
