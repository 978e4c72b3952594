"""One run of a sweep, in a process that makes many: data are read once, kernels loaded once.

`serve` is the local worker, which is given jobs by the sweep's process and tells it what happens.
"""

import os
import queue
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from odyssey_core.child_process import Parent
from odyssey_run.config.plugins import unpacked
from odyssey_run.config.request import check
from odyssey_run.config.schema import FolderConfig, PlotsConfig
from odyssey_run.runs.events import EpochEnd, Listener, Pruned
from odyssey_run.runs.recorded import begun
from odyssey_run.runs.recorder import RunPlan
from odyssey_run.signals import StopRequest
from odyssey_run.sweep.pool import Follow, Job, Report
from odyssey_run.tracking.location import Store
from odyssey_run.tracking.uploader import SharedUploader
from odyssey_run.training.build import sharing
from odyssey_run.training.train import done_before, prepare, train_one

_made: dict[str, Any] = {}  # for all runs


class _Watch(Listener):
    """Asks after each epoch whether the run is worth going on with."""

    def __init__(self, metric: str, report: Report):
        self.metric, self.report = metric, report
        self.value: float | None = None

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.value = values.get(self.metric, self.value)

    def epoch(self, end: EpochEnd, train_s: float, images_per_s: float) -> None:
        if self.value is not None and self.report(end.epoch, self.value) and end.epoch < end.epochs:
            raise Pruned(f"pruned after epoch {end.epoch}: {self.metric} {self.value:.4g} is worse than the median")


def run(job: Job, follow: Follow, report: Report, asked: StopRequest | None = None) -> None:
    """Makes one run; how it ended is in its journal. `follow` hears of that where it is to be sent to MLflow, `report`
    is asked after each epoch, and `asked` may ask the run to stop, where the process's signals do not."""
    request = check(job["config"], tuple(job["overrides"]), plugins=unpacked(job["plugins"]))
    # Pictures take as long as a short run; those of the best point come with `experiment=best`.
    own = replace(request, run=FolderConfig(job["name"], None), plots=PlotsConfig(enabled=False))
    folder = Path(job["folder"])
    plan = RunPlan(
        own,
        SharedUploader(Store(**job["store"]), follow) if job["store"] else None,
        parent=job["parent"],
        tags=job["tags"],
        folder=folder,
        part=True,
        waits=False,  # the sweep does, once for all
        quiet=True,
        asked=asked or StopRequest(),
    )
    if done_before(plan, folder):
        return
    try:
        prepared = prepare(sharing(own, _made), folder)
    except Exception as error:
        record_startup_failure(plan, folder, error)
        return
    with suppress(Exception, KeyboardInterrupt):  # it is recorded, and the others go on
        train_one(plan, prepared, (_Watch(job["metric"], report),))


def record_startup_failure(plan: RunPlan, folder: Path, error: BaseException) -> None:
    """Records a run that failed before it began, or before it was continued."""
    opened = plan.resume(folder) if begun(folder) else plan.begin(plan.request.model.name, {})
    try:
        with opened:
            raise error
    except BaseException as raised:
        if raised is not error:
            raise


def serve() -> None:
    """Runs jobs until the sweep's process is gone: an unfinished run ends with it."""
    parent = Parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's to answer
    heard: queue.Queue[Any] = queue.Queue()

    def listen() -> None:
        for said in parent:
            heard.put(said)
        os._exit(0)

    def follow(path: Path) -> None:
        parent.say({"kind": "follow", "path": str(path)})

    def report(epoch: int, value: float) -> bool:
        parent.say({"kind": "report", "epoch": epoch, "value": value})
        return bool(heard.get()["should_prune"])

    threading.Thread(target=listen, daemon=True).start()
    while True:
        run(heard.get(), follow, report)
        parent.say({"kind": "done"})
