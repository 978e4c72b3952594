"""Files on their way to where MLflow keeps the artifacts of a run or a model."""

import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

from odyssey_run.tracking.location import local_path


def put(source: Path, folder: str, location: str, uri: str) -> None:
    """Copies a file, or what is in a folder, below a location of artifacts.

    MLflow's client would ask the store for the location first, which the answer that made the run has told, and on this
    machine check every path several times.

    Args:
        folder: below the location; "" for the location itself.
        uri: of the MLflow store, which passes on artifacts of its own.

    Raises:
        Exception: whatever the file system, or MLflow's way to another machine, raises.
    """
    if here := local_path(location):
        within = source if source.is_dir() else source.parent
        for path in filter(Path.is_file, source.rglob("*") if source.is_dir() else [source]):
            to = here / folder / path.relative_to(within)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)
        return
    repository = _repository(location, uri)
    send = repository.log_artifacts if source.is_dir() else repository.log_artifact
    send(str(source), folder or None)


@lru_cache(maxsize=16)
def _repository(location: str, uri: str) -> Any:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(location, tracking_uri=uri)
