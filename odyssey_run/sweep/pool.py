"""Worker processes on this machine, behind the Executor idea: submit a job, get a future."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from odyssey_core.machine import usable_cores

START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from odyssey_run.sweep.worker import serve; serve()"
THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ATTEMPTS = 2


class WorkerDied(Exception):
    """A worker ended in the middle of a job; says how."""


class Pool:
    """As many workers as jobs may run at once, with the cores shared out. A killed worker's job is tried once more.

    Args:
        jobs: how many.

    Attributes:
        remote: whether the workers send their runs to MLflow themselves.
    """

    remote = False

    def __init__(self, jobs: int):
        self.jobs = jobs
        self._cores = max(1, usable_cores() // jobs)
        self._threads = ThreadPoolExecutor(jobs, "worker")
        self._own = threading.local()
        self._workers: set[_Worker] = set()
        self._stopping = False
        # Before there is anything to do, so that imports pass beside the planning.
        self._spare = [self._start() for _ in range(jobs)]

    def submit(
        self, job: dict[str, Any], follow: Callable[[Path], None], report: Callable[[int, float], bool]
    ) -> "Future[None]":
        """A future that is done when the run is; it holds WorkerDied where the workers did not survive it.

        Args:
            job: see `worker.run`.
            follow: called with the path of the run's journal, in another thread.
            report: asked after each epoch, in another thread.
        """
        return self._threads.submit(self._drive, job, follow, report)

    def stop(self) -> None:
        """Asks the runs in progress to end as killed."""
        self._stopping = True
        for worker in list(self._workers):
            worker.process.terminate()

    def close(self) -> None:
        """Ends the workers at once."""
        self._stopping = True
        for worker in list(self._workers):
            worker.process.kill()
        self._threads.shutdown()
        for worker in self._workers:
            worker.close()

    def _start(self) -> "_Worker":
        worker = _Worker(self._cores)
        self._workers.add(worker)
        return worker

    def _drive(self, job: dict[str, Any], follow: Callable, report: Callable) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            if self._stopping:
                return
            worker = getattr(self._own, "worker", None) or (self._spare.pop() if self._spare else self._start())
            self._own.worker = worker
            try:
                worker.run(job, follow, report)
                return
            except Exception as error:
                self._own.worker = None
                worker.process.kill()
                worker.process.wait()  # until then it holds its run's journal
                if not isinstance(error, WorkerDied) or (attempt == ATTEMPTS and not self._stopping):
                    raise


class _Worker:
    """A process with so many threads, and what it says."""

    def __init__(self, threads: int):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the worker)
        apart = {"process_group": 0} if os.name == "posix" else {}  # Ctrl-C is the sweep's to answer
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | dict.fromkeys(THREADS, str(threads)),
            **apart,
        )

    def run(self, job: dict[str, Any], follow: Callable, report: Callable) -> None:
        """Gives it a job and waits for the end.

        Raises:
            WorkerDied: it ended first.
        """
        self._say(job)
        for line in self.process.stdout:
            if not line.endswith(b"\n"):
                break
            said = json.loads(line)
            if said["kind"] == "done":
                return
            if said["kind"] == "follow":
                follow(Path(said["path"]))
            else:
                self._say({"hopeless": report(said["epoch"], said["value"])})
        raise WorkerDied(self._ending())

    def _say(self, what: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # its end shows in what it says
            self.process.stdin.write(json.dumps(what).encode() + b"\n")
            self.process.stdin.flush()

    def _ending(self) -> str:
        code = self.process.wait()
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return "; ".join([f"its worker {how}", *last])

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self._errors):
            with suppress(BrokenPipeError):
                pipe.close()
