"""Workers on other machines: a Dask scheduler, which itself runs on SLURM, Kubernetes or SSH.

A worker finds or fetches the data on its own machine and sends its runs to the tracking server itself. What comes back
is the run's journal, so that everything after it, from the leaderboard to the next command, is as for local workers.
Dask gives the run of a worker that died to another, as often as its `distributed.scheduler.allowed-failures` says. It
cannot interrupt what runs, so a worker's runs are told: to stop, or whether they should be pruned.
"""

import logging
import os
import queue
import signal
import socket
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from odyssey_core.errors import ConfigError
from odyssey_core.files import write_atomic
from odyssey_run.config import sources
from odyssey_run.runs.recorded import begun, opened
from odyssey_run.signals import StopRequest
from odyssey_run.sweep.pool import Follow, Job, Report
from odyssey_run.tracking.journal import inherit
from odyssey_run.tracking.location import Store
from odyssey_run.tracking.names import JOURNAL

PATIENCE = 10  # seconds for the scheduler to answer
GONE = 60.0  # seconds without an answer after which a run takes its sweep to be gone; Dask does after 30

# Of a worker process, where several sweeps may be: by the id of the sweep's client.
_uploaders: dict[str, Any] = {}
_stopped: set[str] = set()
_running: dict[tuple[str, str], tuple[StopRequest, "queue.SimpleQueue[bool]"]] = {}  # and the run's folder
_lock = threading.Lock()


class SchedulerLost(ConfigError):
    """The scheduler went away, and what its workers do with it."""

    def __init__(self) -> None:
        super().__init__("sweep.address: the scheduler is gone; start it, and the same command goes on")


class Sealed(dict[str, Any]):
    """A job that says nothing of itself: Dask writes the arguments of what failed to its logs, passwords among them."""

    def __repr__(self) -> str:
        return f"Sealed(folder={self['folder']!r})"


