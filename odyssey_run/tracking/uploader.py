"""The process beside one run or a sweep that sends journals to MLflow: see `outbox`."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from odyssey_core.child_process import Child
from odyssey_run.config.binding import Faults
from odyssey_run.tracking.location import Store

SERVER_PATIENCE, FILE_PATIENCE, SILENT_PATIENCE = 30.0, 10.0, 5.0  # seconds
HANGS = 120.0  # seconds beyond patience
QUESTION = 20.0  # seconds to wait before training for what MLflow says to it


@dataclass(frozen=True)
class SharedUploader:
    """Tells of journals to an uploader that sends those of other runs too; whoever began these asks and closes it."""

    store: Store
    follow: Callable[[Path], None]


class Uploader:
    """Starts the process, tells it where the journals are, and waits for it at the end.

    Attributes:
        fault: why MLflow has not everything.
        refused: what MLflow will never take, and why.
    """

    def __init__(self, store: Store):
        self.store = store
        self.fault: str | None = None
        self.refused: list[str] = []
        self._patience = SERVER_PATIENCE if store.database is None else FILE_PATIENCE
        # Ctrl-C in a terminal is for the run alone, which then waits for what is sent.
        self._child = Child("odyssey_run.tracking.outbox:serve", vars(store), apart=True)
        self._heard: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def ask(self, run_id: str | None = None) -> str | None:
        """Asks, before anything is trained, whether MLflow will take the run, or the rest of one that has an id;
        returns why it does not answer, where it does not: the run can be sent later. Raises Faults: it will not take
        the run."""
        self._child.say({"kind": "ask", "run_id": run_id})
        answer = self._hear("asked", QUESTION) or {"faults": [], "silent": self.fault}
        if answer["faults"]:
            raise Faults(answer["faults"])
        silent: str | None = answer["silent"]
        if silent:  # the screen has said so already
            self._patience = SILENT_PATIENCE
        return silent

    def follow(self, journal: Path) -> None:
        """Begins to send what a journal holds and will hold; a parent's before its children's."""
        self._child.say({"kind": "follow", "journal": str(journal.absolute())})

    def close(self, patience: float | None = None) -> bool:
        """Sends the rest; returns whether MLflow has everything that it will ever take, ``fault`` says why not.

        Args:
            patience: seconds to keep trying where MLflow does not answer; by default what suits the store.
        """
        patience = self._patience if patience is None else patience
        self._child.say({"kind": "close", "patience": patience})
        answer = self._hear("closed", patience + HANGS)
        self.abandon()
        if answer is None:
            return False
        self.fault, self.refused = answer["fault"], answer["refused"]
        return answer["done"] is True

    def abandon(self) -> None:
        self._child.kill()
        self._listener.join()
        self._child.close()

    def _listen(self) -> None:
        while (answer := self._child.hear()) is not None:
            self._heard.put(answer)
        self._heard.put({"kind": "gone"})

    def _hear(self, kind: str, seconds: float) -> dict[str, Any] | None:
        """The answer of a kind; None, with ``fault``, where it does not come."""
        try:
            while (answer := self._heard.get(timeout=seconds))["kind"] != kind:
                if answer["kind"] == "gone":
                    self._heard.put(answer)
                    self.fault = f"the process that sends {self._child.ending()}"
                    return None
        except queue.Empty:
            self.fault = f"no answer in {seconds:g} s"
            return None
        return answer
