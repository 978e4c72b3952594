"""Trains a recorded run again and says whether it told the truth.

Everything it needs comes from MLflow: the configuration, the digests of code and data, every metric, the weights. The
verdict goes back to the run, as a tag and a report.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from odyssey_core.checkpoint import digest, load_weights, model_names
from odyssey_core.errors import ConfigError, DataError, OdysseyError
from odyssey_run import provenance
from odyssey_run.assemble import Request, assemble, check
from odyssey_run.events import Listener, Outcome
from odyssey_run.runs import weights_file
from odyssey_run.schema import VerifyConfig
from odyssey_run.session import CONFIG
from odyssey_run.signals import StopRequest
from odyssey_run.tracking.location import resolve
from odyssey_run.tracking.sender import fault_of, reach
from odyssey_run.training import make_trainer

REPRODUCED, DIFFERS, CANNOT = "REPRODUCED", "DIFFERS", "CANNOT"
EXIT_CODES = {REPRODUCED: 0, DIFFERS: 3, CANNOT: 4}
NOT_COMPARED = ("time/", "system/")
TOLERANCE = 1e-3  # relative, for backends that promise no bits
REPORT, TAG = "verification.md", "odyssey.verified"

Points = dict[tuple[int, str], float]


@dataclass(frozen=True)
class Verdict:
    """What a verification came to.

    Args:
        word: REPRODUCED, DIFFERS or CANNOT.
        lines: why: what was compared, what differs first, or what is missing.
    """

    word: str
    lines: tuple[str, ...]


class _Points(Listener):
    """Remembers every metric."""

    def __init__(self) -> None:
        self.points: Points = {}

    def metrics(self, step, values) -> None:
        self.points |= {(step, name): value for name, value in values.items() if not name.startswith(NOT_COMPARED)}


class Recorded:
    """A run as MLflow has it.

    Args:
        client: MLflow's.
        run_id: its id.

    Raises:
        ConfigError: there is no such run.
    """

    def __init__(self, client: Any, run_id: str):
        self.client, self.run_id = client, run_id
        try:
            run = client.get_run(run_id)
        except Exception as error:  # of whatever kind of store
            raise ConfigError(f"run_id: no run {run_id!r} in {client.tracking_uri}: {fault_of(error)}") from None
        self.tags: Mapping[str, str] = run.data.tags
        self.name, self.experiment = run.info.run_name, run.info.experiment_id
        self._metrics = run.data.metrics

    def children(self) -> list["Recorded"]:
        """The runs nested under it, in the order in which they began."""
        found = self.client.search_runs(
            [self.experiment], f"tags.mlflow.parentRunId = '{self.run_id}'", order_by=["attributes.start_time ASC"]
        )
        return [Recorded(self.client, run.info.run_id) for run in found]

    def points(self) -> tuple[Points, list[str]]:
        """Every metric but times, and what is wrong with them."""
        points: Points = {}
        faults = []
        for name in self._metrics:
            if name.startswith(NOT_COMPARED):
                continue
            for m in self.client.get_metric_history(self.run_id, name):
                if points.setdefault((m.step, name), m.value) != m.value:
                    faults.append(f"{name} at step {m.step} is recorded twice, as {points[m.step, name]} and {m.value}")
        return points, faults

    def file(self, path: str, folder: str) -> Path:
        """Downloads an artifact.

        Raises:
            DataError: it is not there.
        """
        try:
            return Path(self.client.download_artifacts(self.run_id, path, folder))
        except Exception as error:  # of whatever kind of store
            raise DataError(f"artifact {path} is missing: {fault_of(error)}") from None

    def write(self, verdict: Verdict, folder: str) -> None:
        """Leaves the verdict with the run."""
        report = Path(folder) / REPORT
        lines = "\n".join(f"- {line}" for line in verdict.lines)
        report.write_text(f"# {verdict.word}\n\n{lines}\n", encoding="utf-8")
        self.client.log_artifact(self.run_id, str(report))
        self.client.set_tag(self.run_id, TAG, verdict.word)


def verify(request: Request, run_id: str, config: VerifyConfig) -> int:
    """Verifies a run, or every run under a parent.

    Returns:
        0 REPRODUCED, 3 DIFFERS, 4 CANNOT: of several runs the worst.

    Raises:
        ConfigError: there is no such run, or no store to look for it.
    """
    store = resolve(request.tracking, request.data.name)
    if store is None or (store.database and not store.database.exists()):
        where = "tracking=none" if store is None else f"{store.database}, which does not exist"
        raise ConfigError(f"task=verify: needs the MLflow store that has the run, got {where}; set tracking.uri")
    run = Recorded(reach(store), run_id)
    runs = run.children() if "odyssey.seeds" in run.tags else [run]
    words = []
    for each in runs:
        with tempfile.TemporaryDirectory() as folder:
            try:
                verdict = compare(request, each, config, folder)
            except OdysseyError as error:
                verdict = Verdict(CANNOT, (str(error),))
            words.append(verdict.word)
            print(f"{verdict.word:<12}{each.name}  {each.run_id}")
            print("".join(f"            {line}\n" for line in verdict.lines), end="", flush=True)
            each.write(verdict, folder)
    worst = max(words, key=lambda word: EXIT_CODES[word], default=CANNOT)
    if runs != [run]:
        run.client.set_tag(run.run_id, TAG, worst)
    return EXIT_CODES[worst]


def compare(request: Request, run: Recorded, config: VerifyConfig, folder: str) -> Verdict:
    """Trains one run again and compares.

    Raises:
        OdysseyError: something that it needs is missing or has changed: it cannot be verified.
    """
    again = _same(request, run, folder)
    notes = _environment(run)
    if run.tags.get("odyssey.code.sha256") != provenance.code_digest():
        line = f"the code is another (SHA-256 {provenance.code_digest()[:12]}, the run's {_short(run, 'code')})"
        if not config.any_code:
            return Verdict(CANNOT, (f"{line}; verify.any_code=true compares all the same", *notes))
        notes.append(line)
    assembly = assemble(again)
    if run.tags.get("odyssey.data.sha256") != assembly.dataset.digest:
        line = f"the data is another (SHA-256 {assembly.dataset.digest[:12]}, the run's {_short(run, 'data')})"
        return Verdict(CANNOT, (f"{line}; data.root= may name the folder with the right files", *notes))
    if run.tags.get("odyssey.start.sha256") != assembly.start:
        return Verdict(CANNOT, (f"{again.weights} does not hold the weights that the run began with", *notes))
    if "odyssey.step" not in run.tags:
        return Verdict(CANNOT, ("the run has not ended, or not by itself: it says not at which step", *notes))
    last = int(run.tags["odyssey.step"])
    expected, faults = run.points()
    if faults:
        return Verdict(DIFFERS, (*faults, *notes))
    listener, whole = _Points(), config.steps is None or config.steps >= last
    until = last if whole else config.steps
    with StopRequest() as asked:
        outcome = make_trainer(again, assembly, (listener,), stop=lambda: asked.signum, until=until).run()
    if outcome.status == "KILLED":
        raise KeyboardInterrupt
    exact = again.backend.name == "numba"
    found = listener.points
    if not whole:
        expected = {key: value for key, value in expected.items() if key[0] <= until}
        found = {key: value for key, value in found.items() if key in expected}
    wrong = differences(expected, found, 0.0 if exact else TOLERANCE)
    if whole and not wrong:
        wrong = _weights(run, again, outcome, folder, exact)
    if wrong:
        return Verdict(DIFFERS, (*wrong, *notes))
    bits = "bit by bit" if exact else f"to a relative {TOLERANCE:g} (backend {again.backend.name} promises no bits)"
    what = f"{len(expected)} metrics{' and the weights' if whole else ''}"
    return Verdict(REPRODUCED, (f"{what} over {until:,} steps, {bits}", *notes))


def _same(request: Request, run: Recorded, folder: str) -> Request:
    """The run's own request, but for where its data lies and how many threads train it.

    Raises:
        DataError: the configuration is missing, or is not one of this program's any more.
    """
    config = yaml.safe_load(run.file(CONFIG, folder).read_text())
    threads, root = request.config["backend"].get("threads"), request.config["data"].get("root")
    if "threads" in config["backend"]:
        config["backend"]["threads"] = threads
    if root is not None and "root" in config["data"]:
        config["data"]["root"] = root
    return replace(check({**config, "task": {"name": "train"}}), expect={}, resume=None)


def differences(expected: Points, found: Points, tolerance: float) -> list[str]:
    """What is not the same, the first step first; at most three lines and how many more there are."""
    wrong = []
    for step, name in sorted(expected.keys() | found.keys()):
        was, now = expected.get((step, name)), found.get((step, name))
        if was is None or now is None:
            wrong.append(f"{name} at step {step}: {'not recorded' if was is None else was}, trained again {now}")
        elif was != now and not abs(was - now) <= tolerance * max(abs(was), abs(now)):
            wrong.append(f"{name} at step {step}: recorded {was!r}, trained again {now!r} ({now - was:+.3g})")
    return wrong if len(wrong) <= 3 else [*wrong[:3], f"and {len(wrong) - 3} more"]


def _weights(run: Recorded, again: Request, outcome: Outcome, folder: str, exact: bool) -> list[str]:
    """What is wrong with the weights that the run kept."""
    path = weights_file(again.model.name)
    arrays, _ = load_weights(run.file(path.as_posix(), folder))
    kept = model_names(outcome.weights, arrays)
    if not exact:
        apart = [n for n, w in outcome.weights.items() if not np.allclose(w, kept[n], TOLERANCE, TOLERANCE)]
        return [f"weights {name} differ by more than {TOLERANCE:g}" for name in apart]
    wrong = []
    for name, value in outcome.weights.items():
        if value.tobytes() != np.ascontiguousarray(kept[name], np.float32).tobytes():
            apart = float(np.max(np.abs(value - kept[name])))
            wrong.append(f"weights {name} in {path}: differ by up to {apart:.3g}")
    if not wrong and run.tags.get("odyssey.weights.sha256") != digest(outcome.weights):
        wrong.append("the recorded SHA-256 of the weights is not that of the weights")
    return wrong


def _environment(run: Recorded) -> list[str]:
    """What is not as it was where the run was made: no reason to differ, but the first place to look."""
    now = provenance.environment_tags()
    other = [(name, run.tags[name], value) for name, value in now.items() if run.tags.get(name, value) != value]
    return [f"{name.removeprefix('odyssey.')} was {was}, is {value}" for name, was, value in other]


def _short(run: Recorded, what: str) -> str:
    return run.tags.get(f"odyssey.{what}.sha256", "unknown")[:12]
