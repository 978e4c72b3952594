"""What has been done already: runs in their folders, found by the identity of a point."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from odyssey_run.config import sources
from odyssey_run.config.request import Request
from odyssey_run.runs import provenance
from odyssey_run.runs.folder import RUNS
from odyssey_run.runs.recorded import opened, passing_over, readable
from odyssey_run.sweep.plan import Point
from odyssey_run.tracking.journal import FILE_NAME, first_record
from odyssey_run.tracking.location import Store
from odyssey_run.tracking.names import Status, Tag
from odyssey_run.tracking.records import End

LABEL_LENGTH = 80


class PointStatus(StrEnum):
    """What became of a point of a sweep, in the order of a leaderboard."""

    FINISHED = "FINISHED"
    PRUNED = "PRUNED"
    KILLED = "KILLED"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Result:
    """What a point came to.

    Args:
        reason: why it did not finish.
        value: of the sweep's metric.
        last: the last value of each metric.
        weights: SHA-256 of the weights.
    """

    point: Point
    folder: Path
    status: PointStatus
    reason: str | None = None
    value: float | None = None
    last: Mapping[str, float] = field(default_factory=dict, repr=False)
    weights: str | None = None

    @property
    def seconds(self) -> float | None:
        return self.last.get("time/run_s")


class FinishedRuns:
    """Looks runs up under runs/.

    Args:
        pruned: the folder of the sweep whose pruned runs are done too: what it stopped it does not go on with.
        look: False to find none.
    """

    def __init__(self, metric: str, maximizes: bool, pruned: Path, look: bool = True):
        self.metric, self.maximizes, self._pruned = metric, maximizes, pruned
        self._data: dict[str, str] = {}
        self._known: dict[tuple[str, str], list[Path]] = {}
        for path in sorted(RUNS.glob(f"**/{FILE_NAME}")) if look else ():
            with passing_over():
                if start := first_record(path):
                    key = start.tags.get(Tag.CONFIG_DIGEST, ""), start.tags.get(Tag.CODE_DIGEST, "")
                    self._known.setdefault(key, []).append(path.parent)

    def find(self, point: Point) -> Result | None:
        """The result of a point that is done already, perhaps under another name."""
        key = (provenance.identity(point.request.config), sources.digest(point.request.plugins))
        for folder, run in readable(self._known.get(key, ())):
            over = run.status == Status.FINISHED or (Tag.PRUNED in run.tags and folder.parent == self._pruned)
            with passing_over():  # the data may be damaged
                if over and run.tags.get(Tag.DATA_DIGEST) == self._digest(point.request):
                    return self.result(point, folder)
        return None

    def result(self, point: Point, folder: Path) -> Result:
        """What a run in a folder came to; one without an end, or without a journal, has failed."""
        if (run := opened(folder)) is None:
            return Result(point, folder, PointStatus.FAILED, "the run left no journal")
        ended = [each.reason for each in run.of(End)]
        curve = run.metrics.get(self.metric, ())
        value = curve[-1][1] if curve else None
        if curve and self.metric.startswith("val/") and point.request.trainer.keep == "best":
            value = (max if self.maximizes else min)(v for _, v in curve)
        last = {name: found[-1][1] for name, found in run.metrics.items()}
        return Result(
            point,
            folder,
            PointStatus.PRUNED if Tag.PRUNED in run.tags else PointStatus(run.status or Status.FAILED),
            ended[-1] if ended else None,
            value,
            last,
            run.tags.get(Tag.WEIGHTS_DIGEST),
        )

    def seconds(self, request: Request) -> float | None:
        """How long runs of this model on this data took before, for as many epochs."""
        found = []
        for _, run in readable(folder for folders in self._known.values() for folder in folders):
            config, last = run.config, run.metrics.get("time/run_s")
            alike = [(config[k]["name"], request.config[k]["name"]) for k in ("model", "data", "backend")]
            if last and run.status == Status.FINISHED and all(a == b for a, b in alike):
                steps = config["trainer"]["max_steps"], request.trainer.max_steps
                share = steps[1] / steps[0] if all(steps) else request.trainer.epochs / config["trainer"]["epochs"]
                found.append(last[-1][1] * share)
        return sum(found) / len(found) if found else None

    def _digest(self, request: Request) -> str:
        key = json.dumps([request.data.name, request.data.arguments], sort_keys=True, default=str)
        if key not in self._data:
            self._data[key] = request.data.build().digest
        return self._data[key]


def place(sweep: Path, point: Point) -> Path:
    """The folder for a point's run: that of an unfinished one to go on with, or a new one."""
    name = f"{slug(point.label)}-{point.identity[:8]}"
    count = 1
    while True:
        folder = sweep / (name if count == 1 else f"{name}-{count}")
        if (run := opened(folder)) is None:
            return folder
        if run.status in (None, Status.KILLED) and Tag.PRUNED not in run.tags and Tag.DATA_DIGEST in run.tags:
            return folder
        count += 1


def unsent_in(sweep: Path, store: Store) -> list[Path]:
    """The journals of a sweep and its runs that have ended and are not all uploaded to the store, which they name."""
    runs = readable([sweep, *(path.parent for path in sorted(sweep.glob(f"*/{FILE_NAME}")))])
    own = ((folder, run) for folder, run in runs if run.store and run.store["uri"] == store.named_in(folder))
    return [folder / FILE_NAME for folder, run in own if run.unsent]


def slug(label: str) -> str:
    """A label as a file's name."""
    return re.sub(r"[^A-Za-z0-9._+=-]+", "-", label).strip("-")[:LABEL_LENGTH] or "run"
