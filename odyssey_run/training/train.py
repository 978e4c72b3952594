"""``task=train``: one run, or one for each of several seeds under a parent."""

import json
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from odyssey_core.checkpoint import artifact_names, digest, save_weights, write_atomic
from odyssey_core.data import Dataset
from odyssey_core.data.preparation import written
from odyssey_core.errors import DataError
from odyssey_run.config import changes, claims, plugins
from odyssey_run.config.request import Request
from odyssey_run.reports import plots, presentation, summary
from odyssey_run.runs import provenance
from odyssey_run.runs.events import Listener, Outcome
from odyssey_run.runs.recorded import open_run, weights_file
from odyssey_run.runs.recorder import Session, recording, unsent
from odyssey_run.tracking.journal import FILE_NAME, read, series
from odyssey_run.training import resume
from odyssey_run.training.build import Assembly, assemble
from odyssey_run.training.trainer import Trainer

CLAIMS, CLAIM_MISSED = "claims.json", 3
STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class Result:
    """What a run came to.

    Args:
        status: FINISHED, FAILED or KILLED.
        exit_code: of the process.
        reason: why it did not finish.
        step: optimizer steps done.
        metrics: the last value of each.
    """

    status: str
    exit_code: int
    reason: str | None
    step: int
    metrics: dict[str, float]


class _Recorder(Listener):
    """Writes metrics to the journal."""

    def __init__(self, session: Session):
        self.session = session

    def metrics(self, step, values) -> None:
        self.session.metrics(step, values)


class _Saver:
    """Writes checkpoints; one that cannot be written is told of once, and training goes on."""

    def __init__(self, session: Session, identity: str):
        self.session, self.identity, self._told = session, identity, False

    def __call__(self, trainer: Trainer) -> None:
        try:
            resume.save(self.session.path, trainer, self.identity)
        except OSError as error:
            if not self._told:
                self.session.screen.say(f"no checkpoint could be written: {error}; training goes on", "yellow")
            self._told = True


class _Vitals(Listener):
    """Records after each epoch what the process takes, under the names of MLflow's page of system metrics."""

    def __init__(self, session: Session):
        self.session, self._wall, self._cpu = session, time.perf_counter(), time.process_time()

    def epoch(self, epoch) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        values = {"system/process_cpu_percentage": 100 * (cpu - self._cpu) / (wall - self._wall)}
        with suppress(OSError):  # where there is no /proc
            pages = int(STATM.read_text().split()[1])
            values["system/process_memory_megabytes"] = pages * os.sysconf("SC_PAGESIZE") / 1e6
        self.session.metrics(epoch.step, values)
        self._wall, self._cpu = wall, cpu


def train(request: Request) -> int:
    """Trains what was asked for, or goes on with it.

    Returns:
        The exit code: 0 finished, 1 failed, 3 a claim was missed, 5 MLflow has not all of it, 128 + a signal's number.

    Raises:
        OdysseyError: a mistake in what was asked for; nothing has been written then.
    """
    return run(request)[0].exit_code


def run(request: Request) -> tuple[Result, Path]:
    """What `train` does; returns what the run came to, and its folder."""
    found = resume.find(request)
    way = _seeds if request.seeds > 1 else train_one
    with recording(request, resuming=found is not None) as session:
        result = way(request, session, found)
    return replace(result, exit_code=session.code(result.exit_code)), session.path


