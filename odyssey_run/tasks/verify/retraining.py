"""Training a recorded run again, for ``task=verify``: its metrics, its end and its weights are compared."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from odyssey_core.checkpoint import CONTENT, digest, load_weights
from odyssey_core.errors import DataError
from odyssey_run.config.claims import OF_THE_MACHINE
from odyssey_run.config.request import Request
from odyssey_run.runs import recorded
from odyssey_run.runs.events import Listener, Outcome
from odyssey_run.runs.statements import DERIVED, TRAINED
from odyssey_run.signals import StopRequest
from odyssey_run.tasks.verify.evidence import Differs, Evidence, hold
from odyssey_run.tracking.names import Status, Tag
from odyssey_run.training.build import Assembly
from odyssey_run.training.train import keep_weights, make_trainer
from odyssey_run.training.trainer import NOT_FINITE

TOLERANCE = 1e-3  # relative, for backends that promise no bits
STEP, WEIGHTS = f"tags/{Tag.STEP}", f"tags/{Tag.WEIGHTS_DIGEST}"
NOT_TRAINED = tuple(f"metrics/{prefix}" for prefix in OF_THE_MACHINE)
TOLD = "recorded {}, trained again {}"


class _Points(Listener):
    """Remembers every metric by step and by the name of its statement."""

    def __init__(self) -> None:
        self.points: dict[tuple[int, str], float] = {}

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.points |= {(step, f"metrics/{n}"): x for n, x in values.items() if not n.startswith(OF_THE_MACHINE)}


def train_again(
    again: Request, assembly: Assembly, evidence: Evidence, steps: int | None
) -> tuple[list[str], dict[str, str], int | None]:
    """Trains a run again and compares what it recorded: some first steps, or all, with its weights and its test.

    Returns what was compared; how each statement was held that was compared; and how many steps were trained, if not
    all. Raises Differs; DataError: the run does not say at which step it ended, or recorded no metric in its first
    steps; KeyboardInterrupt: a signal asked to stop.
    """
    stated, told = evidence.stated, evidence.tags.get(Tag.STEP)
    if told is None or not told.isdecimal():
        raise DataError(f"{STEP}: expected a number, got {told!r}")
    last = int(told)
    end = last if steps is None else min(steps, last)
    whole, budget = end == last, again.trainer.time_budget_s is not None
    # A run that was stopped ended where it was, with no test; one that diverged does so again.
    stopped = stated["status"] != Status.FINISHED and NOT_FINITE not in (stated["reason"] or "")
    cut = stopped or not whole
    names = [n for n in stated if n.startswith("metrics/") and not n.startswith(NOT_TRAINED)]
    points = {(step, name): value for name in names for step, value, _ in stated[name]}
    expected = {point: value for point, value in points.items() if whole or point[0] <= end}
    if not whole and not expected:
        first = min((step for step, _ in points), default=last)
        raise DataError(f"verify.steps: no metric is recorded up to step {end:,}; expected at least {first:,}")
    outcome, found = _train(again, assembly, end, cut)
    if cut:  # where in its last step a run was stopped is not known
        found = {point: value for point, value in found.items() if point[0] < end or point in expected}
    was, now = _named(expected) | {STEP: told if whole else str(end)}, _named(found) | {STEP: str(outcome.step)}
    if not cut:
        was |= {name: stated[name] for name in ("status", "reason")}
        now |= {"status": outcome.status, "reason": outcome.reason}
    kept = f"files/{recorded.weights_file(again.model.name).as_posix()}"
    weights = whole and (kept in stated or stated["status"] == Status.FINISHED)
    exact = again.backend.name == "numba"
    if weights and exact:
        was[WEIGHTS], now[WEIGHTS] = evidence.tags.get(Tag.WEIGHTS_DIGEST), digest(outcome.weights)
    hold(was, now, TOLD, 0.0 if exact else TOLERANCE)
    if weights:
        _hold_weights(evidence, again, assembly, outcome)
    bits = "bit by bit" if exact else f"to a relative {TOLERANCE:g} (backend {again.backend.name} promises no bits)"
    span = f"{end:,} steps" if whole else f"the first {end:,} of {last:,} steps"
    lines = [f"{len(expected)} metrics{' and the weights' * weights} over {span}, {bits}"]
    if stopped or budget:
        lines.append(f"its last step, {last:,}, is stated and not verified: a signal, error or time limit ended it")
    if not whole:
        return lines, {}, end
    trained = {name for _, name in expected} | (was.keys() & stated.keys()) | ({kept} if weights else set())
    # The metrics on the page of a model are those of the run.
    models = (n for n, value in stated.items() if n.startswith("models/") and isinstance(value, dict))
    held = dict.fromkeys(trained - ({STEP} if cut or budget else set()), TRAINED) | dict.fromkeys(models, DERIVED)
    return lines, held, None


def _train(again: Request, assembly: Assembly, end: int, cut: bool) -> tuple[Outcome, dict[tuple[int, str], float]]:
    """How training ends, and all its points. Where the configuration alone decides the end, the run's own word for it
    is not asked."""
    listener = _Points()
    # A time budget lets a run take a step at least.
    until = end if cut else max(1, end) if again.trainer.time_budget_s is not None else None
    with StopRequest() as asked:
        rest: dict[str, Any] = {"until": until, "cut": cut}
        outcome = make_trainer(again, assembly, (listener,), stop=lambda: asked.signum, **rest).run()
        if asked.signum is not None:
            raise KeyboardInterrupt
    return outcome, listener.points


def _named(points: Mapping[tuple[int, str], float]) -> dict[str, Any]:
    """The first step first."""
    return {f"{name} at step {step}": value for (step, name), value in sorted(points.items())}


def _hold_weights(evidence: Evidence, again: Request, assembly: Assembly, outcome: Outcome) -> None:
    """Raises Differs: the weights file that the run kept is not the one that training again gives."""
    path, exact = recorded.weights_file(again.model.name), again.backend.name == "numba"
    if f"files/{path.as_posix()}" not in evidence.stated:
        raise Differs(f"files/{path.as_posix()}: stated nothing")
    own = replace(again, config=evidence.config)  # not where the data lies now, and no key that was added since
    with tempfile.TemporaryDirectory() as place:
        files = load_weights(evidence.folder / path), load_weights(keep_weights(own, assembly, outcome, Path(place)))
    left_out = (CONTENT,) if exact else (CONTENT, "sha256")
    was, now = (
        {f"weights {name} in {path}": value for name, value in arrays.items()}
        | {f"metadata {key} in {path}": value for key, value in about.items() if key not in left_out}
        for arrays, about in files
    )
    hold(was, now, TOLD, 0.0 if exact else TOLERANCE)
