"""What MLflow keeps beside runs: the models they left, the registry's versions of them, the data they read."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from odyssey_run.tracking.journal import series

SHOWN = ("test/accuracy", "test/loss", "val/accuracy", "val/loss")  # on a model's page
DIGEST = 32  # characters; MLflow takes 36
NOTE = "mlflow.note.content"  # the tag that is shown as a description
VERSIONS = "mlflow.modelVersions"  # the tag by which a model's page knows its versions

Records = Sequence[Mapping[str, Any]]


def log(client: Any, run_id: str, experiment_id: str, folder: Path, record: Mapping[str, Any], records: Records) -> str:
    """Makes a folder a model of a run; does nothing twice. Returns MLflow's id of the model.

    Args:
        client: MLflow's.
        run_id: of the run, as MLflow has it.
        experiment_id: likewise.
        folder: with an MLmodel file.
        record: the journal's, of the kind ``model``.
        records: the journal's; its metrics are shown with the model.
    """
    from mlflow.entities import LoggedModelOutput, Metric

    where = f"source_run_id = '{run_id}' AND name = '{record['path']}'"
    known = client.search_logged_models([experiment_id], where)
    model = known[0] if known else client.create_logged_model(experiment_id, record["path"], run_id)
    if model.status != "READY":
        client.log_model_artifacts(model.model_id, str(folder))
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, record["step"])])
        metrics = [r for r in records if r["kind"] == "metrics"]
        last = {k: (v, r["time"], r["step"]) for r in metrics for k, v in r["values"].items() if k in SHOWN}
        client.log_batch(run_id, [Metric(k, *point, model_id=model.model_id) for k, point in last.items()])
        client.finalize_logged_model(model.model_id, "READY")
    return model.model_id


def register(client: Any, uri: str, run_id: str, name: str, model_id: str, records: Records) -> int:
    """Makes a model a version in the registry, once, with the note of its run; returns the version.

    Args:
        client: MLflow's.
        uri: of its store.
        run_id: of the run, as MLflow has it.
        name: in the registry.
        model_id: MLflow's.
        records: the journal's.
    """
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
    notes = [r["values"][NOTE] for r in records if r["kind"] == "tags" and NOTE in r["values"]]
    source, note = f"models:/{model_id}", (notes or [None])[-1]
    made = client.create_model_version(name, source, run_id, description=note, model_id=model_id)
    versions = [{"name": name, "version": made.version}]
    client.set_logged_model_tags(model_id, {VERSIONS: json.dumps(versions)})
    return int(made.version)


def shown(records: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The metrics on the page of a model: the last value of each in the journal."""
    return {name: points[-1][1] for name, points in series(records).items() if name in SHOWN}


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
