#!/usr/bin/env bash
# A model that takes pixels as uint8 says so in its MLflow signature, and mlflow.pyfunc refuses arrays of other types.
# MLflow's server, with the same model and signature, converts the numbers of a request by cutting their fractions off.
# Whoever sends it pixels between 0 and 1 gets status 200 and predictions for black pictures. 256, which uint8 cannot
# hold either, is refused.
#
# Seen with mlflow 3.17.2, numpy 2.4.6 and Python 3.11. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mlflow==3.17.2 numpy==2.4.6 fastapi==0.165.0 httpx2==2.16.2

cat > "$work/brightness.py" <<'PYTHON'
import mlflow
from mlflow.pyfunc import PythonModel


class Brightness(PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input.mean(axis=(1, 2))


mlflow.models.set_model(Brightness())
PYTHON

cat > "$work/serve.py" <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
from fastapi.testclient import TestClient
from mlflow.models import ModelSignature
from mlflow.pyfunc import scoring_server
from mlflow.types import Schema, TensorSpec

folder = Path(sys.argv[1])
pixels = Schema([TensorSpec(np.dtype(np.uint8), (-1, 2, 2))])
brightness = Schema([TensorSpec(np.dtype(np.float64), (-1,))])
mlflow.pyfunc.save_model(
    folder / "model",
    python_model=str(folder / "brightness.py"),
    signature=ModelSignature(pixels, brightness),
    pip_requirements=[],
)
model = mlflow.pyfunc.load_model(str(folder / "model"))
server = TestClient(scoring_server.init(model))


def called(picture) -> str:
    try:
        return f"{model.predict(picture)}"
    except mlflow.MlflowException as error:
        return f"refused: {str(error).partition(' Error: ')[2]}"


def served(picture) -> str:
    answer = server.post("/invocations", json={"inputs": picture.tolist()})
    return f"{answer.status_code} {answer.json().get('predictions', 'refused')}"


pictures = {
    "0 to 255": np.array([[[0, 255], [255, 255]]]),
    "0 to 1": np.array([[[0.2, 0.9], [0.9, 0.9]]]),
    "0 to 256": np.array([[[0, 256], [256, 256]]]),
}
refusal = "refused: dtype of input {} does not match expected dtype uint8"
expected = {
    "0 to 255": (refusal.format("int64"), "200 [191.25]"),
    "0 to 1": (refusal.format("float64"), "200 [0.0]"),
    "0 to 256": (refusal.format("int64"), "400 refused"),
}
print(f"mlflow {version('mlflow')}, numpy {np.__version__}")
seen = {what: (called(picture), served(picture)) for what, picture in pictures.items()}
for what, (direct, answer) in seen.items():
    print(f"pixels {what}: mlflow.pyfunc: {direct}; the server: {answer}")
sys.exit(seen != expected)
PYTHON

MLFLOW_DISABLE_TELEMETRY=true "$work/venv/bin/python" -W ignore "$work/serve.py" "$work" 2> "$work/log" || {
    cat "$work/log" >&2
    echo "MLflow behaves otherwise than this file says" >&2
    exit 1
}
