"""The one way from a journal to MLflow: late, twice or after a crash, with the same run at the end.

Everything sent carries the journal's own times, so that sending it again changes nothing: MLflow drops a metric whose
time, step and value it has, a parameter with the value it has, and overwrites an artifact.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from odyssey_run.tracking.journal import Journal, read
from odyssey_run.tracking.location import Store

try:
    import fcntl
except ImportError:  # Windows: starting several runs at once on an empty store is not guarded there
    fcntl = None  # type: ignore[assignment]

INTERVAL = 1.0  # seconds between batches
SERVER_PATIENCE, FILE_PATIENCE = 30.0, 10.0  # seconds
MAX_FAULT = 200  # characters of MLflow's message
PARAMS_A_BATCH, METRICS_A_BATCH = 100, 1000  # MLflow's own limits
MAX_PARAM = 6000  # characters
RUN_TAG = "odyssey.run"


class Uploader:
    """Follows a journal in a thread of its own.

    Args:
        journal: of the run; what MLflow answers is written to it.
        store: where to send.
        client: makes the MLflow client of a store; imports MLflow when it is called.
    """

    def __init__(self, journal: Journal, store: Store, client: Callable[[Store], Any] | None = None):
        self.journal, self.store = journal, store
        self.run_id: str | None = None
        self.experiment_id: str | None = None
        self.fault: str | None = None
        self._make_client = client or make_client
        self._client: Any = None
        self._offset = 0
        self._tried = False
        self._done = False
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to send. Importing MLflow takes the GIL for a second: call it when a long nogil call comes next."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="uploader", daemon=True)
            self._thread.start()

    def close(self, patience: float | None = None) -> bool:
        """Sends the rest and stops; returns whether MLflow has everything, ``fault`` says why not.

        Args:
            patience: seconds to keep trying where MLflow does not answer; by default what suits a server or a file.
        """
        if patience is None:
            patience = SERVER_PATIENCE if self.store.database is None else FILE_PATIENCE
        self._deadline = time.monotonic() + patience
        self._closing.set()
        self.start()
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(0.1)  # in portions, so that Ctrl-C is answered
        return self._done

    def send(self) -> None:
        """Sends what the journal holds beyond what was sent. Raises whatever MLflow raises; may be called again."""
        if self._client is None:
            self._client = self._make_client(self.store)
        records, offset = read(self.journal.path, self._offset)
        # The thread looks at its own notes too: they only say how far an earlier attempt came.
        for record in records:
            if record["kind"] == "tracking":
                self._tried = True
                self.run_id = record.get("run_id", self.run_id)
                self.experiment_id = record.get("experiment_id", self.experiment_id)
        self._send_metrics([r for r in records if r["kind"] == "metrics"], records)
        for record in records:
            if record["kind"] == "artifact":
                path = self.journal.path.parent / record["path"]
                self._client.log_artifact(self.run_id, str(path), record["folder"] or None)
            elif record["kind"] == "end":
                self._client.log_artifact(self.run_id, str(self.journal.path))
                self._client.set_terminated(self.run_id, record["status"], record["time"])
                if not any(r["kind"] == "sent" for r in records):
                    self.journal.append("sent")
                self._done = True
        self._offset = offset

    def _send_metrics(self, batches: list[dict[str, Any]], records: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric

        for record in records:
            if record["kind"] == "start":
                self._open_run(record)
        points = [Metric(k, v, r["time"], r["step"]) for r in batches for k, v in r["values"].items()]
        for i in range(0, len(points), METRICS_A_BATCH):
            self._client.log_batch(self.run_id, metrics=points[i : i + METRICS_A_BATCH])

    def _open_run(self, start: dict[str, Any]) -> None:
        from mlflow.entities import Param

        if self.run_id is None:
            self.experiment_id = self._experiment()
            if self._tried:  # an attempt that ended between making the run and noting its id
                known = self._client.search_runs([self.experiment_id], f"tags.`{RUN_TAG}` = '{start['run']}'")
                self.run_id = known[0].info.run_id if known else None
        if self.run_id is None:
            self.journal.append("tracking", state="creating")
            self._tried = True
            tags = {**start["tags"], RUN_TAG: start["run"]}
            run = self._client.create_run(self.experiment_id, start["time"], tags, start["name"])
            self.run_id = run.info.run_id
            self.journal.append("tracking", run_id=self.run_id, experiment_id=self.experiment_id)
        params = [Param(key, value[:MAX_PARAM]) for key, value in start["params"].items()]
        for i in range(0, len(params), PARAMS_A_BATCH):
            self._client.log_batch(self.run_id, params=params[i : i + PARAMS_A_BATCH])

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

    def _follow(self) -> None:
        # No niceness for this thread: one that holds the GIL without a core holds up the training.
        while True:
            closing = self._closing.is_set()
            try:
                self.send()
                self.fault = None
            except Exception as error:  # whatever the tracking does, the training goes on
                self.fault = (str(error).strip().splitlines() or [type(error).__name__])[0][:MAX_FAULT]
                if isinstance(error, ImportError):  # a database driver that is not installed does not come later
                    self._deadline = 0.0
            if closing and (self._done or self.fault is None or time.monotonic() > self._deadline):
                return
            time.sleep(INTERVAL) if closing else self._closing.wait(INTERVAL)


def make_client(store: Store) -> Any:
    """MLflow's client. Its settings are read at import: no telemetry, and no minutes of retries within one call."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import logging

    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with _alone(store.database):  # the client makes the tables of an empty store
        return MlflowClient(store.uri)


@contextlib.contextmanager
def _alone(database: Path | None) -> Iterator[None]:
    """One process at a time: several that open an empty SQLite store together crash in its migrations.

    The lock is on the folder, so that no lock file is left behind.
    """
    if database is None or fcntl is None:
        yield
        return
    folder = os.open(database.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
