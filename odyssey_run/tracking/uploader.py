"""The process beside one run or a sweep that sends journals to MLflow: see `sender`."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from odyssey_run.tracking.location import Store

SERVER_PATIENCE, FILE_PATIENCE = 30.0, 10.0  # seconds
HANGS = 120.0  # seconds beyond patience
START = """
import json, sys
given = json.loads(sys.argv[1])
sys.path[:] = given["path"]
from odyssey_run.tracking.location import Store
from odyssey_run.tracking.sender import main
main(Store(**given["store"]))
"""


class Uploader:
    """Starts the process, tells it where the journals are, and waits for it at the end.

    Args:
        store: where to send.

    Attributes:
        fault: why MLflow has not everything.
    """

    def __init__(self, store: Store):
        self.store = store
        self.fault: str | None = None
        given = json.dumps({"path": sys.path, "store": vars(store)})
        # A process group of its own: Ctrl-C in a terminal is for the run alone, which then waits for what is sent.
        apart = {"process_group": 0} if os.name == "posix" else {}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", START, given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,  # nothing is left to flush into a process that died
            **apart,
        )

    def follow(self, journal: Path) -> None:
        """Begins to send what a journal holds and will hold; a parent's before its children's."""
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"follow {journal.absolute()}\n".encode())
            self._process.stdin.flush()

    def close(self, patience: float | None = None) -> bool:
        """Sends the rest; returns whether MLflow has everything, ``fault`` says why not.

        Args:
            patience: seconds to keep trying where MLflow does not answer; by default what suits a server or a file.
        """
        if patience is None:
            patience = SERVER_PATIENCE if self.store.database is None else FILE_PATIENCE
        try:
            out, _ = self._process.communicate(f"close {patience}\n".encode(), timeout=patience + HANGS)
            answer = json.loads(out)
        except subprocess.TimeoutExpired:
            self.fault = "it does not answer"
        except ValueError:
            self.fault = f"the process that sends ended with {self._process.returncode}"
        else:
            self.fault = answer["fault"]
            return answer["done"]
        finally:
            self.abandon()
        return False

    def abandon(self) -> None:
        """Ends the process at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()
