"""Training with everything around it: the run's records, checkpoints, the test, claims and the files it leaves."""

import json
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from odyssey_core import register
from odyssey_core.checkpoint import artifact_names, digest, save_weights
from odyssey_core.data import Dataset
from odyssey_core.data.preparation import written
from odyssey_core.errors import DataError
from odyssey_core.registry import resolved
from odyssey_core.stored import encode
from odyssey_run.config import changes, claims
from odyssey_run.config.request import Request
from odyssey_run.reports import presentation, summary
from odyssey_run.runs import provenance
from odyssey_run.runs.events import Listener, Outcome
from odyssey_run.runs.folder import CHECKPOINT
from odyssey_run.runs.recorded import RecordedRun, begun, open_run, opened, weights_file
from odyssey_run.runs.recorder import RunPlan, RunRecorder, plan_run
from odyssey_run.tracking.names import JOURNAL, Status, Tag
from odyssey_run.training import resume
from odyssey_run.training.build import Assembly, assemble, sharing
from odyssey_run.training.trainer import Trainer

CLAIMS, CLAIM_MISSED = "claims.json", 3


class _Saver:
    """Writes checkpoints; one that cannot be written is reported once, and training continues."""

    def __init__(self, recorder: RunRecorder):
        self.recorder, self._told = recorder, False
        self._identity = provenance.identity(recorder.plan.request.config)

    def __call__(self, trainer: Trainer) -> None:
        try:
            resume.save(self.recorder.path, trainer, self._identity)
        except OSError as error:
            if not self._told:
                self.recorder.screen.say(f"no checkpoint could be written: {error}; training continues", "yellow")
            self._told = True


@dataclass(frozen=True)
class Prepared:
    """What training needs, made before anything of the run is written."""

    assembly: Assembly
    folder: Path | None = None  # of the unfinished run to continue; None for a new run
    checkpoint: resume.Checkpoint | None = None  # its newest one, if it has any


def run(request: Request) -> tuple[int, Path]:
    """Trains what was asked for, or continues it; one run, or one for each of several seeds under a parent.

    Returns:
        The exit code, as `cli.HELP` lists them, and the run's folder.

    Raises:
        OdysseyError: a mistake in what was asked for; nothing has been written then.
    """
    found = resume.find(request)
    with plan_run(request, resuming=found is not None) as plan:
        if request.seeds == 1:
            return train_one(plan, prepare(request, found))
        base = f"{request.model.name}-{request.optim.name}-{request.seeds}seeds"
        with plan.resume(found) if found else plan.begin(base, {Tag.SEEDS.value: str(request.seeds)}) as recorder:
            code = _trained_seeds(recorder, request)
        return recorder.code(code), recorder.path


def prepare(request: Request, found: Path | None = None) -> Prepared:
    """Makes all that training needs; ``found`` is a run's own folder, where it is continued if it has begun there.
    Raises OdysseyError: a mistake in what was asked for, or a run that cannot be continued with it."""
    assembly = assemble(request)
    if not found or not begun(found):
        return Prepared(assembly)
    _check_data(found, assembly)
    return Prepared(assembly, found, resume.load(found, provenance.identity(request.config)))


def train_one(plan: RunPlan, prepared: Prepared, listeners: tuple[Listener, ...] = ()) -> tuple[int, Path]:
    """Trains once; the listeners are called after the journal and the screen. Returns as `run`."""
    request, assembly = plan.request, prepared.assembly
    tags = provenance.data_tags(assembly.dataset, assembly.backend)
    tags |= {Tag.START_DIGEST: assembly.start} if assembly.start else {}
    if request.plots.enabled:
        presentation.load()  # while the process beside this one imports MLflow, whose answer the run waits for
    lr = f"-lr{request.optim.arguments['lr']:g}" if "lr" in request.optim.arguments else ""
    base = f"{request.model.name}-{request.optim.name}{lr}-s{request.seed}"
    with plan.resume(prepared.folder) if prepared.folder else plan.begin(base, tags) as recorder:
        code = _trained(recorder, prepared, listeners)
    return recorder.code(code), recorder.path


