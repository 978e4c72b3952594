"""Workers on other machines: a Dask scheduler, which itself runs on SLURM, Kubernetes or SSH.

A worker finds or fetches the data on its own machine and sends its runs to the tracking server itself. What comes back
is the run's journal, so that everything after it, from the leaderboard to the next command, is as for local workers.
"""

import os
import socket
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from odyssey_core.checkpoint import write_atomic
from odyssey_core.errors import ConfigError
from odyssey_run import provenance
from odyssey_run.tracking.journal import FILE_NAME
from odyssey_run.tracking.location import Store

PATIENCE = 10  # seconds for the scheduler to answer
_uploaders: dict[str, Any] = {}  # of a worker process, by store


class Cluster:
    """The Executor idea on Dask distributed: submit a job, get a future.

    Args:
        address: of the scheduler.
        jobs: runs at once; None for as many as the cluster has threads.

    Attributes:
        remote: the workers send their runs to MLflow themselves.

    Raises:
        ConfigError: no scheduler there, no workers, or Dask is not installed.
    """

    remote = True

    def __init__(self, address: str, jobs: int | None):
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
        self.jobs = jobs or threads
        self._executor = self._client.get_executor(pure=False)

    def submit(self, job: dict[str, Any], follow: object, report: Callable[[int, float], bool]) -> "Future[None]":
        """A future that is done when the run is and its journal lies here.

        Args:
            job: see `worker.run`.
            follow: not called: the worker sends the run.
            report: not called: what is hopeless is known on one machine alone.
        """
        done: Future[None] = Future()

        def collect(remote: "Future[str]") -> None:
            try:
                journal = Path(job["folder"]) / FILE_NAME
                text = remote.result()
                if not journal.exists():  # the worker's folder is not this one
                    write_atomic(journal, text.encode())
                done.set_result(None)
            except BaseException as error:
                done.set_exception(error)

        self._executor.submit(_run, job, provenance.code_digest()).add_done_callback(collect)
        return done

    def stop(self) -> None:
        """Takes back what no worker has begun; what is running runs to its end there."""
        self._executor.shutdown(wait=False)

    def flush(self) -> list[str]:
        """Waits until the workers have sent their runs; what is wrong where they could not."""
        return [fault for faults in self._client.run(_flush).values() for fault in faults]

    def close(self) -> None:
        """Lets go of the scheduler."""
        self._client.close()


def _run(job: dict[str, Any], code: str) -> str:
    """On a worker: one run; returns its journal."""
    os.environ.setdefault("NUMBA_NUM_THREADS", "1")  # where numba is not imported yet
    from odyssey_run.sweep import worker
    from odyssey_run.tracking.uploader import Uploader

    if provenance.code_digest() != code:
        raise ConfigError(f"the worker on {socket.gethostname()} has another version of ml-odyssey; install this one")

    def follow(path: Path) -> None:
        uri = job["store"]["uri"]
        if uri not in _uploaders:
            _uploaders[uri] = Uploader(Store(**job["store"]))
        _uploaders[uri].follow(path)

    worker.run(job, follow, lambda epoch, value: False)
    return (Path(job["folder"]) / FILE_NAME).read_text()


def _flush() -> list[str]:
    faults = [f"{uri}: {up.fault}" for uri, up in _uploaders.items() if not up.close()]
    _uploaders.clear()
    return faults
