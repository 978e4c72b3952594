"""One run of a sweep, in a process that makes many: data are read once, kernels loaded once.

`serve` is the local worker: it reads jobs and answers from stdin and writes what happens to stdout, a JSON object a
line. A job is plain values, so that it can also be sent to another machine.
"""

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from odyssey_run.config.plugins import unpacked
from odyssey_run.config.request import Component, Request, check
from odyssey_run.config.schema import FolderConfig, PlotsConfig
from odyssey_run.processes import StopRequest
from odyssey_run.runs.events import Listener, Pruned
from odyssey_run.runs.recorder import Session
from odyssey_run.sweep.ledger import PRUNED
from odyssey_run.tracking.location import Store
from odyssey_run.training import train

Report = Callable[[int, float], bool]  # epochs done and the metric's value; whether the run is hopeless
_datasets: dict[str, Any] = {}


class Relay:
    """Stands for the uploader, which is in another process.

    Args:
        store: where it sends to.
        follow: tells it of a journal.
    """

    def __init__(self, store: Store, follow: Callable[[Path], None]):
        self.store, self.follow = store, follow

    def ask(self, run_id: str | None) -> None:
        """Nothing: the sweep has asked."""


class _Watch(Listener):
    """Asks after each epoch whether the run is worth going on with."""

    def __init__(self, session: Session, metric: str, report: Report):
        self.session, self.metric, self.report, self.value = session, metric, report, None

    def metrics(self, step, values) -> None:
        self.value = values.get(self.metric, self.value)

    def epoch(self, epoch) -> None:
        if self.value is not None and self.report(epoch.epoch, self.value) and epoch.epoch < epoch.epochs:
            self.session.tags({PRUNED: "true"})
            raise Pruned(f"pruned after epoch {epoch.epoch}: {self.metric} {self.value:.4g} is worse than the median")


def run(job: dict[str, Any], follow: Callable[[Path], None], report: Report, asked: StopRequest | None = None) -> None:
    """Makes one run; how it ended is in its journal.

    Args:
        job: config, overrides, plugins, name, folder, parent, sweep, store, metric; see `conduct`.
        follow: is told of the journal where the run is to be sent to MLflow.
        report: asked after each epoch.
        asked: asks the run to stop, where the process's signals do not.
    """
    request = check(job["config"], tuple(job["overrides"]), plugins=unpacked(job["plugins"]))
    # Pictures take as long as a short run; those of the best point come with `experiment=best`.
    own = {"run": FolderConfig(job["name"], None), "plots": PlotsConfig(enabled=False)}
    request = replace(request, **own, data=_kept(request))
    session = Session(
        request,
        Relay(Store(**job["store"]), follow) if job["store"] else None,
        parent=job["parent"],
        tags={"odyssey.sweep": job["sweep"]},
        place=Path(job["folder"]),
        quiet=True,
    )
    session.asked = asked or session.asked
    try:
        train.train_child(session, _Watch(session, job["metric"], report))
    except Exception as error:  # the others go on
        if session.journal is None:
            bury(session, error)
    except KeyboardInterrupt:  # asked twice to stop: the journal has it
        pass


def bury(session: Session, error: BaseException) -> None:
    """Records a run that failed before it began."""
    try:
        session.begin(session.request.model.name, {})
        session.fail(error)
    finally:
        session.close()


def _kept(request: Request) -> Component:
    """The data's component with what it makes kept for the next run."""
    data = request.data
    key = json.dumps([data.name, data.arguments, *(p.digest for p in request.plugins)], sort_keys=True, default=str)

    def build(**_: Any) -> Any:
        if key not in _datasets:
            _datasets[key] = data.build()
        return _datasets[key]

    return Component(data.name, build, data.arguments)


def serve() -> None:
    """Runs jobs until stdin ends: then whoever gave them is gone, and an unfinished run with it."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the sweep's to answer
    heard: queue.Queue[dict[str, Any]] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            heard.put(json.loads(line))
        os._exit(0)

    def say(kind: str, **values: Any) -> None:
        out.write(json.dumps({"kind": kind, **values}) + "\n")

    def follow(path: Path) -> None:
        say("follow", path=str(path))

    def report(epoch: int, value: float) -> bool:
        say("report", epoch=epoch, value=value)
        return heard.get()["hopeless"]

    threading.Thread(target=listen, daemon=True).start()
    while True:
        run(heard.get(), follow, report)
        say("done")
