"""Worker processes on this machine: submit a job, get a future; `cluster.Cluster` has the same methods."""

import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict

from odyssey_core.child_process import Child
from odyssey_core.machine import usable_cores

THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ATTEMPTS = 2


Follow = Callable[[Path], None]  # hears of the journal of a run that is to be sent to MLflow
Report = Callable[[int, float], bool]  # epochs done and the metric's value; whether the run should be pruned


class Job(TypedDict):
    """A run of a sweep, as plain values that can be sent to another machine."""

    config: dict[str, Any]  # of the run, as composed
    overrides: list[str]
    plugins: list[dict[str, str]]  # as `plugins.packed` gives them
    name: str
    folder: str
    parent: str  # key of the sweep's own run
    tags: dict[str, str]  # for MLflow
    store: dict[str, Any] | None  # settings of the MLflow store; None for a run that is not sent
    metric: str


class WorkerDied(Exception):
    """A worker ended in the middle of a job; says how."""


class Pool:
    """As many workers as jobs may run at once, with the cores shared out. A killed worker's job is tried once more."""

    remote = False  # whether the workers send their runs to MLflow themselves

    def __init__(self, jobs: int):
        self.jobs = jobs
        self._cores = max(1, usable_cores() // jobs)
        self._threads = ThreadPoolExecutor(jobs, "worker")
        self._workers: set[_Worker] = set()
        self._stopping = False
        # Before there is anything to do, so that imports pass beside the planning.
        self._idle = [self._start() for _ in range(jobs)]

    def submit(self, job: Job, follow: Follow, report: Report) -> "Future[None]":
        """A future that is done when the run is; it holds WorkerDied where the workers did not survive it."""
        return self._threads.submit(self._drive, job, follow, report)

    def stop(self) -> None:
        """Asks the runs in progress to end as killed."""
        self._stopping = True
        for worker in list(self._workers):
            worker.terminate()

    def flush(self) -> list[str]:
        """Does nothing: the sweep sends the runs itself."""
        return []

    def close(self) -> None:
        self._stopping = True
        for worker in list(self._workers):
            worker.kill()
        self._threads.shutdown()
        for worker in self._workers:
            worker.close()

    def _start(self) -> "_Worker":
        worker = _Worker(self._cores)
        self._workers.add(worker)
        return worker

    def _drive(self, job: Job, follow: Follow, report: Report) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            if self._stopping:
                return
            worker = self._idle.pop()
            try:
                worker.run(job, follow, report)
                self._idle.append(worker)
                return
            except Exception as error:
                worker.kill()  # until its end it holds its run's journal
                if not self._stopping:
                    self._idle.append(self._start())
                if not isinstance(error, WorkerDied) or (attempt == ATTEMPTS and not self._stopping):
                    raise


class _Worker:
    """A process with so many threads, and what it says."""

    def __init__(self, threads: int):
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the worker)
        # Ctrl-C is the sweep's to answer.
        variables = dict.fromkeys(THREADS, str(threads))
        self._child = Child("odyssey_run.sweep.worker:serve", environment=variables, errors=self._errors, apart=True)
        self.terminate, self.kill = self._child.terminate, self._child.kill

    def run(self, job: Job, follow: Follow, report: Report) -> None:
        """Gives it a job and waits for the end. Raises WorkerDied where the process ends first."""
        self._child.say(job)
        while (said := self._child.hear()) is not None:
            if said["kind"] == "done":
                return
            if said["kind"] == "follow":
                follow(Path(said["path"]))
            else:
                self._child.say({"should_prune": report(said["epoch"], said["value"])})
        raise WorkerDied(self._ending())

    def _ending(self) -> str:
        how = self._child.ending()
        self._errors.seek(0)
        last = self._errors.read().decode(errors="replace").strip().splitlines()[-1:]
        return "; ".join([f"its worker {how}", *last])

    def close(self) -> None:
        self._child.close()
        self._errors.close()
