"""What a run is expected to reach: ``expect: {test/accuracy: ">= 0.86"}``, and whether it did."""

import json
import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypedDict

from odyssey_core.errors import shortened
from odyssey_core.registry import nearest
from odyssey_run.config.binding import Faults

OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
CONDITION = re.compile(r"\s*(>=|<=|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
OF_THE_MACHINE = ("time/", "system/")  # metrics that come out otherwise the next time
OF_HOOKS = "own/"  # in front of the metrics that hooks log
HELD, MISSED, UNDEFINED = "held", "missed", "undefined"
_OF_TRAINING = ("train/loss", "train/epoch_loss", "train/accuracy", "train/lr", "epoch")
METRICS = ("test/accuracy", "test/loss", "val/accuracy", "val/loss", *_OF_TRAINING)
NORMS = ("weight_norm", "weight_grad_norm")  # of each array of weights


def read(expect: Mapping[str, object]) -> list[tuple[str, str, float]]:
    """The claims of a configuration: metric, relation and bound. Raises Faults: conditions that are not a relation and
    a number, or on what the machine decides."""
    claims, faults = [], []
    for metric, condition in expect.items():
        if str(metric).startswith(OF_THE_MACHINE):
            faults.append(
                f"expect.{shortened(str(metric))}: depends on the machine and on its load, so it is recorded "
                "and cannot be claimed; claim what training decides, such as test/accuracy"
            )
            continue
        found = CONDITION.fullmatch(condition) if isinstance(condition, str) else None
        if found and math.isfinite(float(found[2])):
            claims.append((str(metric), found[1], float(found[2])))
        else:
            faults.append(
                f"expect.{shortened(str(metric))}: expected a relation ({', '.join(OPERATORS)}) and a number, such as "
                f'">= 0.86", got {shortened(repr(condition))}'
            )
    if faults:
        raise Faults(faults)
    return claims


def metrics(weights: Iterable[str], validated: bool, seeds: int) -> list[str]:
    """The metrics of training that a run records, which can be claimed: of these arrays of weights with more than one
    axis, with validation or without, and as means and standard deviations of several seeds."""
    names = [*METRICS, *(f"{norm}/{name}" for name in weights for norm in NORMS)]
    names = [name for name in names if validated or not name.startswith("val/")]
    return [*names, *(f"{name}_std" for name in names if seeds > 1)]


def unknown(expect: Mapping[str, object], known: Sequence[str], also: Sequence[str] = ()) -> list[str]:
    """A fault for each claim on a metric that the run does not record, unless its name begins as one of `also`."""
    faults = []
    for name in expect:
        if str(name).startswith((*OF_THE_MACHINE, *also)):
            continue
        if name in METRICS and name not in known:
            faults.append(f"expect: {name} needs a validation set, got trainer.validation_size 0")
        elif name not in known:
            near = next((n for n in known if n.endswith(f"/{name}")), None) or nearest(str(name), known)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(METRICS)}"
            faults.append(f"expect: no metric is called {shortened(str(name))}; {hint}")
    return faults


class ClaimRow(TypedDict):
    """A claim and what came of it; the value is None where the metric was not recorded."""

    metric: str
    condition: str
    value: float | None
    verdict: str


def means(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What a claim on several runs is held against: the mean of each metric that all have and, of two runs or more,
    the standard deviation as ``NAME_std``."""
    import statistics  # with fractions and decimals

    found: dict[str, float] = {}
    for name in sorted(set.intersection(*map(set, runs))):
        values = [run[name] for run in runs]
        found[name] = math.fsum(values) / len(values)
        if len(values) > 1:
            found[f"{name}_std"] = statistics.stdev(values)
    return found


def report(expect: Mapping[str, object], metrics: Mapping[str, float]) -> list[ClaimRow]:
    """Each claim, and whether it held; one on a metric that was not recorded is undefined, which is not held."""
    rows: list[ClaimRow] = []
    for metric, relation, bound in read(expect):
        value = metrics.get(metric)
        verdict = UNDEFINED if value is None else HELD if OPERATORS[relation](value, bound) else MISSED
        rows.append({"metric": metric, "condition": f"{relation} {bound:g}", "value": value, "verdict": verdict})
    return rows


def all_held(rows: Sequence[ClaimRow]) -> bool:
    return all(row["verdict"] == HELD for row in rows)


def encode(rows: Sequence[ClaimRow]) -> bytes:
    return json.dumps(rows, indent=2).encode()
