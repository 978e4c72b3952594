"""The process beside one run or a sweep that sends journals to MLflow: see `outbox`."""

import json
import os
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from odyssey_run.config.binding import Faults
from odyssey_run.tracking.location import Store

SERVER_PATIENCE, FILE_PATIENCE, SILENT_PATIENCE = 30.0, 10.0, 5.0  # seconds
HANGS = 120.0  # seconds beyond patience
QUESTION = 20.0  # seconds to wait before training for what MLflow says to it
# The address comes through the pipe: a command line is for everybody on the machine to read.
START = """
import json, sys
given = json.loads(sys.stdin.readline())
sys.path[:] = given["path"]
from odyssey_run.tracking.location import Store
from odyssey_run.tracking.outbox import main
main(Store(**given["store"]))
"""


class Uploader:
    """Starts the process, tells it where the journals are, and waits for it at the end.

    Args:
        store: where to send.

    Attributes:
        fault: why MLflow has not everything.
        refused: what MLflow will never take, and why.
    """

    def __init__(self, store: Store):
        self.store = store
        self.fault: str | None = None
        self.refused: list[str] = []
        self._asked = False
        self._patience = SERVER_PATIENCE if store.database is None else FILE_PATIENCE
        # A process group of its own: Ctrl-C in a terminal is for the run alone, which then waits for what is sent.
        apart = {"process_group": 0} if os.name == "posix" else {}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,  # nothing is left to flush into a process that died
            **apart,
        )
        self._heard: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._say(json.dumps({"path": sys.path, "store": vars(store)}))

    def ask(self, run_id: str | None = None) -> str | None:
        """Asks once, before anything is trained, whether MLflow will take the run.

        Args:
            run_id: of a run that is gone on with.

        Returns:
            Why MLflow does not answer, where it does not: the run can be sent later.

        Raises:
            Faults: it answers, and will not take the run.
        """
        if self._asked:
            return None
        self._asked = True
        self._say(f"ask {run_id or ''}")
        answer = self._hear("asked", QUESTION) or {"faults": [], "silent": self.fault}
        if answer["faults"]:
            raise Faults(answer["faults"])
        if answer["silent"]:  # it was told, and will hardly come as a surprise
            self._patience = SILENT_PATIENCE
        return answer["silent"]

    def follow(self, journal: Path) -> None:
        """Begins to send what a journal holds and will hold; a parent's before its children's."""
        self._say(f"follow {journal.absolute()}")

    def close(self, patience: float | None = None) -> bool:
        """Sends the rest; returns whether MLflow has everything that it will ever take, ``fault`` says why not.

        Args:
            patience: seconds to keep trying where MLflow does not answer; by default what suits the store.
        """
        patience = self._patience if patience is None else patience
        self._say(f"close {patience}")
        answer = self._hear("closed", patience + HANGS)
        self.abandon()
        if answer is None:
            return False
        self.fault, self.refused = answer["fault"], answer["refused"]
        return answer["done"]

    def abandon(self) -> None:
        """Ends the process at once."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()

    def _say(self, line: str) -> None:
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n".encode())

    def _listen(self) -> None:
        for line in self._process.stdout:
            self._heard.put(json.loads(line))
        self._heard.put({"kind": "gone"})

    def _hear(self, kind: str, seconds: float) -> dict[str, Any] | None:
        """The answer of a kind; None, with ``fault``, where it does not come."""
        try:
            while (answer := self._heard.get(timeout=seconds))["kind"] != kind:
                if answer["kind"] == "gone":
                    self._heard.put(answer)
                    self.fault = f"the process that sends ended with {self._process.wait()}"
                    return None
        except queue.Empty:
            self.fault = "it does not answer"
            return None
        return answer