def _trained(recorder: RunRecorder, prepared: Prepared, listeners: tuple[Listener, ...]) -> int:
    request, assembly, screen = recorder.plan.request, prepared.assembly, recorder.screen
    trainer = make_trainer(
        request,
        assembly,
        (recorder, screen, *listeners),
        stop=lambda: recorder.asked.signum,
        save=_Saver(recorder),
    )
    if checkpoint := prepared.checkpoint:
        checkpoint.give(trainer)
        if checkpoint.damaged:
            screen.say(f"{checkpoint.damaged}; the checkpoint before it is used", "yellow")
        screen.say(f"resumed at step {trainer.state.step:,}")
    _introduce(request, assembly, recorder)
    plan = assembly.learner.plan
    screen.begin(plan.steps)
    outcome = trainer.run()
    weights = keep_weights(request, assembly, outcome, recorder.path)
    recorder.artifact(weights)
    recorder.tags({Tag.WEIGHTS_DIGEST.value: digest(outcome.weights), Tag.STEP.value: str(outcome.step)})
    screen.end(outcome, len(assembly.dataset.test), weights)
    early = outcome.status == Status.FINISHED and outcome.step < plan.steps
    if early and request.trainer.time_budget_s and plan.schedule.spans_run():
        screen.say(
            f"trainer.time_budget_s ended training after {outcome.step:,} of {plan.steps:,} steps: "
            f"scheduler={request.scheduler.name} was planned for all of them and did not reach its end"
        )
    if outcome.pruned:
        recorder.tags({Tag.PRUNED.value: "true"})
    if outcome.status == Status.KILLED:
        recorder.artifact(recorder.path / CHECKPOINT)
    if outcome.status == Status.FINISHED:
        with presentation.harmless(screen):
            presentation.present(request, recorder, assembly.dataset, weights, outcome)
    return _conclude(recorder, outcome.status, outcome.exit_code, outcome.reason, recorder.records().last)


def make_trainer(request: Request, assembly: Assembly, listeners: Iterable[Listener], **rest: Any) -> Trainer:
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


def _check_data(found: Path, assembly: Assembly) -> None:
    """Raises DataError where a run would be continued with other data or from other first weights."""
    tags = open_run(found).start.tags
    data = "data", Tag.DATA_DIGEST, assembly.dataset.digest
    for what, tag, now in (data, ("first weights", Tag.START_DIGEST, assembly.start)):
        if (was := tags.get(tag)) != now:
            made = f"{what} of SHA-256 {str(was)[:12]}"
            raise DataError(f"resume: {found} was made with {made}, got {str(now)[:12]}; begin a new run")


def _trained_seeds(recorder: RunRecorder, request: Request) -> int:
    """A run for seed, seed + 1, ... under a parent, which holds their means and standard deviations."""
    code, runs, screen = 0, list[RecordedRun](), recorder.screen
    asked, made = recorder.asked.signum, dict[str, Any]()
    for seed in range(request.seed, request.seed + request.seeds):
        if asked is not None:  # before the first, or in the pictures of the last, whose training was over
            reason = f"stopped by {signal.Signals(asked).name}"
            screen.say(f"\nKILLED after {len(runs)} of {request.seeds} seeds: {reason}", "yellow")
            return _conclude(recorder, Status.KILLED, 128 + asked, reason)
        own = request.of_seed(seed)
        folder = recorder.path / f"seed-{seed}"
        child = recorder.part(own, folder)
        screen.say(f"\nseed {seed}", "bold")
        if not done_before(child, folder):
            code, _ = train_one(child, prepare(sharing(own, made), folder))
        runs.append(open_run(folder))
        if (status := runs[-1].status) != Status.FINISHED:
            return _conclude(recorder, status or Status.FAILED, code, runs[-1].reason)
        asked = recorder.asked.signum or child.asked.signum
    means = claims.means([run.last for run in runs])
    recorder.metrics(int(runs[-1].tags[Tag.STEP]), means)
    screen.say()
    spread = f"accuracy {means['test/accuracy']:.2%} ± {means['test/accuracy_std']:.2%}"
    screen.field("mean", spread, f"of {len(runs)} seeds")
    return _conclude(recorder, Status.FINISHED, code, None, means)


