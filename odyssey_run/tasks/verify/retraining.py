"""Training a recorded run again, for ``task=verify``: its metrics, its end and its weights are compared."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from odyssey_core.checkpoint import CONTENT, load_weights
from odyssey_core.errors import DataError
from odyssey_run.config.claims import OF_THE_MACHINE
from odyssey_run.config.request import Request
from odyssey_run.runs import recorded
from odyssey_run.runs.events import Listener, Outcome
from odyssey_run.runs.statements import DERIVED, TRAINED
from odyssey_run.signals import StopRequest
from odyssey_run.tasks.verify.evidence import Evidence, differences
from odyssey_run.tracking.names import Status, Tag
from odyssey_run.training.build import Assembly
from odyssey_run.training.train import keep_weights, make_trainer
from odyssey_run.training.trainer import NOT_FINITE

TOLERANCE = 1e-3  # relative, for backends that promise no bits

Points = dict[tuple[int, str], float]


class _Points(Listener):
    """Remembers every metric."""

    def __init__(self) -> None:
        self.points: Points = {}

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.points |= {(step, name): value for name, value in values.items() if not name.startswith(OF_THE_MACHINE)}


def train_again(
    again: Request, assembly: Assembly, evidence: Evidence, steps: int | None
) -> tuple[list[str], list[str], dict[str, str], int | None]:
    """Trains a run again and compares what it recorded: some first steps, or all, with its weights and its test.

    Returns what differs; what was compared; how each statement was held that was compared; and how many steps were
    trained, if not all. Raises DataError: the run does not say at which step it ended, or recorded no metric in its
    first steps; KeyboardInterrupt: a signal asked to stop.
    """
    stated, told = evidence.stated, evidence.tags.get(Tag.STEP)
    if told is None or not told.isdecimal():
        raise DataError(f"tags/{Tag.STEP}: expected a number, got {told!r}")
    last = int(told)
    # A run that was stopped ended where it was, with no test; one that diverged does so again.
    cut = stated["status"] != Status.FINISHED and NOT_FINITE not in (stated["reason"] or "")
    end = last if steps is None else min(steps, last)
    whole = end == last
    budget = again.trainer.time_budget_s is not None
    curves = {name.removeprefix("metrics/"): points for name, points in stated.items() if name.startswith("metrics/")}
    points = ((step, name, value) for name, own in curves.items() for step, value, _ in own)
    stated_points = {(step, name): value for step, name, value in points if not name.startswith(OF_THE_MACHINE)}
    expected = {key: value for key, value in stated_points.items() if key[0] <= end or whole}
    if not whole and not expected:
        first = min((step for step, _ in stated_points), default=last)
        raise DataError(f"verify.steps: no metric is recorded up to step {end:,}; expected at least {first:,}")
    listener = _Points()
    with StopRequest() as asked:
        # Where the configuration alone decides the end, the run's own word for it is not asked.
        rest: dict[str, Any] = {"until": end if cut or budget or not whole else None, "cut": cut or not whole}
        outcome = make_trainer(again, assembly, (listener,), stop=lambda: asked.signum, **rest).run()
        if asked.signum is not None:
            raise KeyboardInterrupt
    exact = again.backend.name == "numba"
    found = listener.points
    if cut or not whole:  # where in its last step a run was stopped is not known
        found = {key: value for key, value in found.items() if key[0] < end or key in expected}
    wrong = differing(expected, found, 0.0 if exact else TOLERANCE)
    was, now = _end(stated, outcome, end, cut or not whole)
    wrong += differences(was, now, "training again says")
    if whole and not wrong:
        wrong += _weights(evidence, again, assembly, outcome, exact)
    if wrong:
        return wrong, [], {}, None
    bits = "bit by bit" if exact else f"to a relative {TOLERANCE:g} (backend {again.backend.name} promises no bits)"
    kept = f"files/{recorded.weights_file(again.model.name).as_posix()}"
    with_weights = " and the weights" if whole and kept in stated else ""
    span = f"{end:,} steps" if whole else f"the first {end:,} of {last:,} steps"
    lines = [f"{len(expected)} metrics{with_weights} over {span}, {bits}"]
    if cut or budget:
        lines.append(f"its last step, {last:,}, is stated and not verified: a signal, error or time limit ended it")
    compared: dict[str, str] = {}
    if whole:
        names = [f"metrics/{name}" for _, name in expected]
        names += [kept] if with_weights else []
        names += [f"tags/{Tag.WEIGHTS_DIGEST}"] if with_weights and exact else []
        names += [] if cut else ["status", "reason"]
        names += [] if cut or budget else [f"tags/{Tag.STEP}"]
        compared |= dict.fromkeys(names, TRAINED)
        # The metrics on the page of a model are those of the run.
        compared |= {n: DERIVED for n, value in stated.items() if n.startswith("models/") and isinstance(value, dict)}
    return [], lines, compared, None if whole else end


def _end(stated: Mapping[str, Any], outcome: Outcome, end: int, cut: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """How a run ended, as it is stated and as training again ended; of one that was cut the step alone."""
    if cut:
        return {"the last step": end}, {"the last step": outcome.step}
    now: dict[str, Any] = {"status": outcome.status, "reason": outcome.reason, f"tags/{Tag.STEP}": str(outcome.step)}
    if outcome.status == Status.FINISHED and not outcome.step:
        return {"the last step": "0 of a run that FINISHED"}, {}  # a time budget lets a run take a step at least
    return {key: stated.get(key) for key in now}, now


def differing(expected: Points, found: Points, tolerance: float) -> list[str]:
    """A line for each point that is not the same, the first step first."""
    wrong = []
    for step, name in sorted(expected.keys() | found.keys()):
        was, now = expected.get((step, name)), found.get((step, name))
        if was is None or now is None:
            wrong.append(f"{name} at step {step}: {'not recorded' if was is None else was}, trained again {now}")
        elif was != now and not abs(was - now) <= tolerance * max(abs(was), abs(now)):
            wrong.append(f"{name} at step {step}: recorded {was!r}, trained again {now!r} ({now - was:+.3g})")
    return wrong


def _weights(evidence: Evidence, again: Request, assembly: Assembly, outcome: Outcome, exact: bool) -> list[str]:
    """What is wrong with the weights file that the run kept, held against the one that training again gives."""
    path = recorded.weights_file(again.model.name)
    if f"files/{path.as_posix()}" not in evidence.stated:
        return [f"files/{path.as_posix()}: stated nothing"] if evidence.stated["status"] == Status.FINISHED else []
    kept, about = load_weights(evidence.folder / path)
    own = replace(again, config=evidence.config)  # not where the data lies now, and no key that was added since
    with tempfile.TemporaryDirectory() as place:
        arrays, expected = load_weights(keep_weights(own, assembly, outcome, Path(place)))
    wrong = []
    if kept.keys() != arrays.keys():
        return [f"weights in {path}: trained again {sorted(arrays)}, recorded {sorted(kept)}"]
    for name, value in arrays.items():
        other = kept[name]
        if value.shape != other.shape or value.dtype != other.dtype:
            wrong.append(
                f"weights {name} in {path}: {other.dtype} {other.shape}, trained again {value.dtype} {value.shape}"
            )
        elif value.tobytes() != other.tobytes() if exact else not np.allclose(value, other, TOLERANCE, TOLERANCE):
            apart = float(np.max(np.abs(value - other)))
            wrong.append(f"weights {name} in {path}: differ by up to {apart:.3g}")
    content = (CONTENT, *(() if exact else ("sha256",)))
    was, now = ({k: v for k, v in facts.items() if k not in content} for facts in (about, expected))
    wrong += differences(was, now, f"{path.name} of training again says")
    if exact and evidence.tags.get(Tag.WEIGHTS_DIGEST) != expected["sha256"]:
        wrong.append("the recorded SHA-256 of the weights is not that of the weights")
    return wrong
