#!/usr/bin/env bash
# MLflow's download_artifacts takes a tracking_uri and follows it for "runs:/..." addresses, but looks a "models:/..."
# address up in the tracking store that is set for the process. A program that talks to two stores is told "not found"
# of a model that the store it named has, and that MlflowClient with the same address finds.
#
# Seen with mlflow 3.17.2 and Python 3.11: the file of the run is found, the logged model is not. The script fails where
# that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mlflow==3.17.2

cat > "$work/two_stores.py" <<'PYTHON'
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

folder = Path(sys.argv[1])
named, current = (f"sqlite:///{folder / name}.db" for name in ("named", "current"))
client = MlflowClient(named)
experiment = client.create_experiment("example", artifact_location=(folder / "artifacts").as_uri())
run = client.create_run(experiment).info.run_id
(folder / "model").mkdir()
(folder / "model" / "MLmodel").write_text("flavors: {}\n")
client.log_artifact(run, str(folder / "model" / "MLmodel"))
model = client.create_logged_model(experiment, "model", run).model_id
client.log_model_artifacts(model, str(folder / "model"))
client.finalize_logged_model(model, "READY")

MlflowClient(current).search_experiments()  # makes the other store
mlflow.set_tracking_uri(current)


def outcome(address: str) -> str:
    try:
        download_artifacts(artifact_uri=address, tracking_uri=named, dst_path=tempfile.mkdtemp(dir=folder))
    except mlflow.MlflowException as error:
        return f"refused: {str(error).replace(model, 'MODEL')}"
    return "found"


seen = {"runs:/RUN/MLmodel": outcome(f"runs:/{run}/MLmodel"), "models:/MODEL": outcome(f"models:/{model}")}
print(f"mlflow {version('mlflow')}")
print(f"MlflowClient(named).get_logged_model: {client.get_logged_model(model).status}")
for address, result in seen.items():
    print(f"download_artifacts({address!r}, tracking_uri=named): {result}")
sys.exit(seen != {"runs:/RUN/MLmodel": "found", "models:/MODEL": "refused: Logged model with ID 'MODEL' not found."})
PYTHON

MLFLOW_DISABLE_TELEMETRY=true "$work/venv/bin/python" -W ignore "$work/two_stores.py" "$work" 2> "$work/log" || {
    cat "$work/log" >&2
    echo "MLflow behaves otherwise than this file says" >&2
    exit 1
}
