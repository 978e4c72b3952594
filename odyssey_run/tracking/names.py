"""Names that MLflow and the journal know: statuses, tags, and what MLflow takes as a name of somebody's choice.

MLflow's rules are repeated here, since importing MLflow takes two seconds.
"""

import posixpath
from collections.abc import Mapping
from enum import StrEnum

JOURNAL = "journal.jsonl"  # in the folder of a run
MOST = 500  # characters of an experiment's name


class Status(StrEnum):
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


class Tag(StrEnum):
    """Names of tags, which MLflow shows with a run and searches by."""

    RUN = "odyssey.run"  # the run's key
    RUN_DIGEST = "odyssey.run.sha256"  # of its list of statements
    CONFIG_DIGEST = "odyssey.config.sha256"
    CODE_DIGEST = "odyssey.code.sha256"
    DATA_NAME = "odyssey.data.name"
    DATA_DIGEST = "odyssey.data.sha256"
    DATA_OFFICIAL = "odyssey.data.official"
    START_DIGEST = "odyssey.start.sha256"  # of the weights that training begins with, where they were given
    WEIGHTS_DIGEST = "odyssey.weights.sha256"
    BACKEND = "odyssey.backend"
    COMMAND = "odyssey.command"
    STEP = "odyssey.step"  # the last one
    SEEDS = "odyssey.seeds"
    SWEEP = "odyssey.sweep"
    BEST = "odyssey.sweep.best"
    PRUNED = "odyssey.pruned"
    CLAIMS = "odyssey.claims"
    VERIFIED = "odyssey.verified"  # the verdict on a run
    VERIFIES = "odyssey.verifies"  # the id of the run that a verification is about
    FOLDER = "odyssey.folder"
    HOST = "odyssey.process.host"
    BOOT = "odyssey.process.boot"
    PID = "odyssey.process.pid"
    DIRTY = "odyssey.git.dirty"
    NOTE = "mlflow.note.content"  # shown as a description
    PARENT = "mlflow.parentRunId"


# Those that are in a run's journal alone: on its page in MLflow they would hide what people look for.
KEPT_HERE = (
    *("odyssey.python", "odyssey.machine", "odyssey.cpu", "odyssey.version.", "odyssey.plugin.", "odyssey.data."),
    *(Tag.CONFIG_DIGEST, Tag.CODE_DIGEST, Tag.START_DIGEST, Tag.BACKEND, Tag.STEP, Tag.DIRTY),
)


def sent(tags: Mapping[str, str]) -> dict[str, str]:
    """Those of a run's tags that MLflow shows."""
    return {str(name): value for name, value in tags.items() if not name.startswith(KEPT_HERE)}


def model_fault(name: str) -> str | None:
    """What MLflow would find wrong with a name in its registry of models; None where nothing is."""
    if not name.strip() or "/" in name or ":" in name:
        return "MLflow takes a name without / and :"
    if posixpath.normpath(name) != name or name in (".", ".."):
        return "MLflow takes no name that would be another as a file's"
    return None