def train_one(
    request: Request, session: Session, found: Path | None = None, listeners: tuple[Listener, ...] = ()
) -> Result:
    """One training in a session.

    Args:
        request: what to train.
        session: not begun.
        found: folder of the unfinished run to go on with.
        listeners: told after the journal and the screen.
    """
    assembly = assemble(request)
    identity = provenance.identity(request.config)
    recorder, checkpoint = _Recorder(session), None
    if found:
        _check_data(found, assembly)
        checkpoint = resume.load(found, identity)  # whatever is wrong with it, the run is as it was
        session.resume(found)
    else:
        tags = provenance.data_tags(assembly.dataset, assembly.backend)
        if assembly.start:
            tags["odyssey.start.sha256"] = assembly.start
        if request.plots.enabled:
            plots.load()  # while the process beside this one imports MLflow, whose answer `begin` waits for
        lr = f"-lr{request.optim.arguments['lr']:g}" if "lr" in request.optim.arguments else ""
        session.begin(f"{request.model.name}-{request.optim.name}{lr}-s{request.seed}", tags)
    screen = session.screen
    trainer = make_trainer(
        request,
        assembly,
        (recorder, _Vitals(session), screen, *listeners),
        stop=lambda: session.asked.signum,
        save=_Saver(session, identity),
    )
    if checkpoint:
        checkpoint.give(trainer)
        if checkpoint.damaged:
            screen.say(f"{checkpoint.damaged}; the checkpoint before it is used", "yellow")
        screen.say(f"resumed at step {trainer.state.step:,}")
    _introduce(request, assembly, session)
    plan = assembly.learner.plan
    screen.begin(plan.steps)
    outcome = trainer.run()
    weights = keep_weights(request, assembly, outcome, session.path)
    session.artifact(weights)
    session.tags({"odyssey.weights.sha256": digest(outcome.weights), "odyssey.step": str(outcome.step)})
    screen.end(outcome, len(assembly.dataset.test), weights)
    early = outcome.status == "FINISHED" and outcome.step < plan.steps
    if early and request.trainer.time_budget_s and plan.schedule.spans_run():
        screen.say(
            f"trainer.time_budget_s ended it at {outcome.step:,} of {plan.steps:,} steps: "
            f"scheduler={request.scheduler.name} was planned for all of them, and its end never came"
        )
    if outcome.status == "KILLED":
        session.artifact(session.path / resume.CHECKPOINT)
    if outcome.status == "FINISHED":
        with presentation.harmless(screen):
            presentation.present(request, session, assembly.dataset, weights, outcome.step)
    result = Result(outcome.status, outcome.exit_code, outcome.reason, outcome.step, last_metrics(session.path))
    return _conclude(request, session, result)


def make_trainer(request: Request, assembly: Assembly, listeners: Iterable[Listener], **rest) -> Trainer:
    """The trainer of a request; ``rest`` as `Trainer` takes it."""
    return Trainer(
        assembly.learner,
        assembly.dataset,
        assembly.train,
        assembly.validation,
        request.trainer,
        seed=request.seed,
        hooks=[hook.build() for hook in request.hooks],
        listeners=tuple(listeners),
        **rest,
    )


def last_metrics(folder: Path) -> dict[str, float]:
    """The last value of each metric of a run, but for what the process took."""
    points = series(read(folder / FILE_NAME)[0])
    return {name: values[-1][1] for name, values in points.items() if not name.startswith("system/")}


def _check_data(found: Path, assembly: Assembly) -> None:
    """A run that went on with other data or from other weights would be the truth about neither."""
    tags = open_run(found).start["tags"]
    for what, now in (("data", assembly.dataset.digest), ("start", assembly.start)):
        was = tags.get(f"odyssey.{what}.sha256")
        if was != now:
            made = f"{'data' if what == 'data' else 'first weights'} of SHA-256 {str(was)[:12]}"
            raise DataError(f"resume: {found} was made with {made}, got {str(now)[:12]}; begin a new run")


def _seeds(request: Request, session: Session, found: Path | None) -> Result:
    """A run for seed, seed + 1, ... under a parent, which holds their means and standard deviations."""
    if found:
        session.resume(found)
    else:
        base = f"{request.model.name}-{request.optim.name}-{request.seeds}seeds"
        session.begin(base, {"odyssey.seeds": str(request.seeds)})
    results, asked = [], session.asked.signum
    for seed in range(request.seed, request.seed + request.seeds):
        if asked is not None:  # before the first, or in the pictures of the last, whose training was over
            results.append(_stopped(request, session, results, signal.Signals(asked)))
            break
        config = {**request.config, "seed": seed, "seeds": 1, "expect": {}, "resume": None}
        child = Session(
            replace(request, config=config, seed=seed, seeds=1, expect={}),
            session.uploader,
            parent=session.key,
            place=session.path / f"seed-{seed}",
        )
        session.screen.say(f"\nseed {seed}", "bold")
        results.append(train_child(child))
        if results[-1].status != "FINISHED":
            break
        asked = session.asked.signum or child.asked.signum
    if all(r.status == "FINISHED" for r in results):
        metrics = claims.means([r.metrics for r in results])
        session.metrics(results[-1].step, metrics)
        results[-1] = replace(results[-1], metrics=metrics)
        mean, spread = metrics["test/accuracy"], metrics["test/accuracy_std"]
        session.screen.say()
        session.screen.field("mean", f"accuracy {mean:.2%} ± {spread:.2%}", f"of {len(results)} seeds")
    return _conclude(request, session, results[-1])


def _stopped(request: Request, session: Session, done: list[Result], asked: signal.Signals) -> Result:
    reason = f"stopped by {asked.name}"
    session.screen.say(f"\nKILLED after {len(done)} of {request.seeds} seeds: {reason}", "yellow")
    step, metrics = (done[-1].step, done[-1].metrics) if done else (0, {})
    return Result("KILLED", 128 + asked, reason, step, metrics)


