"""What became of points: runs in their folders, found by the identity of a point, and their order on a leaderboard."""

import json
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from odyssey_run.config import claims, sources
from odyssey_run.config.request import Request
from odyssey_run.config.schema import SweepConfig
from odyssey_run.runs import provenance
from odyssey_run.runs.folder import RUNS, numbered
from odyssey_run.runs.recorded import RecordedRun, opened, passing_over, readable
from odyssey_run.sweep.plan import Point, Trial, label
from odyssey_run.tracking.journal import first_record
from odyssey_run.tracking.location import Store
from odyssey_run.tracking.names import JOURNAL, Status, Tag

LABEL_LENGTH = 80


class PointStatus(StrEnum):
    """What became of a point of a sweep, in the order of a leaderboard."""

    FINISHED = "FINISHED"
    PRUNED = "PRUNED"
    KILLED = "KILLED"
    FAILED = "FAILED"


ORDER = list(PointStatus)


@dataclass(frozen=True)
class Result:
    point: Point
    folder: Path
    status: PointStatus
    reason: str | None = None  # why it did not finish
    value: float | None = None  # of the sweep's metric
    last: Mapping[str, float] = field(default_factory=dict, repr=False)  # the last value of each metric
    weights: str | None = None  # SHA-256 of the weights


@dataclass(frozen=True)
class Row:
    """A trial with what its runs came to."""

    trial: Trial
    results: tuple[Result, ...] = field(repr=False)
    status: PointStatus  # the worst of its runs'
    value: float | None  # mean of the metric over the seeds; None where a run has none
    spread: float | None  # standard deviation over the seeds; None for one
    test: float | None  # mean `test/accuracy`
    seconds: float  # of all its runs

    @classmethod
    def of(cls, trial: Trial, results: Mapping[str, Result]) -> "Row | None":
        """The row; None while a run has not ended."""
        own = tuple(results[point.identity] for point in trial.points if point.identity in results)
        if len(own) < len(trial.points):
            return None
        values = [result.value for result in own if result.value is not None]
        complete = len(values) == len(own)
        return cls(
            trial,
            own,
            max((result.status for result in own), key=ORDER.index),
            _mean([result.value for result in own]),
            statistics.stdev(values) if complete and len(values) > 1 else None,
            _mean([result.last.get("test/accuracy") for result in own]),
            math.fsum(result.last.get("time/run_s", 0.0) for result in own),
        )

    @property
    def label(self) -> str:
        return label(self.trial.assignment) or "the configuration as it is"

    @property
    def height(self) -> float:
        """The value as it is drawn; nan where there is none."""
        return math.nan if self.value is None else self.value

    @property
    def missed(self) -> bool | None:
        """Whether the mean over the seeds misses a claim; None where nothing is claimed, or a run did not finish."""
        if not self.trial.expect or self.status != PointStatus.FINISHED:
            return None
        means = claims.means([result.last for result in self.results])
        return not claims.all_held(claims.report(self.trial.expect, means))


def ranked(trials: Iterable[Trial], results: Mapping[str, Result], maximizes: bool) -> list[Row]:
    """Rows of the points that have ended, each once, the best first and what did not finish last."""
    sign = -1 if maximizes else 1
    rows = {trial.assignment: row for trial in trials if (row := Row.of(trial, results))}

    def place(row: Row) -> tuple[int, float]:
        return ORDER.index(row.status), math.inf if row.value is None else sign * row.value

    return sorted(rows.values(), key=place)


def tally(rows: Iterable[Row]) -> str:
    """How many have ended in which way: ``7 finished, 2 failed``."""
    return ", ".join(f"{count:,} {status.lower()}" for status, count in Counter(row.status for row in rows).items())


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None


class FinishedRuns:
    """Looks runs up under runs/. What the sweep in the folder `pruned` stopped is done too: it is not gone on with."""

    def __init__(self, config: SweepConfig, pruned: Path):
        self.metric, self.maximizes, self._pruned = config.metric, config.maximizes, pruned
        self._data: dict[str, str] = {}
        self._known: dict[tuple[str, str], list[Path]] = {}
        for path in sorted(RUNS.glob(f"**/{JOURNAL}")) if not config.rerun else ():
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
                    return self.result(point, folder, run)
        return None

    def result(self, point: Point, folder: Path, run: RecordedRun | None) -> Result:
        """What a run in a folder came to; one without an end, or without a journal, has failed."""
        if run is None:
            return Result(point, folder, PointStatus.FAILED, "the run left no journal")
        curve = run.metrics.get(self.metric, ())
        value = curve[-1][1] if curve else None
        if curve and self.metric.startswith("val/") and point.request.trainer.keep == "best":
            value = (max if self.maximizes else min)(v for _, v in curve)
        return Result(
            point,
            folder,
            PointStatus.PRUNED if Tag.PRUNED in run.tags else PointStatus(run.status or Status.FAILED),
            run.reason,
            value,
            run.last,
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

    def fits(folder: Path) -> bool:
        run = opened(folder)
        unfinished = run and run.status in (None, Status.KILLED) and Tag.PRUNED not in run.tags
        return run is None or bool(unfinished and Tag.DATA_DIGEST in run.tags)

    return next(filter(fits, numbered(sweep / f"{slug(point.label)}-{point.identity[:8]}")))


def unsent_in(sweep: Path, store: Store) -> list[Path]:
    """The journals of a sweep and its runs that have ended and are not all uploaded to the store, which they name."""
    runs = readable([sweep, *(path.parent for path in sorted(sweep.glob(f"*/{JOURNAL}")))])
    own = ((folder, run) for folder, run in runs if run.store and run.store["uri"] == store.named_in(folder))
    return [folder / JOURNAL for folder, run in own if run.unsent]


def slug(label: str) -> str:
    """A label as a file's name."""
    return re.sub(r"[^A-Za-z0-9._+=-]+", "-", label).strip("-")[:LABEL_LENGTH] or "run"
