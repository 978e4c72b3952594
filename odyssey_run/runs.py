"""Runs that were recorded: found by name, folder, key or MLflow id, here or in MLflow, and read from their journal."""

import json
import tempfile
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from odyssey_core.backends.base import Backend
from odyssey_core.checkpoint import load_weights
from odyssey_core.classifier import Classifier
from odyssey_core.errors import ConfigError, DataError
from odyssey_run.schema import TrackingConfig
from odyssey_run.tracking.journal import FILE_NAME, read
from odyssey_run.tracking.location import Store, resolve

RUNS = Path("runs")  # in the working directory


@dataclass(frozen=True)
class RecordedRun:
    """What a run left.

    Args:
        records: its journal.
        folder: where it is on this machine; None for one that only MLflow has.
        weights: arrays under the names in the file, float32; empty for a run that kept none.
        about: the file's metadata: how to use the weights alone.
    """

    records: list[dict[str, Any]] = field(repr=False)
    folder: Path | None
    weights: dict[str, np.ndarray] = field(repr=False)
    about: dict[str, str] = field(repr=False)

    @cached_property
    def start(self) -> dict[str, Any]:
        """The journal's first record."""
        return next(r for r in self.records if r["kind"] == "start")

    @property
    def config(self) -> dict[str, Any]:
        """The composed configuration."""
        return self.start["config"]

    @property
    def name(self) -> str:
        """For people."""
        return self.start["name"]

    @property
    def key(self) -> str:
        """Tells the run from all others; a child's parent."""
        return self.start["run"]

    @cached_property
    def tags(self) -> dict[str, str]:
        """With their last values."""
        return self.start["tags"] | {k: v for r in self.records if r["kind"] == "tags" for k, v in r["values"].items()}

    @cached_property
    def metrics(self) -> dict[str, list[tuple[int, float]]]:
        """Name to (step, value), in the order of the journal."""
        return series(self.records)

    @property
    def status(self) -> str | None:
        """FINISHED, FAILED or KILLED; None while it runs or where it was cut off."""
        last = [r for r in self.records if r["kind"] in ("resume", "end")][-1:]
        return last[0].get("status") if last else None

    @property
    def run_id(self) -> str | None:
        """In MLflow."""
        return next((r["run_id"] for r in self.records if "run_id" in r), None)

    @property
    def experiment_id(self) -> str | None:
        """In MLflow."""
        return next((r["experiment_id"] for r in self.records if "experiment_id" in r), None)

    def classifier(self, backend: Backend | None = None) -> Classifier:
        """The trained model, ready to answer; by default on the fast backend.

        Raises:
            DataError: the run kept no weights.
        """
        self._require_weights()
        return Classifier(self.weights, self.about, backend)

    def predict(self, images: Any) -> tuple[list[str], np.ndarray]:
        """Class names (N) and probabilities (N, classes) float64.

        Args:
            images: (N, C, H, W), or (N, H, W) where C is 1: whole numbers from 0 to 255, as an array or nested lists,
                upright, light on dark; ``Dataset.upright_test`` has those of a data set.

        Raises:
            DataError: other images, or no weights.
        """
        classifier = self._classifier
        probabilities = classifier.probabilities(classifier.pixels(images))
        return [classifier.class_names[i] for i in probabilities.argmax(axis=1)], probabilities

    @cached_property
    def _classifier(self) -> Classifier:
        return self.classifier()

    def _require_weights(self) -> None:
        """Raises DataError where there are none."""
        if not self.weights:
            hint = "; it is the mean of several, choose one of them" if "odyssey.seeds" in self.tags else ""
            raise DataError(f"run_id: {self.name} ({self.status or 'unfinished'}) has kept no weights{hint}")


def series(records: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """The metrics in a journal: name to (step, value)."""
    found: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        if record["kind"] == "metrics":
            for name, value in record["values"].items():
                found.setdefault(name, []).append((record["step"], value))
    return found


def weights_file(model: str) -> Path:
    """Where a run keeps its weights, in its folder and among its artifacts."""
    return Path(f"{model}_weights") / f"{model}.safetensors"


def find(run_id: str, tracking: TrackingConfig) -> RecordedRun:
    """The run that is meant.

    Args:
        run_id: a folder, the name of one under runs/, a run's key, or its id in MLflow.
        tracking: where MLflow is, for a run that is not on this machine.

    Raises:
        ConfigError: no such run, or several.
        DataError: a run that was not recorded by this program, or whose files are damaged.
    """
    if (Path(run_id) / FILE_NAME).is_file():
        return open_folder(Path(run_id))
    places = [path.parent for path in sorted(RUNS.rglob(FILE_NAME))]
    fitting = [p for p in places if p.name == run_id] or [p for p in places if run_id in _ids(p)]
    if len(fitting) > 1:
        raise ConfigError(f"run_id: {run_id!r} may be {', '.join(map(str, fitting))}; give the folder")
    if fitting:
        return open_folder(fitting[0])
    store = resolve(tracking, "")
    if store is None or (store.database and not store.database.exists()):
        here = ", ".join(p.name for p in places[-10:]) or "none"
        raise ConfigError(f"run_id: no run {run_id!r} in {RUNS}/, nor is there an MLflow store; the last runs: {here}")
    return _from_mlflow(run_id, store)


def begun(folder: Path) -> bool:
    """Whether a run has written at least its first line there."""
    return (folder / FILE_NAME).exists() and first_record(folder / FILE_NAME) is not None


def open_run(folder: Path) -> RecordedRun:
    """The run in a folder, without its weights."""
    return RecordedRun(read(folder / FILE_NAME)[0], folder, {}, {})


def first_record(journal: Path) -> dict[str, Any] | None:
    """A journal's first record, without reading the others; None where not even that was written."""
    with open(journal, "rb") as file:
        line = file.readline()
    try:
        record = json.loads(line)
        return record if record["kind"] == "start" else None
    except (ValueError, KeyError):
        return None


def open_folder(folder: Path) -> RecordedRun:
    """The run in a folder.

    Raises:
        DataError: a journal without a beginning, or weights that are damaged.
    """
    return _read(folder, folder.absolute())


def _read(folder: Path, kept: Path | None) -> RecordedRun:
    if not begun(folder):
        raise DataError(f"{folder / FILE_NAME}: says nothing of how the run began")
    run = replace(open_run(folder), folder=kept)
    path = folder / weights_file(run.config["model"]["name"])
    return RecordedRun(run.records, kept, *load_weights(path)) if path.exists() else run


def _ids(folder: Path) -> set[str]:
    records = read(folder / FILE_NAME)[0]
    return {r["run"] for r in records if r["kind"] == "start"} | {r["run_id"] for r in records if "run_id" in r}


def _from_mlflow(run_id: str, store: Store) -> RecordedRun:
    from odyssey_run.tracking.sender import fault_of, make_client

    try:
        client = make_client(store)
        artifacts = {item.path for item in client.list_artifacts(run_id)}
    except Exception as error:  # whatever a store or a server answers with
        raise ConfigError(f"run_id: no run {run_id!r} in {RUNS}/, nor in {store.uri}: {fault_of(error)}") from None
    if FILE_NAME not in artifacts:
        raise DataError(f"run_id: {run_id} in {store.uri} has no {FILE_NAME}; it is unfinished, or not of this program")
    with tempfile.TemporaryDirectory() as place:
        for path in artifacts:
            if path == FILE_NAME or path.endswith("_weights"):
                client.download_artifacts(run_id, path, place)
        return _read(Path(place), None)
