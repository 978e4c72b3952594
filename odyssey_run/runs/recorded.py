"""Runs that were recorded: found by name, folder, key or MLflow id, here or in MLflow, and read from their journal."""

import sys
import tempfile
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from odyssey_core.backends.base import Backend
from odyssey_core.checkpoint import load_weights
from odyssey_core.classifier import Classifier
from odyssey_core.data import DATASETS
from odyssey_core.errors import ConfigError, DataError
from odyssey_core.registry import unknown
from odyssey_run.config import plugins
from odyssey_run.config.schema import TrackingConfig
from odyssey_run.runs import statements
from odyssey_run.runs.folder import RUNS
from odyssey_run.tracking.journal import first_record, load, read
from odyssey_run.tracking.location import Store, resolve
from odyssey_run.tracking.names import JOURNAL, Tag
from odyssey_run.tracking.records import RunRecords, whole


class _Metrics(dict[str, list[tuple[int, float]]]):
    """Metrics by name; a name that there is not raises a KeyError that says which there are."""

    def __missing__(self, name: str) -> NoReturn:
        raise KeyError(unknown("metric", name, self))


@dataclass(frozen=True)
class RecordedRun(RunRecords):
    """What a run left: its journal, and what it kept.

    Args:
        folder: where it is on this machine; None for one that only MLflow has.
        weights: arrays under the names in the file, float32; empty for a run that kept none.
        about: the file's metadata: how to use the weights alone.
    """

    folder: Path | None = None
    weights: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    about: dict[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def metrics(self) -> dict[str, list[tuple[int, float]]]:
        """Name to (step, value), in the order of the journal."""
        return _Metrics(super().metrics)

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """A row for each epoch: epoch, step, and the metrics that were recorded at its end.

        ``pandas.DataFrame(run.history)`` is a table of it. ``train/loss`` is the latest one, over the last
        ``trainer.log_every`` steps; ``train/epoch_loss`` is the mean over the epoch.
        """
        rows: dict[int, dict[str, Any]] = {}
        for name, points in self.metrics.items():
            if not name.startswith(("test/", "time/", "system/")):
                for step, value in points:
                    rows.setdefault(step, {"step": step})[name] = value
        latest: dict[str, Any] = {}
        history: list[dict[str, Any]] = []
        for row in (rows[step] for step in sorted(rows)):
            latest |= {name: row[name] for name in ("train/loss", "train/lr") if name in row}
            if "train/epoch_loss" in row:
                history.append({"epoch": len(history) + 1, **row, **latest})
        return history

    def classifier(self, backend: Backend | None = None) -> Classifier:
        """The trained model, ready to answer; by default on the fast backend.

        Raises:
            DataError: the run kept no weights.
            ConfigError: a plug-in is missing that the model cannot do without.
        """
        if not self.weights:
            hint = "; it is the mean of several, choose one of them" if Tag.SEEDS in self.tags else ""
            raise DataError(f"run_id: {self.name} ({self.status or 'unfinished'}) has kept no weights{hint}")
        plugins.require(plugins.needed(self.about), f"run_id: the model of {self.name} has operations of its own")
        return Classifier(self.weights, self.about, backend)

    def predict(self, images: Any) -> tuple[list[str], np.ndarray]:
        """Class names (N) and probabilities (N, classes) float64.

        Args:
            images: (N, C, H, W), (N, H, W, C), or (N, H, W) where C is 1: whole numbers from 0 to 255, as an array or
                nested lists, upright; ``Dataset.upright_test`` has those of a data set.

        Raises:
            DataError: other images, or no weights.
        """
        classifier = self._classifier
        probabilities = classifier.probabilities(classifier.pixels(images))
        return [classifier.class_names[i] for i in probabilities.argmax(axis=1).tolist()], probabilities

    def confusion(self, images: Any, labels: Any) -> np.ndarray:
        """How often each class is taken for which: (classes, classes) int64, a row for each true class.

        Args:
            images: as `predict` takes them.
            labels: (N,) the true classes, as numbers or names.

        Raises:
            DataError: other images or labels.
        """
        names, known = list(self._classifier.class_names), np.asarray(labels)
        predicted = [names.index(name) for name in self.predict(images)[0]]
        true = [names.index(str(x)) if str(x) in names and known.dtype.kind in "US" else x for x in known.tolist()]
        if known.shape != (len(predicted),) or not all(isinstance(x, int) and 0 <= x < len(names) for x in true):
            raise DataError(
                f"labels: expected {len(predicted)} numbers from 0 to {len(names) - 1}, or names of classes, got "
                f"{known.dtype} of shape {known.shape}"
            )
        counts = np.zeros((len(names), len(names)), np.int64)
        np.add.at(counts, (true, predicted), 1)
        return counts

    def _repr_html_(self) -> str:
        """What a notebook shows: how the run ended, and its curves where they were drawn."""
        from html import escape  # for notebooks alone

        ended = [f"{self.status or 'running'}", *([self.reason] if self.reason else [])]
        ended += [f"test accuracy {points[-1][1]:.2%}" for points in [self.metrics.get("test/accuracy")] if points]
        shown = f"<b>{escape(self.name)}</b>: {escape(', '.join(ended))}<br><code>{escape(str(self.folder))}</code><br>"
        for name in ("loss", "accuracy"):
            picture = (self.folder or Path()) / "plots" / f"{name}.png"
            if self.folder and picture.is_file():
                data = b64encode(picture.read_bytes()).decode()
                shown += f'<img width="480" alt="{name}" src="data:image/png;base64,{data}">'
        return shown

    @cached_property
    def _classifier(self) -> Classifier:
        return self.classifier()


def weights_file(model: str) -> Path:
    return Path(f"{model}_weights") / f"{model}.safetensors"


def find(run_id: str, tracking: TrackingConfig) -> RecordedRun:
    """Finds a run.

    Args:
        run_id: a folder, the name of one under runs/, a run's key, or its id in MLflow.
        tracking: where MLflow is, for a run that is not on this machine.

    Raises:
        ConfigError: no such run, or several.
        DataError: a run that was not recorded by this program, or whose files are damaged.
    """
    if folder := locate(run_id):
        return open_folder(folder)
    store = resolve(tracking, "")
    if store is None or (store.database and not store.database.exists()):
        raise ConfigError(f"run_id: no run {run_id!r} in {RUNS}/, nor is there an MLflow store; {_last()}")
    return _from_mlflow(run_id, store)


def _last() -> str:
    """The names of the runs on this machine that were written to last."""
    journals = sorted(RUNS.rglob(JOURNAL), key=lambda path: path.lstat().st_mtime)[-10:]
    return f"the last runs: {', '.join(path.parent.name for path in journals) or 'none'}"


def locate(run_id: str) -> Path | None:
    """The folder of a run on this machine; None where there is none. Raises ConfigError for several."""
    if (Path(run_id) / JOURNAL).is_file():
        return Path(run_id)
    places = [path.parent for path in sorted(RUNS.rglob(JOURNAL))]
    fitting = [p for p in places if p.name == run_id]
    fitting = fitting or [p for p, run in readable(places) if run_id in (run.run_id, run.key)]
    if len(fitting) > 1:
        raise ConfigError(f"run_id: {run_id!r} may be {', '.join(map(str, fitting))}; give the folder")
    return fitting[0] if fitting else None


def own_data(config: Mapping[str, Any], typed: Mapping[str, Any]) -> Any:
    """The data of the run, for a command that sets keys such as ``data.root=`` and names no data: those of the run that
    was typed, or as composed. Raises OdysseyError: no such run."""
    if not any(key.startswith("data.") for key in typed) or not isinstance(run_id := typed.get("run_id"), str):
        return config["data"]
    tracking = config["tracking"] if isinstance(config["tracking"], dict) else {}
    names = (each.name for each in fields(TrackingConfig))  # the others are refused later
    known = {name: typed.get(f"tracking.{name}", tracking.get(name)) for name in names}
    texts: dict[str, Any] = {name: value if value is None else str(value) for name, value in known.items()}
    run = find(run_id, TrackingConfig(**texts))
    data = dict(run.config["data"])
    if data["name"] not in DATASETS:
        plugins.require(plugins.recorded(run.tags), f"run_id: {run.name} was trained on {data['name']}")
    return data


def begun(folder: Path) -> bool:
    """Whether a run has written at least its first line there. Raises DataError: this program did not write it."""
    return (folder / JOURNAL).exists() and first_record(folder / JOURNAL) is not None


def open_run(folder: Path) -> RecordedRun:
    """The run in a folder, without its weights. Raises DataError: its journal is damaged, or not this program's."""
    return RecordedRun(load(folder / JOURNAL).records, folder)


def opened(folder: Path) -> RecordedRun | None:
    """As `open_run`; None where no run has begun."""
    path = folder / JOURNAL
    records = read(path)[0] if path.exists() else []
    return RecordedRun(whole(records, path).records, folder) if records else None


def readable(folders: Iterable[Path]) -> Iterator[tuple[Path, RecordedRun]]:
    """The runs that have begun in some folders; a journal that cannot be read costs a line and stops nothing else."""
    for folder in folders:
        run = None
        with passing_over():
            run = opened(folder)
        if run:
            yield folder, run


@contextmanager
def passing_over(folder: Path | None = None) -> Iterator[None]:
    """A block that reads one of several runs: a journal that cannot be read costs a line and stops nothing else. With
    the run's folder, so does any error of whatever wrote or changed its files."""
    try:
        yield
    except (DataError, OSError) as error:
        told = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else error
        print(f"odyssey-run: {told}; it is skipped", file=sys.stderr)
    except Exception as error:
        if folder is None:
            raise
        print(f"odyssey-run: {folder}: {error!r}; it is skipped", file=sys.stderr)


def open_folder(folder: Path, stays: bool = True) -> RecordedRun:
    """The run in a folder, with its weights; `stays` is False for a copy that will be removed. Raises DataError: its
    journal has no beginning, or its weights are damaged."""
    run = open_run(folder)
    kept, weights = folder.absolute() if stays else None, weights_file(run.config["model"]["name"])
    if not (folder / weights).exists():
        return replace(run, folder=kept)
    if run.end:
        _check_stated(folder, run, weights)
    return RecordedRun(run.records, kept, *load_weights(folder / weights))


def _check_stated(folder: Path, run: RecordedRun, weights: Path) -> None:
    """Raises DataError where what is read of a run that has ended is not what it stated, and ``task=verify`` held."""
    listed, journal = folder / statements.FILE, folder / JOURNAL
    if not listed.exists():
        raise DataError(f"{folder}: has no {statements.FILE}; the run was not made with this version of the program")
    content = listed.read_bytes()
    stated = statements.decode(content, str(listed))
    covered = stated["journal"] if isinstance(stated.get("journal"), dict) else {}
    found = {
        listed: (content, run.tags.get(Tag.RUN_DIGEST)),
        journal: (journal.read_bytes()[: covered.get("bytes", 0)], covered.get("sha256")),
        folder / weights: ((folder / weights).read_bytes(), stated.get(f"files/{weights.as_posix()}")),
    }
    for path, (now, was) in found.items():
        if statements.sha256(now) != was:
            line = f"{path}: SHA-256 is {statements.sha256(now)[:12]}, the run stated {str(was)[:12]}"
            raise DataError(f"{line}; it was changed or damaged after the run")


def _from_mlflow(run_id: str, store: Store) -> RecordedRun:
    from odyssey_run.tracking.client import fault_of, make_client

    where = f"{run_id} in {store.shown}"
    try:
        client = make_client(store)
        artifacts = {item.path for item in client.list_artifacts(run_id)}
    except Exception as error:  # whatever a store or a server answers with
        told = f"nor in {store.shown}: {fault_of(error)}"
        raise ConfigError(f"run_id: no run {run_id!r} in {RUNS}/, {told}; {_last()}") from None
    if JOURNAL not in artifacts:
        raise DataError(f"run_id: {where} has no {JOURNAL}; it is unfinished, or not of this program")
    with tempfile.TemporaryDirectory() as place:
        for path in artifacts:
            if path in (JOURNAL, statements.FILE) or path.endswith("_weights"):
                client.download_artifacts(run_id, path, place)
        run = open_folder(Path(place), stays=False)
        if run.tags.get(Tag.RUN_DIGEST) != client.get_run(run_id).data.tags.get(Tag.RUN_DIGEST):
            raise DataError(f"run_id: {where} has another run digest than its {JOURNAL} states")
        return run
