"""One training run from a checked request to its last line in MLflow: assemble, train, keep the weights, record."""

import json
import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from odyssey_core.checkpoint import artifact_names, digest, save_weights, write_atomic
from odyssey_core.data import Dataset, stratified_split
from odyssey_core.errors import ConfigError
from odyssey_core.learner import Learner
from odyssey_core.optim import Optimizer
from odyssey_run import folder, provenance
from odyssey_run.assemble import Request
from odyssey_run.binding import Faults
from odyssey_run.events import Listener, Outcome
from odyssey_run.signals import StopRequest
from odyssey_run.tracking.journal import FILE_NAME, Journal
from odyssey_run.tracking.location import resolve
from odyssey_run.tracking.uploader import Uploader
from odyssey_run.trainer import Trainer

if TYPE_CHECKING:
    from odyssey_run.console import Screen

CONFIG, LOG = "config.yaml", "train.log"


@dataclass(frozen=True)
class Assembly:
    """Everything that a run needs, ready."""

    dataset: Dataset
    train: np.ndarray
    validation: np.ndarray
    learner: Learner
    optimizer: Optimizer
    backend: str


def train(request: Request) -> int:
    """Runs one training.

    Returns:
        The exit code: 0 finished, 1 failed, 128 + the signal's number when stopped.

    Raises:
        OdysseyError: a mistake in what was asked for; nothing has been written then.
    """
    faults, store = [], None
    try:
        store = resolve(request.tracking, request.data.name)
    except ConfigError as error:
        faults.append(str(error))
    try:
        folder.check_writable(request)
    except ConfigError as error:
        faults.append(str(error))
    if faults:
        raise Faults(faults)
    _show_notices()
    uploader = Uploader(store) if store else None
    from odyssey_run.console import Screen  # beside MLflow's import

    try:
        assembly = assemble(request)
        path, name = folder.make(request, assembly.optimizer.lr)
        journal = Journal(path / FILE_NAME)
        screen = Screen(path / LOG)
        try:
            return _record(request, assembly, uploader, path, name, journal, screen)
        finally:
            screen.close()
            journal.close()
    finally:
        if uploader:
            uploader.abandon()


def _show_notices() -> None:
    """What the core has to say before there is a screen, that kernels are being compiled, goes to stderr."""
    core = logging.getLogger("odyssey_core")
    if not core.handlers:
        core.addHandler(logging.StreamHandler())
        core.setLevel(logging.INFO)
        core.propagate = False


def assemble(request: Request) -> Assembly:
    """Builds what was asked for, the data last of what can be wrong and the compiled learner last of all.

    Raises:
        OdysseyError: a backend that cannot run here, data that cannot be read, sizes that do not fit.
    """
    backend = request.backend.build()
    dataset = request.data.build()
    config = request.trainer
    size = check_sizes(request, len(dataset.train), dataset.classes)
    if size:
        train, validation = stratified_split(dataset.train.labels, size, request.seed)
    else:
        train, validation = np.arange(len(dataset.train)), np.empty(0, np.int64)
    optimizer = request.optim.build()
    model = request.model.build(input_shape=dataset.input_shape, classes=dataset.classes)
    learner = Learner(
        model,
        optimizer,
        backend,
        input_shape=dataset.input_shape,
        batch_size=config.batch_size,
        mean=dataset.mean,
        std=dataset.std,
        label_smoothing=config.label_smoothing,
        seed=request.seed,
        augment=dataset.augment,
    )
    return Assembly(dataset, train, validation, learner, optimizer, backend.describe())


