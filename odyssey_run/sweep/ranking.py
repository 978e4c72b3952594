"""The order of a leaderboard."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from odyssey_run.config import claims
from odyssey_run.sweep.finished import PointStatus, Result
from odyssey_run.sweep.plan import Trial

ORDER = list(PointStatus)


@dataclass(frozen=True)
class Row:
    """A trial with what its runs came to.

    Args:
        status: the worst of its runs'.
        value: mean of the metric over the seeds; None where a run has none.
        spread: standard deviation over the seeds; None for one.
        test: mean ``test/accuracy``.
        seconds: of all its runs.
    """

    trial: Trial
    results: tuple[Result, ...] = field(repr=False)
    status: PointStatus
    value: float | None
    spread: float | None
    test: float | None
    seconds: float

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
            math.fsum(result.seconds or 0.0 for result in own),
        )

    @property
    def label(self) -> str:
        return self.trial.label or "the configuration as it is"

    @property
    def height(self) -> float:
        """The value as it is drawn; nan where there is none."""
        return math.nan if self.value is None else self.value

    @property
    def missed(self) -> bool | None:
        """Whether the mean over the seeds misses a claim; None where nothing is claimed, or a run did not finish."""
        if not self.trial.expect or self.status != PointStatus.FINISHED:
            return None
        found = claims.report(claims.read(self.trial.expect), claims.means([result.last for result in self.results]))
        return any(claim["verdict"] != claims.HELD for claim in found)


def ranked(trials: Iterable[Trial], results: Mapping[str, Result], maximizes: bool) -> list[Row]:
    """Rows of the points that have ended, each once, the best first and what did not finish last."""
    sign = -1 if maximizes else 1
    rows = {trial.assignment: row for trial in trials if (row := Row.of(trial, results))}

    def place(row: Row) -> tuple[int, float]:
        return ORDER.index(row.status), math.inf if row.value is None else sign * row.value

    return sorted(rows.values(), key=place)


def tally(rows: Iterable[Row]) -> str:
    """How many have ended in which way: ``7 finished, 2 failed``."""
    return ", ".join(f"{count} {status.lower()}" for status, count in Counter(row.status for row in rows).items())


def number(metric: str, value: float | None) -> str:
    """A value of a metric, as a table has it."""
    return "" if value is None else f"{value:.2%}" if metric.endswith("accuracy") else f"{value:.4f}"


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None
