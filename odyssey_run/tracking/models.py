"""What MLflow keeps beside runs: the models they left, the registry's versions of them, the data they read."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from odyssey_run.tracking.client import put, repeated
from odyssey_run.tracking.names import Tag
from odyssey_run.tracking.records import Metrics, Record, RunRecords

SHOWN = ("test/accuracy", "test/loss", "val/accuracy", "val/loss")  # on a model's page
DIGEST = 32  # characters; MLflow takes 36
VERSIONS = "mlflow.modelVersions"  # the tag by which a model's page knows its versions

Point = tuple[str, float, int, int]  # name, value, milliseconds since 1970, optimizer steps


def begin(client: Any, run_id: str, experiment_id: str, name: str, look: bool) -> Any:
    """MLflow's model of a run, which is made where there is none; ``look`` where there may be one."""
    condition = f"source_run_id = '{run_id}' AND name = '{name}'"
    known = client.search_logged_models([experiment_id], condition) if look else ()
    return known[0] if known else client.create_logged_model(experiment_id, name, run_id)


def finish(client: Any, uri: str, run_id: str, model: Any, folder: Path, step: int) -> Any:
    """Gives MLflow's model the files of a folder, as the output of its run after so many optimizer steps.

    Does nothing twice. Returns the model.
    """
    from mlflow.entities import LoggedModelOutput

    if model.status == "READY":
        return model
    put(folder, "", model.artifact_location, uri)
    try:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])
    except Exception as error:
        if not repeated(error):
            raise
    return client.finalize_logged_model(model.model_id, "READY")


def register(client: Any, uri: str, run_id: str, name: str, model_id: str, records: RunRecords) -> int:
    """Makes a model a version in the registry under a name, once, with the note of its run; returns the version."""
    import mlflow
    from mlflow.exceptions import MlflowException

    # The registry looks the model up in the process's own store; another than this one would wait for its lock.
    mlflow.set_tracking_uri(uri)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    if known := client.search_model_versions(f"name = '{name}' AND run_id = '{run_id}'"):
        return int(known[0].version)
    source, note = f"models:/{model_id}", records.tags.get(Tag.NOTE)
    made = client.create_model_version(name, source, run_id, description=note, model_id=model_id)
    versions = [{"name": name, "version": made.version}]
    client.set_logged_model_tags(model_id, {VERSIONS: json.dumps(versions)})
    return int(made.version)


def points(records: Iterable[Record]) -> list[Point]:
    """The metrics in a journal as MLflow keeps them."""
    found = [record for record in records if isinstance(record, Metrics)]
    return [(name, value, r.time, r.step) for r in found for name, value in r.values.items()]


def shown_points(records: Iterable[Record]) -> list[Point]:
    """Those on the page of a model: the last of each in the journal."""
    return list({point[0]: point for point in points(records) if point[0] in SHOWN}.values())


def facts(tags: Mapping[str, str]) -> dict[str, str]:
    """The data that a run's tags name, as the page of a run shows it; empty where they name none.

    With our digest of every pixel and label: MLflow's own would cover the first dozen images alone.
    """
    found = {key.removeprefix("odyssey.data."): value for key, value in tags.items() if key.startswith("odyssey.data.")}
    if "sha256" not in found:
        return {}
    told = json.dumps(found)
    return {"name": found["name"], "digest": found["sha256"][:DIGEST], "source": told, "profile": told}


def dataset(tags: Mapping[str, str]) -> Any:
    """The same as an input of a run, for MLflow; None where the tags name none."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    if not (told := facts(tags)):
        return None
    return DatasetInput(Dataset(source_type="odyssey", **told), [InputTag("mlflow.data.context", "training")])