def check_sizes(request: Request, images: int, classes: int) -> int:
    """Holds the trainer's numbers against the data's; returns the number of validation images.

    Raises:
        Faults: all that do not fit.
    """
    config, faults = request.trainer, []
    size = min(5000, images // 10) if config.validation_size is None else config.validation_size
    if size and not classes <= size < images:
        faults.append(
            f"trainer.validation_size: expected 0, or {classes} (the classes) to {images - 1} "
            f"(of the {images} training images), got {size}"
        )
        size = 0
    if config.batch_size > images - size:
        faults.append(
            f"trainer.batch_size: expected at most {images - size} (the training images left by validation), "
            f"got {config.batch_size}"
        )
    if faults:
        raise Faults(faults)
    return size


class _Recorder(Listener):
    """Writes metrics to the journal."""

    def __init__(self, journal: Journal):
        self.journal = journal

    def metrics(self, step, values) -> None:
        self.journal.append("metrics", step=step, values=dict(values))


def _record(
    request: Request,
    assembly: Assembly,
    uploader: Uploader | None,
    path: Path,
    name: str,
    journal: Journal,
    screen: "Screen",
) -> int:
    """The run itself, from its first journal line to its last."""
    write_atomic(path / CONFIG, yaml.safe_dump(request.config, sort_keys=False, allow_unicode=True).encode())
    journal.append(
        "start",
        run=f"{name}-{provenance.process()['pid']}-{path.stat().st_ctime_ns}",
        name=name,
        config=request.config,
        params=provenance.flatten(request.config),
        tags=provenance.tags(request, assembly.dataset, assembly.backend),
        process=provenance.process(),
        store=vars(uploader.store) if uploader else None,
    )
    if uploader:
        uploader.follow(journal.path)
    with StopRequest() as asked:
        try:
            _introduce(request, assembly, path, screen)
            outcome = _run_trainer(request, assembly, (_Recorder(journal), screen), asked, screen)
            weights = _keep_weights(request, assembly, outcome, path)
            screen.end(outcome, len(assembly.dataset.test), weights)
            for file in (CONFIG, LOG, weights.relative_to(path).as_posix()):
                journal.append("artifact", path=file, folder=Path(file).parent.as_posix().removeprefix("."))
            journal.append("end", status=outcome.status, reason=outcome.reason)
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt)
            journal.append("end", status="KILLED" if stopped else "FAILED", reason=repr(error))
            screen.stop_bar()
            _upload(uploader, screen, path, patience=5.0)
            raise
        _upload(uploader, screen, path)
    return outcome.exit_code


def _run_trainer(
    request: Request, assembly: Assembly, listeners: tuple[Listener, ...], asked: StopRequest, screen: "Screen"
) -> Outcome:
    trainer = Trainer(
        assembly.learner,
        assembly.dataset,
        assembly.train,
        assembly.validation,
        request.trainer,
        seed=request.seed,
        lr=assembly.optimizer.lr,
        listeners=listeners,
        stop=lambda: asked.signum,
    )
    screen.begin(trainer.steps)
    return trainer.run()


def _introduce(request: Request, assembly: Assembly, path: Path, screen: "Screen") -> None:
    dataset = assembly.dataset
    count = sum(int(np.prod(p.shape)) for p in assembly.learner.parameters.values())
    shape = "×".join(map(str, dataset.input_shape))
    screen.field("model", request.model.name, f"{count:,} parameters, {shape} → {dataset.classes} classes")
    parts = ((len(assembly.train), "train"), (len(assembly.validation), "validation"), (len(dataset.test), "test"))
    sizes = ", ".join(f"{n:,} {part}" for n, part in parts)
    screen.field("data", dataset.name, f"{sizes}; {'official' if dataset.official else 'not the official files'}")
    arguments = ", ".join(f"{key} {value}" for key, value in request.optim.arguments.items())
    steps = f"batch {request.trainer.batch_size}, seed {request.seed}"
    screen.field("optim", request.optim.name, f"{arguments}; {steps}")
    screen.field("backend", assembly.backend)
    screen.field("run", str(path))


def _keep_weights(request: Request, assembly: Assembly, outcome: Outcome, path: Path) -> Path:
    """The weights under the first version's tensor names, with what is needed to use the file alone."""
    dataset, model = assembly.dataset, request.model.name
    metadata = {
        "model": model,
        "model_config": json.dumps(request.model.arguments),
        "dataset": dataset.name,
        "mean": repr(dataset.mean),
        "std": repr(dataset.std),
        "orientation": dataset.orientation,
        "class_names": json.dumps(dataset.class_names),
        "input_shape": json.dumps(dataset.input_shape),
        "step": str(outcome.step),
        "sha256": digest(outcome.weights),
    }
    file = path / f"{model}_weights" / f"{model}.safetensors"
    save_weights(file, artifact_names(outcome.weights), metadata)
    return file


def _upload(uploader: Uploader | None, screen: "Screen", path: Path, patience: float | None = None) -> None:
    if uploader is None:
        return
    with screen.waiting("sending the run to MLflow"):
        complete = uploader.close(patience)
    if not complete:
        where = f"MLflow at {uploader.store.uri}"
        line = f"{where} has not all of this run ({uploader.fault}); it is whole in {path / FILE_NAME}"
        print(f"odyssey-run: {line}", file=sys.stderr)
        return
    address = uploader.store.address(uploader.experiment_id, uploader.run_id)
    if command := uploader.store.command():
        screen.field("look", command, "in this folder, then open", log=False)
        screen.field("", address, log=False)
    else:
        screen.field("look", address, log=False)