def train_child(session: Session, *listeners: Listener) -> Result:
    """One of several runs in a folder of its own: what it came to before, the rest of it, or all of it."""
    place = session.place
    journal = place / FILE_NAME
    records = read(journal)[0] if journal.exists() else []
    if any(r["kind"] == "end" and r["status"] == "FINISHED" for r in records):
        if session.uploader and unsent(records):  # the process that was to send it died
            session.uploader.follow(journal)
        steps = [r["step"] for r in records if r["kind"] == "metrics"]
        return Result("FINISHED", 0, None, max(steps, default=0), last_metrics(place))
    try:
        return train_one(session.request, session, place if records else None, listeners)
    except BaseException as error:
        session.fail(error)
        raise
    finally:
        session.close()


def _introduce(request: Request, assembly: Assembly, session: Session) -> None:
    dataset, screen = assembly.dataset, session.screen
    count = sum(int(np.prod(p.shape)) for p in assembly.learner.parameters.values())
    shape = "×".join(map(str, dataset.input_shape))
    screen.field("model", request.model.name, f"{count:,} parameters, {shape} → {dataset.classes} classes")
    parts = ((len(assembly.train), "train"), (len(assembly.validation), "validation"), (len(dataset.test), "test"))
    sizes = ", ".join(f"{n:,} {part}" for n, part in parts)
    screen.field("data", dataset.name, f"{sizes}{summary.official(str(dataset.official), '; ')}")
    if dataset.left_out:
        first = f"{dataset.left_out[0]}; task=data lists all" if len(dataset.left_out) > 1 else dataset.left_out[0]
        screen.field("left out", f"{len(dataset.left_out):,} file{'s' * (len(dataset.left_out) > 1)}", first)
    told = {key: value for key, value in request.optim.arguments.items() if key != "groups"}
    if groups := request.optim.arguments.get("groups"):
        told["groups"] = " ".join(group["match"] for group in groups)
    arguments = ", ".join(f"{key} {value}" for key, value in told.items())
    steps = f"batch {request.trainer.batch_size}, seed {request.seed}"
    screen.field("optim", request.optim.name, f"{arguments}; {steps}")
    if request.weights:
        new = f"its last layer, {assembly.head}, is left out and drawn anew" if assembly.head else ""
        screen.field("weights", request.weights, new)
    if request.trainer.tta:
        screen.field("tta", request.trainer.tta, "every answer, and what is tested, is a mean over views of the image")
    screen.field("backend", assembly.backend)
    screen.field("changed", ", ".join(changes.changed(request.config)) or "nothing: every value is its default")
    screen.field("run", str(session.path))


def keep_weights(request: Request, assembly: Assembly, outcome: Outcome, path: Path) -> Path:
    """The weights under the first version's tensor names, with what is needed to use the file alone."""
    metadata = model_metadata(request, assembly.dataset) | {
        "step": str(outcome.step),
        "sha256": digest(outcome.weights),
        "config_sha256": provenance.identity(request.config),
    }
    file = path / weights_file(request.model.name)
    save_weights(file, artifact_names(outcome.weights), metadata)
    return file


def model_metadata(request: Request, dataset: Dataset) -> dict[str, str]:
    """What a `Classifier` must be told of a model beside its weights."""
    return {
        "model": request.model.name,
        "model_config": json.dumps(request.model.arguments),
        "loss": request.loss.name,
        "loss_config": json.dumps(request.loss.arguments),
        "dataset": dataset.name,
        "mean": json.dumps(dataset.mean),
        "std": json.dumps(dataset.std),
        "orientation": dataset.orientation,
        **written(dataset.preparation),
        **({"tta": request.trainer.tta} if request.trainer.tta else {}),
        "class_names": json.dumps(dataset.class_names),
        "input_shape": json.dumps(dataset.input_shape),
        **plugins.metadata(request, dataset),
    }


def _conclude(request: Request, session: Session, result: Result) -> Result:
    """Holds a finished run against its claims and writes its end."""
    if request.expect and result.status == "FINISHED":
        rows = claims.report(claims.read(request.expect), result.metrics)
        session.screen.claims(rows)
        held = claims.all_held(rows)
        write_atomic(session.path / CLAIMS, claims.encode(rows))
        session.artifact(session.path / CLAIMS)
        session.tags({claims.TAG: claims.HELD if held else claims.MISSED})
        if not held:
            result = replace(result, exit_code=CLAIM_MISSED)
    session.end(result.status, result.reason)
    if result.status != "KILLED":  # not before: the disk may be full
        resume.remove(session.path)
    return result
