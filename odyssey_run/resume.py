"""Going on where a run was left: its checkpoint, one file, and which run is meant."""

import json
from pathlib import Path

import numpy as np

from odyssey_core.checkpoint import load_weights, save_weights
from odyssey_core.errors import ConfigError, DataError
from odyssey_run import provenance
from odyssey_run.assemble import Request
from odyssey_run.runs import RUNS, RecordedRun, begun, open_run
from odyssey_run.tracking.journal import FILE_NAME
from odyssey_run.trainer import State, Trainer

CHECKPOINT = "checkpoint.safetensors"
_ARRAYS = {"kept", "best"}
_LOSSES = {"losses", "window"}


def save(folder: Path, trainer: Trainer) -> None:
    """Writes all that a trainer is between two calls, atomically: the old checkpoint or the new one is there."""
    state = vars(trainer.state)
    arrays = {f"learner/{name}": value for name, value in trainer.learner.state().items()}
    for part in _ARRAYS:
        arrays |= {f"{part}/{name}": value for name, value in state[part].items()}
    arrays |= {name: np.array(state[name], np.float32) for name in _LOSSES}
    facts = {name: value for name, value in state.items() if name not in _ARRAYS | _LOSSES}
    metadata = {"state": json.dumps(facts), "clock": json.dumps(vars(trainer.clock))}
    save_weights(folder / CHECKPOINT, arrays, metadata)


def load(folder: Path, trainer: Trainer) -> bool:
    """Takes a trainer to where it was saved; returns False where nothing was saved yet.

    Raises:
        DataError: a file that is damaged or belongs to another model.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return False
    arrays, metadata = load_weights(path)
    try:
        facts, clock = json.loads(metadata["state"]), json.loads(metadata["clock"])
        parts: dict[str, dict[str, np.ndarray]] = {"learner": {}, **{part: {} for part in _ARRAYS}}
        for name, value in arrays.items():
            part, _, rest = name.partition("/")
            if rest:
                parts[part][rest] = value
        trainer.learner.load_state(parts.pop("learner"))
        losses = {name: arrays[name].tolist() for name in _LOSSES}
        trainer.state = State(**facts, **parts, **losses)
        vars(trainer.clock).update(clock)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: is no checkpoint of this program ({error!r}); remove it to begin again") from None
    return True


def find(request: Request) -> Path | None:
    """The folder of the run that ``resume=`` means; None to begin a new one.

    Raises:
        ConfigError: a run that is not here, has ended well, or was made by another configuration or other code.
    """
    if request.resume is None:
        return None
    runs = [open_run(path) for path in _folders(request) if begun(path)]
    if request.resume == "auto":
        fitting = [run for run in runs if not _over(run) and not _misfit(request, run)]
        return max(fitting, key=lambda run: run.start["time"]).folder if fitting else None
    for run in runs:
        if request.resume in (run.folder.name, run.key, run.run_id):
            if _over(run):
                raise ConfigError(f"resume: {run.folder} ended {run.status}; nothing is left to do")
            if why := _misfit(request, run):
                raise ConfigError(f"resume: {run.folder} {why}")
            return run.folder
    known = ", ".join(run.folder.name for run in runs) or "none"
    raise ConfigError(f"resume: no run {request.resume!r} in {RUNS}/; there are: {known}; or use resume=auto")


def _folders(request: Request) -> list[Path]:
    if request.run.dir:
        return [Path(request.run.dir)]
    return sorted(path.parent for path in RUNS.glob(f"{request.run.name or '*'}/{FILE_NAME}"))


def _over(run: RecordedRun) -> bool:
    """Whether nothing is left to do: a run that diverged would diverge again."""
    return run.status not in (None, "KILLED")


def _misfit(request: Request, run: RecordedRun) -> str | None:
    if provenance.identity(run.config) != provenance.identity(request.config):
        return "was made with another configuration; give the one in its config.yaml"
    if run.config["seeds"] != request.seeds:
        return f"has seeds={run.config['seeds']}; give the same"
    if run.tags["odyssey.code.sha256"] != provenance.code_digest():
        return "was made by other code, so it would be a mixture of two; begin a new run"
    return None
