"""The process that sends journals. `uploader` starts this module as a process of its own: MLflow takes two seconds of a
core to import and open a store, most of which pass beside the main process's own start, and holds no interpreter lock
that training needs. What is left of them would disturb the first second of training, which waits for the answer to
whether MLflow will take the run.
"""

import contextlib
import gc
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from odyssey_core.child_process import Parent
from odyssey_core.files import locked
from odyssey_run.signals import SIGNALS
from odyssey_run.tracking.client import (
    DENIALS,
    artifacts_at,
    fault_of,
    import_mlflow,
    is_deleted,
    make_client,
    refuses,
    transaction,
)
from odyssey_run.tracking.journal import Journal
from odyssey_run.tracking.location import ARTIFACT_FOLDER, Store, local_path
from odyssey_run.tracking.sender import Sender

INTERVAL = 1.0  # seconds between batches
TOGETHER = 20  # journals in one transaction, which keeps other processes from writing for a second
# What MLflow imports where it is there, and does not need to record a run: a quarter of its time and memory.
UNNEEDED = ("pandas", "pyarrow", "scipy", "sklearn", "matplotlib", "pygments", "psutil")
FASTAPI = SimpleNamespace(HTTPException=Exception)  # all that MLflow takes of it, for a gateway to language models


class Outbox:
    """The journals that one process sends: of one run, or of all runs of a sweep.

    Attributes:
        client: MLflow's; where it is not made yet, it is when something is first sent.
        waiting: journals that were told of and not begun to be sent.
        fault: why the last attempt failed.
        refused: what MLflow will never take of the runs that were sent to their end, and why.
    """

    def __init__(self, store: Store, client: Any = None):
        self.store, self.client = store, client
        self.fault: str | None = None
        self.refused: list[str] = []
        self._open: dict[Path, tuple[Sender, contextlib.ExitStack]] = {}  # with the lock on its folder
        self._ids: dict[str, str] = {}
        self.waiting: list[Path] = []
        self._closing = threading.Event()
        self._deadline = float("inf")

    def follow(self, path: Path) -> None:
        """Begins to send a journal; safe to call from another thread."""
        self.waiting.append(path)

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
                complete = not self._open and not self.waiting
                for _, lock in self._open.values():
                    lock.close()
                return complete
            time.sleep(INTERVAL) if closing else self._closing.wait(INTERVAL)

    def _send(self) -> None:
        if self.client is None:
            self.client = make_client(self.store)
        while self.waiting:
            path = self.waiting[0]
            if path not in self._open:  # a run that another worker continues is announced again
                with contextlib.ExitStack() as stack:
                    # A killed run's own process may still be sending what the run wrote: it is waited for.
                    stack.enter_context(locked(path.parent))
                    journal = Journal(path, owner=False)
                    stack.callback(journal.close)
                    sender = Sender(journal, self.store, self.client, self._ids)
                    self._open[path] = sender, stack.pop_all()
            self.waiting.pop(0)
        failed, paths = None, list(self._open)
        for begin in range(0, len(paths), TOGETHER):
            together = paths[begin : begin + TOGETHER]
            sent = self.store.database is not None and self._send_together(together)
            for path in together:
                try:
                    self._send_journal(path, sent)
                except Exception as error:  # one run's fault is not its neighbours'
                    failed = error
        if failed:
            raise failed

    def _send_together(self, paths: list[Path]) -> bool:
        """Sends what is new in some journals in one transaction; returns whether that is done, else MLflow has none."""
        try:
            with transaction(self.client):
                for path in paths:
                    self._open[path][0].send(at_once=True)
        except Exception:  # what it is comes to light when they are sent one by one
            self._ids.clear()
            for path in paths:
                sender, stack = self._open[path]
                self._open[path] = Sender(sender.journal, self.store, self.client, self._ids), stack
            return False
        return True

    def _send_journal(self, path: Path, sent: bool) -> None:
        """Sends what is new in a journal, unless that is ``sent``, and notes what came of it."""
        sender, lock = self._open[path]
        try:
            if not sent:
                sender.send()
        finally:
            sender.note()
            self.refused += sender.refused
            sender.refused = []
        if sender.done:
            del self._open[path]
            lock.close()


