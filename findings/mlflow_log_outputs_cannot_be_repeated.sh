#!/usr/bin/env bash
# MLflow's log_inputs may be called again with the same dataset: the second call changes nothing. Its counterpart
# log_outputs may not be called again with the same model: neither as it was, as a client does whose first answer got
# lost, nor for a later step, although LoggedModelOutput has a step. The answer is a violated constraint of the
# database, with the SQL statement, and not an error of MLflow's own such as RESOURCE_ALREADY_EXISTS.
#
# Seen with mlflow 3.17.2, SQLite and Python 3.11. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mlflow==3.17.2

cat > "$work/twice.py" <<'PYTHON'
import sys
from importlib.metadata import version

from mlflow import MlflowClient, MlflowException
from mlflow.entities import Dataset, DatasetInput, LoggedModelOutput

client = MlflowClient(f"sqlite:///{sys.argv[1]}/mlflow.db")
experiment = client.create_experiment("example")
run = client.create_run(experiment).info.run_id
model = client.create_logged_model(experiment, name="net", source_run_id=run).model_id
data = DatasetInput(Dataset(name="numbers", digest="1", source_type="local", source="numbers.csv"), [])


def answer(call, *arguments) -> str:
    try:
        call(run, list(arguments))
    except MlflowException as error:
        return f"{error.error_code}: {str(error).splitlines()[0].split(': ')[0]}"
    return "taken"


seen = {
    "the same dataset again": [answer(client.log_inputs, data) for _ in range(2)],
    "the same model again": [answer(client.log_outputs, LoggedModelOutput(model, step=10)) for _ in range(2)],
    "that model, a later step": [answer(client.log_outputs, LoggedModelOutput(model, step=20))],
}
print(f"mlflow {version('mlflow')}")
for what, answers in seen.items():
    print(f"{what}: {', then '.join(answers)}")
refused = "BAD_REQUEST: (sqlite3.IntegrityError) UNIQUE constraint failed"
kept = [(output.model_id == model, output.step) for output in client.get_run(run).outputs.model_outputs]
print(f"outputs of the run: {kept}")
sys.exit(list(seen.values()) != [["taken", "taken"], ["taken", refused], [refused]] or kept != [(True, 10)])
PYTHON

MLFLOW_DISABLE_TELEMETRY=true "$work/venv/bin/python" -W ignore "$work/twice.py" "$work" 2> "$work/log" || {
    cat "$work/log" >&2
    echo "MLflow behaves otherwise than this file says" >&2
    exit 1
}
