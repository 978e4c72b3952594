"""What a run is expected to reach: ``expect: {test/accuracy: ">= 0.86"}``, and whether it did."""

import json
import math
import operator
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from odyssey_core.errors import ConfigError
from odyssey_run.tracking.names import metric_fault

OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
CONDITION = re.compile(r"\s*(>=|<=|>|<)\s*(\S+)\s*")
OF_THE_MACHINE = ("time/", "system/")  # metrics that come out otherwise the next time
HELD, MISSED, UNDEFINED = "held", "missed", "undefined"
TAG = "odyssey.claims"


@dataclass(frozen=True)
class Claim:
    """One line of ``expect``.

    Args:
        metric: its name.
        relation: one of ``OPERATORS``.
        bound: the figure.
    """

    metric: str
    relation: str
    bound: float

    def verdict(self, metrics: Mapping[str, float]) -> str:
        """``held``, ``missed``, or ``undefined`` where the metric never came, which is not held."""
        if self.metric not in metrics:
            return UNDEFINED
        return HELD if OPERATORS[self.relation](metrics[self.metric], self.bound) else MISSED


def read(expect: Mapping[str, object]) -> list[Claim]:
    """The claims of a configuration.

    Raises:
        ConfigError: a name that MLflow does not take, a condition that is not a relation and a number, or one on what
            the machine decides.
    """
    claims = []
    for metric, condition in expect.items():
        if fault := metric_fault(str(metric)):
            raise ConfigError(f"expect.{metric}: {fault}")
        if str(metric).startswith(OF_THE_MACHINE):
            raise ConfigError(
                f"expect.{metric}: depends on the machine and on what else it does, so it is recorded and not held; "
                "expect what training decides, such as test/accuracy"
            )
        found = CONDITION.fullmatch(condition) if isinstance(condition, str) else None
        try:
            bound = float(found[2]) if found else math.nan
        except ValueError:
            bound = math.nan
        if not math.isfinite(bound):
            raise ConfigError(
                f'expect.{metric}: expected a relation ({", ".join(OPERATORS)}) and a number, such as ">= 0.86", '
                f"got {condition!r}"
            )
        claims.append(Claim(str(metric), found[1], bound))
    return claims


def means(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What a claim on several runs is held against: the mean of each metric that all have and, of two runs or more,
    the standard deviation as ``NAME_std``."""
    found: dict[str, float] = {}
    for name in sorted(set.intersection(*map(set, runs))):
        values = [run[name] for run in runs]
        found[name] = math.fsum(values) / len(values)
        if len(values) > 1:
            found[f"{name}_std"] = statistics.stdev(values)
    return found


def report(claims: list[Claim], metrics: Mapping[str, float]) -> list[dict[str, object]]:
    """One row a claim: metric, condition, value (None if it never came) and verdict."""
    return [
        {
            "metric": claim.metric,
            "condition": f"{claim.relation} {claim.bound:g}",
            "value": metrics.get(claim.metric),
            "verdict": claim.verdict(metrics),
        }
        for claim in claims
    ]


def all_held(rows: Sequence[Mapping[str, object]]) -> bool:
    """Whether each of ``report``'s rows is."""
    return all(row["verdict"] == HELD for row in rows)


def encode(rows: Sequence[Mapping[str, object]]) -> bytes:
    """The file that a run keeps them in."""
    return json.dumps(rows, indent=2).encode()