class Cluster:
    """The methods of `pool.Pool` on Dask distributed, as many jobs as it has threads by default; with `prune` runs ask
    after each epoch whether to go on.

    Raises:
        ConfigError: no scheduler there, no workers, or Dask is not installed.
    """

    remote = True

    def __init__(self, address: str, jobs: int | None, prune: bool):
        try:
            from distributed import Client
        except ImportError:
            raise ConfigError("sweep.executor=dask: needs Dask; pip install 'ml-odyssey[cluster]'") from None
        try:
            self._client = Client(address, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConfigError(f"sweep.address: no Dask scheduler at {address} ({error})") from None
        threads = sum(self._client.nthreads().values())
        if not threads:
            self._client.close()
            raise ConfigError(f"sweep.address: the scheduler at {address} has no workers; start dask worker {address}")
        for name in ("distributed", "distributed.client"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what is wrong is said in one line
        self.jobs = jobs or threads
        self._prune, self._stopping = prune, False
        self._executor = self._client.get_executor(pure=False)
        self._submitted: dict[str, tuple[Future[str | None], Report]] = {}  # by folder
        # Not in Dask's own thread: Optuna waits for its database, an answer for a machine that may have died.
        self._answering = ThreadPoolExecutor(thread_name_prefix="answer")
        topic = _topic(self._client.id)
        self._client.subscribe_topic(topic, lambda event: self._answering.submit(self._answer, *event[1]))

    def submit(self, job: Job, follow: Follow, report: Report) -> "Future[None]":
        """A future that is done when the run is and its journal lies here, or when it was cancelled; the worker sends
        the run, and another thread asks `report` where there is pruning. Raises SchedulerLost, as the future does where
        it goes later."""
        if self._client.status != "running":
            raise SchedulerLost
        done: Future[None] = Future()

        def collect(remote: "Future[str | None]") -> None:
            del self._submitted[job["folder"]]  # a result that is held is made again when its worker dies
            try:
                if remote.cancelled():
                    if not self._stopping:  # by Dask, which lost the scheduler, if only for a moment
                        raise SchedulerLost
                elif text := remote.result():
                    write_atomic(Path(job["folder"]) / JOURNAL, text.encode())
                done.set_result(None)
            except BaseException as error:
                done.set_exception(error)

        remote = self._executor.submit(_run, Sealed(job), sources.digest(), self._client.id, self._prune)
        self._submitted[job["folder"]] = remote, report
        remote.add_done_callback(collect)
        return done

    def _answer(self, address: str, folder: str, epoch: int, value: float) -> None:
        if found := self._submitted.get(folder):
            should_prune = False
            with suppress(Exception):  # of Optuna's database: the run goes on, and the sweep meets it at its end
                should_prune = found[1](epoch, value)
            self._client.run(_tell, self._client.id, folder, should_prune, workers=[address], on_error="ignore")

    def stop(self) -> None:
        """Asks the runs in progress to end as killed, and takes back those that no worker has begun."""
        self._stopping = True
        with suppress(Exception):  # of a scheduler that is gone: Dask then takes all of them back
            found = self._client.run(_stop, self._client.id, on_error="ignore").values()
            told = {folder for folders in found for folder in folders}
            for folder, (remote, _) in list(self._submitted.items()):
                if folder not in told:
                    remote.cancel()

    def flush(self) -> list[str]:
        """Waits until the workers have sent their runs; what is wrong where they could not."""
        try:
            found = self._client.run(_flush, self._client.id, on_error="return").values()
        except Exception as error:  # whatever Dask raises where the scheduler is gone
            found = [f"the scheduler does not answer ({type(error).__name__})"]
        return [str(fault) for fault in found if fault]

    def close(self) -> None:
        """Lets go of the scheduler, and of what workers keep for a sweep that did not come to `flush`."""
        with suppress(Exception):
            self._client.run(_flush, self._client.id, wait=False)
        self._client.close()
        self._answering.shutdown()


def _run(job: Job, code: str, client: str, asks: bool) -> str | None:
    """On a worker: one run; returns its journal where the sweep's folder is not on this machine."""
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # where numba is not imported yet
    from distributed import get_worker

    from odyssey_run.sweep import worker
    from odyssey_run.tracking.uploader import Uploader

    if sources.digest() != code:
        raise ConfigError(f"the worker on {socket.gethostname()} has another version of ml-odyssey; install this one")
    folder, own = Path(job["folder"]), get_worker()
    asked = StopRequest()
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
    _running[client, job["folder"]] = asked, answers

    def follow(path: Path) -> None:
        with _lock:
            if client not in _uploaders:
                _uploaders[client] = Uploader(Store(**(job["store"] or {})))
            _uploaders[client].follow(path)

    def report(epoch: int, value: float) -> bool:
        if not asks:
            return False
        own.log_event(_topic(client), (own.address, job["folder"], epoch, value))
        try:
            return answers.get(timeout=GONE)
        except queue.Empty:
            asked.signum = signal.SIGTERM
            return False

    try:
        if begun(folder):  # by a worker that died
            inherit(folder / JOURNAL).close()
        if client not in _stopped:  # else it was given to this worker since
            worker.run(job, follow, report, asked)
    finally:
        del _running[client, job["folder"]]
    above = opened(folder.parent)
    shared = above is not None and above.key == job["parent"]
    return None if shared or not begun(folder) else (folder / JOURNAL).read_text()


def _topic(client: str) -> str:
    """The topic on which a sweep's runs ask; that of the client's id is for Dask's own events."""
    return f"odyssey-{client}"


def _tell(client: str, folder: str, should_prune: bool) -> None:
    """On a worker: the answer to a run's question."""
    if found := _running.get((client, folder)):
        found[1].put(should_prune)


def _stop(client: str) -> list[str]:
    """On a worker: asks a sweep's runs to end; returns their folders."""
    _stopped.add(client)
    own = [(folder, asked) for (whose, folder), (asked, _) in list(_running.items()) if whose == client]
    for _, asked in own:
        asked.signum = signal.SIGTERM
    return [folder for folder, _ in own]


async def _flush(client: str) -> str | None:
    """On a worker, which goes on answering the scheduler meanwhile: sends the rest; what is wrong where it cannot."""
    import asyncio

    uploader = _uploaders.pop(client, None)
    if uploader is None or (await asyncio.to_thread(uploader.close) and not uploader.refused):
        return None
    return f"{uploader.store.shown}: {'; '.join(uploader.refused) or uploader.fault}"
