"""What a worker is told of a run, as plain values that can be sent to another machine, and what runs it."""

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol, TypedDict

Follow = Callable[[Path], None]  # is told of the journal of a run that is to be sent to MLflow
Report = Callable[[int, float], bool]  # epochs done and the metric's value; whether the run should be pruned


class Job(TypedDict):
    """A run of a sweep.

    Attributes:
        config: of the run, as composed.
        plugins: as `plugins.packed` gives them.
        parent: key of the sweep's own run.
        tags: for MLflow.
        store: settings of the MLflow store; None for a run that is not sent.
    """

    config: dict[str, Any]
    overrides: list[str]
    plugins: list[dict[str, str]]
    name: str
    folder: str
    parent: str
    tags: dict[str, str]
    store: dict[str, Any] | None
    metric: str


class Executor(Protocol):
    """Runs jobs, each of which gives a future."""

    jobs: int  # runs at once
    remote: bool  # whether the workers send their runs to MLflow themselves

    def submit(self, job: Job, follow: Follow, report: Report) -> "Future[None]":
        """A future that is done when the run is."""

    def stop(self) -> None:
        """Asks the runs in progress to end as killed."""

    def flush(self) -> list[str]:
        """Waits until remote workers have sent their runs; what is wrong where they could not."""

    def close(self) -> None:
        """Ends the workers, or lets go of them."""
