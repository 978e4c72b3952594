"""Going on where a run was left: its checkpoint, one file, and which run is meant."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from odyssey_core.checkpoint import load_weights, save_weights
from odyssey_core.errors import ConfigError, DataError
from odyssey_run.config import plugins, sources
from odyssey_run.config.request import Request
from odyssey_run.runs import provenance
from odyssey_run.runs.events import Clock
from odyssey_run.runs.folder import CHECKPOINT, RUNS
from odyssey_run.runs.recorded import RecordedRun, readable
from odyssey_run.tracking.names import JOURNAL, Status, Tag
from odyssey_run.training.trainer import NOT_FINITE, State, Trainer

BEFORE = "checkpoint-before.safetensors"
_ARRAYS = {"kept", "best"}
_LOSSES = {"losses", "window"}


@dataclass(frozen=True)
class Checkpoint:
    """All that a trainer was between two calls, read and found whole."""

    path: Path
    state: State = field(repr=False)
    clock: Clock
    learner: dict[str, np.ndarray] = field(repr=False)
    damaged: str | None  # what is wrong with the later one, which `give` puts this in the place of

    def give(self, trainer: Trainer) -> None:
        """Takes a trainer to where it was saved. Raises DataError: it is of another model."""
        trainer.learner.load_state(self.learner)
        trainer.state, trainer.clock = self.state, self.clock
        if self.damaged:  # the next save would keep the damaged one beside it, and not this
            os.replace(self.path, self.path.with_name(CHECKPOINT))


def save(folder: Path, trainer: Trainer, config: str) -> None:
    """Writes all that a trainer is between two calls, with the `provenance.identity` of the run's configuration; the
    checkpoint before it is kept beside it."""
    state = vars(trainer.state)
    arrays = {f"learner/{name}": value for name, value in trainer.learner.state().items()}
    for part in _ARRAYS:
        arrays |= {f"{part}/{name}": value for name, value in state[part].items()}
    arrays |= {name: np.array(state[name], np.float32) for name in _LOSSES}
    facts = {name: value for name, value in state.items() if name not in _ARRAYS | _LOSSES}
    metadata = {"state": json.dumps(facts), "clock": json.dumps(vars(trainer.clock)), "config_sha256": config}
    # One of the two is whole at any moment, and room is made before it is asked for.
    with suppress(FileNotFoundError):
        os.replace(folder / CHECKPOINT, folder / BEFORE)
    save_weights(folder / CHECKPOINT, arrays, metadata)


def remove(folder: Path) -> None:
    for name in (CHECKPOINT, BEFORE):
        (folder / name).unlink(missing_ok=True)


def load(folder: Path, config: str) -> Checkpoint | None:
    """The newest whole checkpoint in a folder; None where nothing was saved yet. Raises DataError: there are
    checkpoints, and all are damaged or belong to another configuration."""
    faults: list[str] = []
    for path in (folder / CHECKPOINT, folder / BEFORE):
        if path.exists():
            try:
                return _read(path, config, faults[0] if faults else None)
            except DataError as error:
                faults.append(str(error))
    if faults:
        raise DataError(f"resume: {'; '.join(faults)}; remove what is damaged to begin again at step 0")
    return None


def _read(path: Path, config: str, damaged: str | None) -> Checkpoint:
    arrays, metadata = load_weights(path)
    if metadata.get("config_sha256") != config:
        raise DataError(f"{path}: belongs to a run with another configuration")
    try:
        state, clock = json.loads(metadata["state"]), json.loads(metadata["clock"])
        parts: dict[str, dict[str, np.ndarray]] = {"learner": {}, **{part: {} for part in _ARRAYS}}
        for name, value in arrays.items():
            part, _, rest = name.partition("/")
            if rest:
                parts[part][rest] = value
        learner = parts.pop("learner")
        state |= parts | {name: arrays[name].tolist() for name in _LOSSES}
        return Checkpoint(path, State(**state), Clock(**clock), learner, damaged)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: is no checkpoint of this program ({error!r})") from None


def find(request: Request) -> Path | None:
    """The folder of the run that ``resume=`` means; None to begin a new one. Raises ConfigError: a run that is not
    here, has ended well, or was made by another configuration or other code."""
    if request.resume is None:
        return None
    places = [path.parent for path in sorted(RUNS.glob(f"{request.run.name or '*'}/{JOURNAL}"))]
    runs = dict(readable([Path(request.run.dir)] if request.run.dir else places))
    if request.resume == "auto":
        fitting = [path for path, run in runs.items() if not _over(run) and not _misfit(request, run)]
        return max(fitting, key=lambda path: runs[path].start.time) if fitting else None
    meant = Path(request.resume).absolute()
    for path, run in runs.items():
        if request.resume in (path.name, run.key, run.run_id) or path.absolute() == meant:
            if _over(run):
                instead = "nothing is left to do"
                if run.status == Status.FINISHED:  # so did its schedule, and its checkpoint is gone
                    instead = f"for more epochs, model.weights={path.name} begins a new run with its weights"
                raise ConfigError(f"resume: {path} ended {run.status}; {instead}")
            if why := _misfit(request, run):
                raise ConfigError(f"resume: {path} {why}")
            return path
    known = ", ".join(path.name for path in runs) or "none"
    raise ConfigError(f"resume: no run {request.resume!r} in {RUNS}/; there are: {known}; or use resume=auto")


def _over(run: RecordedRun) -> bool:
    """Whether nothing is left to do: whatever else ended a run, a run that diverged would diverge again."""
    return run.status == Status.FINISHED or (run.status == Status.FAILED and NOT_FINITE in (run.reason or ""))


def _misfit(request: Request, run: RecordedRun) -> str | None:
    if provenance.identity(run.config) != provenance.identity(request.config):
        return "was made with another configuration; give the one in its config.yaml"
    if run.config.get("seeds") != request.seeds:
        return f"has seeds={run.config.get('seeds')}; give the same"
    if other := plugins.unlike(plugins.recorded(run.tags), request.plugins):
        return f"cannot go on: {'; '.join(other)}"
    if run.tags.get(Tag.CODE_DIGEST) != sources.digest(request.plugins):
        return "was made by other code, and results of two versions would be mixed; begin a new run"
    return None
