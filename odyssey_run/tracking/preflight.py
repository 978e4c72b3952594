"""What MLflow would say to a run, asked before anything is trained."""

import os
from typing import Any

from odyssey_run.tracking.client import artifacts_at, fault_of, is_deleted
from odyssey_run.tracking.location import ARTIFACT_FOLDER, Store, local_path


def faults(client: Any, store: Store, run_id: str | None) -> list[str]:
    """One line for each thing that would keep a run, or its files, from arriving; the id is that of a run that is
    continued. Raises whatever MLflow raises where it does not answer."""
    found = []
    how = f"MLFLOW_TRACKING_URI='{store.shown}' mlflow"
    experiment = client.get_experiment_by_name(store.experiment)
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        found.append(
            f"tracking.experiment: {store.experiment!r} was deleted in MLflow; bring it back with "
            f"{how} experiments restore --experiment-id {experiment.experiment_id}, or choose another"
        )
    elif run_id and is_deleted(client, run_id):
        found.append(
            f"resume: run {run_id} was deleted in MLflow; bring it back with {how} runs restore --run-id {run_id}, "
            "or go on with tracking=none"
        )
    location = experiment.artifact_location if experiment else store.artifact_location
    if location is None:  # the server decides, and has decided for its own first experiment
        location = client.get_experiment("0").artifact_location
    if fault := _out_of_reach(location, store):
        found.append(f"tracking.uri: the artifacts of {store.experiment!r} are stored in {location}, {fault}")
    return found


def _out_of_reach(location: str, store: Store) -> str | None:
    """Why this machine cannot write files to a place, such as a path on the server's own disk."""
    if place := local_path(location):
        while not place.exists():
            place = place.parent
        if place.is_dir() and os.access(place, os.W_OK):
            return None
        hint = (
            ""
            if store.artifact_location
            else "; start mlflow server with --artifacts-destination, which passes them on"
        )
        return f"and {place} cannot be written{hint}"
    try:
        artifacts_at(location, store.uri).list_artifacts(ARTIFACT_FOLDER)
    except OSError:  # no answer now
        return None
    except Exception as error:  # a package that is missing, keys that are, or are not the right ones
        return f"which is out of reach: {fault_of(error)}"
    return None
