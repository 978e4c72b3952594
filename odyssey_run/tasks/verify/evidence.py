"""A run as MLflow or a folder keeps it, held against the list of what it states."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from odyssey_core.errors import ConfigError, DataError, shortened
from odyssey_run.config.masking import masked
from odyssey_run.runs import statements
from odyssey_run.runs.folder import CONFIG, REPORT
from odyssey_run.runs.statements import FILE
from odyssey_run.tracking import records as kinds
from odyssey_run.tracking.client import every_run, fault_of
from odyssey_run.tracking.journal import first_record, inside
from odyssey_run.tracking.names import JOURNAL, KEPT_HERE, Tag
from odyssey_run.tracking.records import RunRecords, parse, whole

SHOWN = ("name", "parent", "status", "began", "ended", "data", "params/", "tags/", "metrics/")  # by MLflow
NOT_ENDED = (
    "the run has not ended, or not with this version of the program; "
    "odyssey-run task=doctor ends one whose process died"
)
MISSING: Any = object()
_NOT_SENT = tuple(f"tags/{name}" for name in KEPT_HERE)


class Differs(Exception):
    """What a run states is not what was found; its arguments are lines that say what."""


@dataclass(frozen=True)
class Evidence:
    folder: Path
    records: RunRecords = field(repr=False)
    stated: dict[str, Any] = field(repr=False)
    digest: str
    wrong: tuple[str, ...]  # what does not agree with the list or with the digest, a line each

    @property
    def tags(self) -> dict[str, str]:
        return {name.removeprefix("tags/"): v for name, v in self.stated.items() if name.startswith("tags/")}

    @property
    def config(self) -> dict[str, Any]:
        """What was asked for, from config.yaml. Raises DataError where the journal says something else."""
        path = self.folder / CONFIG
        try:
            config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise DataError(f"{CONFIG}: cannot be read: {fault_of(error)}") from None
        if config != self.records.config:
            raise DataError(f"{CONFIG}: is not the configuration that the journal began with")
        return config


class InFolder:
    def __init__(self, folder: Path):
        self.folder, self.where, self.name = folder, str(folder), folder.name
        self.key: str | None = None
        with suppress(DataError):  # reported when it is read
            start = first_record(folder / JOURNAL)
            self.key = start.run if start else None

    def children(self) -> list["InFolder"]:
        return [InFolder(path.parent) for path in sorted(self.folder.glob(f"*/{JOURNAL}"))]

    def gather(self, place: Path) -> Evidence:
        """Reads it where it lies. Raises DataError: it has not ended, or was not made by this program."""
        return _read(self.folder, statements.ended_below(self.folder, self.key or ""))


class InMLflow:
    """A run that MLflow has. Raises ConfigError where there is no such run."""

    def __init__(self, client: Any, run_id: str):
        self.client, self.run_id = client, run_id
        try:
            self._run = client.get_run(run_id)
        except Exception as error:  # of whatever kind of store
            where = masked(client.tracking_uri)
            raise ConfigError(f"run_id: no run {run_id!r} in {where}: {fault_of(error)}") from None
        if self._run.info.lifecycle_stage != "active":
            how = f"mlflow runs restore --run-id {run_id} undoes it"
            raise ConfigError(f"run_id: {run_id} was deleted in MLflow; {how}")
        self.tags: Mapping[str, str] = self._run.data.tags
        self.metrics: Mapping[str, float] = self._run.data.metrics
        self.name, self.experiment = self._run.info.run_name, self._run.info.experiment_id
        self.where, self.key = run_id, self.tags.get(Tag.RUN)

    def children(self) -> list["InMLflow"]:
        """The runs nested under it, in the order in which they began."""
        condition = f"tags.mlflow.parentRunId = '{self.run_id}'"
        found = every_run(self.client, [self.experiment], condition, ["attributes.start_time ASC"])
        return [InMLflow(self.client, run.info.run_id) for run in found if Tag.VERIFIES not in run.data.tags]

    def gather(self, place: Path) -> Evidence:
        """Fetches its files and holds all that MLflow shows against what it states. Raises DataError: a file that
        says what it states is missing or is none."""
        self._fetch(place)
        ended = (each for each in self.children() if Tag.RUN_DIGEST in each.tags)
        found = _read(place, {each.tags.get(Tag.RUN, each.run_id): each.tags[Tag.RUN_DIGEST] for each in ended})
        held = (name.partition("/")[2] for name in found.stated if name.startswith(("files/", "models/")))
        there = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
        more = sorted(there - {JOURNAL, FILE, *held})
        lines = (f"files/{name}: is among its artifacts and not stated" for name in more)
        return replace(found, wrong=(*found.wrong, *self._shown_otherwise(found), *lines))

    def _fetch(self, place: Path) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository as repository

        try:
            if self.client.list_artifacts(self.run_id):
                self.client.download_artifacts(self.run_id, "", str(place))
            for model in self._models():
                to = inside(place, model.name)
                # Not by models:/ID, which MLflow looks up in the process's own store whatever it is told.
                to.mkdir(parents=True, exist_ok=True)
                artifacts = repository(model.artifact_location, tracking_uri=self.client.tracking_uri)
                artifacts.download_artifacts("", str(to))
        except Exception as error:  # of whatever kind of store
            raise DataError(f"its artifacts cannot be fetched: {fault_of(error)}") from None

    def _models(self) -> list[Any]:
        return list(self.client.search_logged_models([self.experiment], f"source_run_id = '{self.run_id}'"))

    def _shown_otherwise(self, evidence: Evidence) -> Iterator[str]:
        """What MLflow shows otherwise than it is stated, or in two ways."""
        info, parent, stated = self._run.info, self.tags.get(Tag.PARENT), evidence.stated
        shown: dict[str, Any] = {"name": info.run_name, "status": info.status, "began": info.start_time}
        shown["ended"] = info.end_time
        shown["parent"] = InMLflow(self.client, parent).tags.get(Tag.RUN, parent) if parent else None
        shown |= {f"params/{name}": value for name, value in self._run.data.params.items()}
        own = (name for name in self.tags if f"tags/{name}" in stated or name.startswith("odyssey."))
        shown |= {f"tags/{name}": self.tags[name] for name in own if name not in (Tag.RUN_DIGEST, Tag.VERIFIED)}
        if self.tags.get(Tag.RUN_DIGEST) != evidence.digest:
            yield f"tags/{Tag.RUN_DIGEST}: is not the digest of {FILE}"
        for name, value in self.metrics.items():
            points = sorted([m.step, m.value, m.timestamp] for m in self.client.get_metric_history(self.run_id, name))
            shown[f"metrics/{name}"] = points
            if points and points[-1][1] != value:
                yield f"metrics/{name}: MLflow's pages show {value!r}, its history ends with {points[-1][1]!r}"
        for given in self._run.inputs.dataset_inputs if self._run.inputs else ():
            shown["data"] = {what: getattr(given.dataset, what) for what in ("name", "digest", "source", "profile")}
        models = {f"models:/{model.model_id}": model for model in self._models()}
        for model in models.values():
            shown[f"models/{model.name}"] = {metric.key: metric.value for metric in model.metrics or ()}
        for made in self.client.search_model_versions(f"run_id = '{self.run_id}'"):
            if made.source not in models:
                yield f"registered model {made.name} version {made.version}: is {made.source}, not the run's"
        kept = {n: v for n, v in stated.items() if n in shown or (n.startswith(SHOWN) and not n.startswith(_NOT_SENT))}
        kept |= {n: v for n, v in stated.items() if n.startswith("models/") and isinstance(v, dict)}
        yield from differences(kept, shown, "stated {}, MLflow shows {}")


def _read(folder: Path, below: Mapping[str, str]) -> Evidence:
    """What a run in a folder states, held against its journal and its files; the run digests of those under it are
    given by key."""
    journal, listed = folder / JOURNAL, folder / FILE
    for path in (journal, listed):
        if not path.is_file():
            raise DataError(f"{path.name} is missing: {NOT_ENDED}")
    content, own = journal.read_bytes(), listed.read_bytes()
    stated, digest = statements.decode(own, FILE), statements.sha256(own)
    records = whole(parse(content[: content.rfind(b"\n") + 1], Path(JOURNAL)), Path(JOURNAL))
    end = records.end
    size = stated["journal"].get("bytes") if isinstance(stated.get("journal"), dict) else None
    if end is None or not isinstance(size, int):
        raise DataError(f"{JOURNAL} has no end: {NOT_ENDED}")
    if "sweep" in records.config or not records.has_parts:
        # Points that a sweep found done already, and evaluations of a run, are not its own.
        below = {key: value for key, value in below.items() if f"children/{key}" in stated}
    made = statements.of_run(folder, content[:size], end, below)
    # Left behind in MLflow by an earlier process: files, and nothing else.
    made |= {n: None for n, value in stated.items() if value is None and n.startswith(("files/", "models/"))}
    wrong = _behind(content[size:], end, stated, digest)
    report = folder / REPORT
    if report.is_file() and not statements.shows(report.read_bytes(), digest):
        wrong.append(f"files/{REPORT}: does not show the digest of {FILE}")
    wrong += differences(stated, made, "stated {}, its journal and files say {}")
    return Evidence(folder, records, stated, digest, tuple(wrong))


def _behind(content: bytes, end: kinds.End, stated: Mapping[str, Any], digest: str) -> list[str]:
    """What is wrong in a journal after the part that its list covers: the list, its digest and the end follow."""
    notes = (kinds.Creating, kinds.Created, kinds.Registered, kinds.Refused, kinds.Sent)  # of the process that sends
    found = [record for record in parse(content, Path(JOURNAL)) if not isinstance(record, notes)]
    expected: list[kinds.Record] = [
        kinds.Artifact(path=FILE, folder=""),
        kinds.Tags(values={Tag.RUN_DIGEST: digest}),
        replace(end, time=0),
    ]
    ended = {"status": end.status, "reason": end.reason, "ended": end.time}
    same = [replace(record, time=0) for record in found] == expected
    same = same and all(stated.get(name) == value for name, value in ended.items())
    return [] if same else [f"{JOURNAL}: does not end as the run stated"]


def hold(stated: Mapping[str, Any], found: Mapping[str, Any], told: str, tolerance: float = 0.0) -> None:
    """Raises Differs: these two are not the same; arguments as `differences` has them."""
    if lines := differences(stated, found, told, tolerance):
        raise Differs(*lines)


def differences(stated: Mapping[str, Any], found: Mapping[str, Any], told: str, tolerance: float = 0.0) -> list[str]:
    """A line for each statement that is not the same, or that only one of the two has; of a metric its first point.

    Args:
        told: how a line shows both values, such as ``stated {}, MLflow shows {}``.
        tolerance: relative, of fractions and of arrays.
    """
    lines = []
    for name in {**stated, **found}:
        was, now = stated.get(name, MISSING), found.get(name, MISSING)
        if _same(was, now, tolerance):
            continue
        if isinstance(was, list) and isinstance(now, list) and name.startswith("metrics/"):
            name, was, now = _first_point(name, was, now)
        line = told.format(_short(was), _short(now))
        if isinstance(was, float) and isinstance(now, float):
            line += f" ({now - was:+.3g})"
        elif isinstance(was, np.ndarray) and _short(was) == _short(now):
            line = f"differ by up to {np.abs(was - now).max():.3g}"
        lines.append(f"{name}: {line}")
    return lines


def _same(was: Any, now: Any, tolerance: float) -> bool:
    if isinstance(was, np.ndarray) or isinstance(now, np.ndarray):
        if _short(was) != _short(now):
            return False
        return bool(np.allclose(was, now, tolerance, tolerance)) if tolerance else was.tobytes() == now.tobytes()
    if isinstance(was, float) and isinstance(now, float):
        return math.isclose(was, now, rel_tol=tolerance)
    return bool(was == now)


def _first_point(name: str, was: list[Any], now: list[Any]) -> tuple[str, Any, Any]:
    a, b = next(pair for pair in zip_longest(was, now, fillvalue=MISSING) if pair[0] != pair[1])
    step, values = (b if a is MISSING else a)[0], [x if x is MISSING else x[1] for x in (a, b)]
    return f"{name} at step {step}", *(values if values[0] != values[1] else (a, b))


def _short(value: Any) -> str:
    if value is MISSING:
        return "nothing"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return shortened(value if isinstance(value, str) else json.dumps(value))