def done_before(plan: RunPlan, folder: Path) -> bool:
    """Whether one of several runs, in a folder of its own, has finished; what of it is unsent is sent."""
    run = opened(folder)
    if run is None or run.status != Status.FINISHED:
        return False
    if plan.uploader and run.unsent:  # the process that was to send it died
        plan.uploader.follow(folder / JOURNAL)
    return True


def _introduce(request: Request, assembly: Assembly, recorder: RunRecorder) -> None:
    dataset, screen = assembly.dataset, recorder.screen
    count = sum(int(np.prod(p.shape)) for p in assembly.learner.parameters.values())
    shape = "×".join(map(str, dataset.input_shape))
    screen.field("model", request.model.name, f"{count:,} parameters, {shape} → {dataset.classes} classes")
    parts = ((len(assembly.train), "train"), (len(assembly.validation), "validation"), (len(dataset.test), "test"))
    sizes = ", ".join(f"{n:,} {part}" for n, part in parts)
    screen.field("data", dataset.name, f"{sizes}{summary.official(str(dataset.official), '; ')}")
    if dataset.left_out:
        first = f"{dataset.left_out[0]}; task=data lists all" if len(dataset.left_out) > 1 else dataset.left_out[0]
        screen.field("left out", f"{len(dataset.left_out):,} file{'s' * (len(dataset.left_out) > 1)}", first)
    numbers = {key: value for key, value in request.optim.arguments.items() if key != "groups"}
    if groups := request.optim.arguments.get("groups"):
        numbers["groups"] = " ".join(group["match"] for group in groups)
    arguments = ", ".join(f"{key} {value}" for key, value in numbers.items())
    steps = f"batch {request.trainer.batch_size}, seed {request.seed}"
    screen.field("optim", request.optim.name, f"{arguments}; {steps}")
    if request.weights:
        new = f"its last layer, {assembly.head}, is left out and drawn anew" if assembly.head else ""
        screen.field("weights", request.weights, new)
    if request.trainer.tta:
        screen.field("tta", request.trainer.tta, "every answer, and what is tested, is a mean over views of the image")
    screen.field("backend", assembly.backend)
    told = ", ".join(changes.changed(request.config, request.overrides))
    screen.field("changed", told or "nothing: every value is its default")
    screen.field("run", str(recorder.path))


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
        **_of_plugins(request, dataset),
    }


def _of_plugins(request: Request, dataset: Dataset) -> dict[str, str]:
    """What a weights file says of a model that plug-ins have a part in: all of it, or which they are."""
    of_models = [resolved(register.REGISTRIES[kind]) for kind in ("model", "layer", "loss")]
    makers = {source for registry in of_models for source in registry.added.values()}
    parts = {plugin.name: plugin.digest for plugin in request.plugins if plugin.name in makers}
    if not parts:
        return {}
    model = request.model.build(input_shape=dataset.input_shape, classes=dataset.classes)
    if graph := encode(model, request.loss.build(), dataset.input_shape):
        return {"graph": graph}
    return {"plugins": json.dumps(parts)}


def _conclude(
    recorder: RunRecorder, status: Status, code: int, reason: str | None, metrics: Mapping[str, float] | None = None
) -> int:
    """Holds a finished run against its claims and writes its end; returns the exit code."""
    expect = recorder.plan.request.expect
    if expect and status == Status.FINISHED:
        rows = claims.report(expect, metrics or {})
        recorder.screen.claims(rows)
        held = claims.all_held(rows)
        recorder.write(CLAIMS, claims.encode(rows))
        recorder.tags({Tag.CLAIMS.value: claims.HELD if held else claims.MISSED})
        if not held:
            code = CLAIM_MISSED
    recorder.end(status, reason)
    if status != Status.KILLED:  # not before: the disk may be full
        resume.remove(recorder.path)
    return code