def serve(settings: dict[str, Any]) -> None:
    """The process; the settings are those of the `Store`.

    Where the main process is gone early, what it wrote until then is sent.
    """
    store, parent = Store(**settings), Parent()
    for number in SIGNALS:  # the process that gave the runs answers them, even where a scheduler signals every process
        signal.signal(number, signal.SIG_IGN)
    outbox = Outbox(store)
    questions: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(parent, outbox, questions), daemon=True).start()
    # An empty store is made when the run is certain: a mistake in what was asked for leaves nothing behind.
    with contextlib.suppress(Exception):  # reported when something is asked or sent
        _import_lightly(store)
        if store.database is None or store.database.exists():
            outbox.client = make_client(store)
    while (question := questions.get()) is not None:
        parent.say({"kind": "asked", **_answer(store, outbox.client, question["run_id"])})
    if outbox.waiting:
        done = outbox.run()
        parent.say({"kind": "closed", "done": done, "fault": outbox.fault, "refused": outbox.refused})
    os._exit(0)  # without a third of a second of tidying up what MLflow imported


def _listen(parent: Parent, outbox: Outbox, questions: "queue.SimpleQueue[dict[str, Any] | None]") -> None:
    """Hears, beside the imports, what the main process says: questions, each with the id of the run that it is about,
    journals' paths, and at last its patience. The questions end with None when the first journal is there, or nothing
    comes any more."""
    patience = 0.0
    for said in parent:
        if said["kind"] == "ask":
            questions.put(said)
        elif said["kind"] == "follow":
            outbox.follow(Path(said["journal"]))
            questions.put(None)
        else:
            patience = said["patience"]
            break
    outbox.close(patience)
    questions.put(None)


def _answer(store: Store, client: Any, run_id: str | None) -> dict[str, Any]:
    """What MLflow says to a run that is not begun: what it will not take, or why it does not answer."""
    if store.database and not store.database.exists():  # an empty store takes everything
        return {"faults": [], "silent": None}
    try:
        return {"faults": faults(client or make_client(store), store, run_id), "silent": None}
    except Exception as error:
        if refuses(error) or getattr(error, "error_code", None) in DENIALS:
            return {"faults": [f"tracking.uri: MLflow at {store.shown} refuses: {fault_of(error)}"], "silent": None}
        return {"faults": [], "silent": fault_of(error)}


def _import_lightly(store: Store) -> None:
    """Imports MLflow as if what it does not need were not installed."""
    absent = [name for name in UNNEEDED if name not in sys.modules]
    modules: dict[str, Any] = sys.modules
    modules.update(dict.fromkeys(absent))  # None: an import of it fails at once
    stands_in = modules.setdefault("fastapi", FASTAPI) is FASTAPI
    gc.disable()
    try:
        import_mlflow()
        if store.artifact_location is not None:  # a database: the client would import this, with the store locked
            import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    except ImportError:  # another MLflow needs one of them after all, or more
        for name in [n for n in sys.modules if n in absent or n.partition(".")[0] == "mlflow"]:
            del sys.modules[name]
    finally:
        if stands_in:
            del modules["fastapi"]
        gc.freeze()  # it all stays: looking through it once takes a quarter of a second
        gc.enable()


def faults(client: Any, store: Store, run_id: str | None) -> list[str]:
    """One line for each thing that would keep a run, or its files, from arriving; the id is that of a run that is
    continued. Raises whatever MLflow raises where it does not answer."""
    found = []
    how = f"MLFLOW_TRACKING_URI='{store.shown}' mlflow"
    experiment = client.get_experiment_by_name(store.experiment)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        found.append(
            f"tracking.experiment: {store.experiment!r} was deleted in MLflow; bring it back with "
            f"{how} experiments restore --experiment-id {experiment.experiment_id}, or choose another"
        )
    elif run_id and is_deleted(client, run_id):
        found.append(
            f"resume: run {run_id} was deleted in MLflow; bring it back with {how} runs restore --run-id {run_id}, "
            "or go on with tracking=none"
        )
    location = experiment.artifact_location if experiment else store.artifact_location
    if location is None:  # the server decides, and has decided for its own first experiment
        location = client.get_experiment("0").artifact_location
    if fault := _out_of_reach(location, store):
        found.append(f"tracking.uri: the artifacts of {store.experiment!r} are stored in {location}, {fault}")
    return found


def _out_of_reach(location: str, store: Store) -> str | None:
    """Why this machine cannot write files to a place, such as a path on the server's own disk."""
    if place := local_path(location):
        while not place.exists():
            place = place.parent
        if place.is_dir() and os.access(place, os.W_OK):
            return None
        hint = (
            ""
            if store.artifact_location
            else "; start mlflow server with --artifacts-destination, which passes them on"
        )
        return f"and {place} cannot be written{hint}"
    try:
        artifacts_at(location, store.uri).list_artifacts(ARTIFACT_FOLDER)
    except OSError:  # no answer now
        return None
    except Exception as error:  # a package that is missing, keys that are, or are not the right ones
        return f"which is out of reach: {fault_of(error)}"
    return None
