"""The model that a run leaves: loaded by MLflow itself, registered, and what it refuses."""

import json
import re

import numpy as np
import pytest
from quick import QUICK

from odyssey_core.data import DATASETS
from odyssey_run import cli
from odyssey_run.config.schema import TrackingConfig
from odyssey_run.runs import recorded

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow's own, and of what it imports

GOOD = [[[0] * 28] * 28]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A run in MLflow, with its model registered; (store's URI, the run)."""
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        arguments = [a for a in QUICK if a != "tracking=none"]
        assert cli.main([*arguments, "run.name=one", "tracking.register=reader"]) == 0
        yield f"sqlite:///{folder / 'mlflow.db'}", recorded.find("one", TrackingConfig("none", None, None, None))


@pytest.fixture(scope="module")
def mlflow(tracked):
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracked[0])
    yield mlflow
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def served(tracked, mlflow):
    """The model as a server has it."""
    return mlflow.pyfunc.load_model(f"runs:/{tracked[1].run_id}/model", model_config={"backend": "numpy"})


def test_mlflow_loads_it_from_the_run_and_from_the_registry(tracked, mlflow):
    _, run = tracked
    images = DATASETS["digits"]().test.pixels[:20]
    labels, probabilities = run.predict(images)
    for uri in (f"runs:/{run.run_id}/model", "models:/reader/1"):
        model = mlflow.pyfunc.load_model(uri, model_config={"backend": "numpy"})
        assert str(model.metadata.signature.inputs) == "[Tensor('uint8', (-1, 28, 28))]"
        found = model.predict(images[:, 0])
        assert found["labels"] == labels
        np.testing.assert_allclose(found["probabilities"], probabilities, atol=1e-5)
        assert model.predict(model.input_example)["labels"] == labels[:2]


def test_the_pages_of_run_and_model_know_each_other(tracked, mlflow):
    _, run = tracked
    client = mlflow.MlflowClient()
    recorded = client.get_run(run.run_id)
    (data,) = recorded.inputs.dataset_inputs
    assert (data.dataset.name, len(data.dataset.digest)) == ("digits", 32)
    assert run.tags["odyssey.data.sha256"].startswith(data.dataset.digest)
    (output,) = recorded.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert (model.status, model.source_run_id, output.step) == ("READY", run.run_id, 3)
    assert {m.key: m.value for m in model.metrics}["test/accuracy"] == recorded.data.metrics["test/accuracy"]
    (version,) = json.loads(model.tags["mlflow.modelVersions"])
    assert (version["name"], int(version["version"])) == ("reader", 1)
    assert recorded.data.tags["mlflow.note.content"].startswith("**lenet5** on **digits**")


def test_nothing_is_pickled(tracked):
    files = sorted(path.name for path in (tracked[1].folder / "model").iterdir())
    assert files == [
        "MLmodel", "conda.yaml", "input_example.json", "python_env.yaml", "requirements.txt",
        "serving_input_example.json", "weights.safetensors",
    ]  # fmt: skip
    pins = (tracked[1].folder / "model" / "requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[a-z-]+==[0-9.a-z]+", pin) for pin in pins)


def _with(value):
    return [[[value] * 28] * 28]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"inputs": GOOD}, 200, "labels"),
        ({"inputs": _with(255.0)}, 200, "labels"),
        ({"inputs": _with(0.5)}, 400, "got fractions; multiply pixels"),
        ({"inputs": _with(256)}, 400, "got values from 256 to 256"),
        ({"inputs": _with(-1)}, 400, "got values from -1 to -1"),
        ({"inputs": _with(float("nan"))}, 400, "got values from nan to nan"),
        ({"inputs": _with(10**30)}, 400, "got object of shape"),
        ({"inputs": _with("a")}, 400, "got <U1 of shape"),
        ({"inputs": [[0] * 28] * 28}, 400, r"N at least 1, got shape \(28, 28\)"),
        ({"inputs": []}, 400, r"N at least 1, got shape \(0,\)"),
        ({"inputs": [[[1, 2], [3]]]}, 400, "got lists of different lengths"),
        ({"instances": GOOD}, 400, "must be a dictionary with 'inputs' key"),
        ({}, 400, "must be a dictionary with 'inputs' key"),
    ],
)
def test_a_server_answers_with_a_reason(served, body, status, says):
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc.scoring_server import invocations

    try:
        answer = invocations(json.dumps(body), "application/json", served, served.metadata.get_input_schema())
        found, text = answer.status, answer.response
    except MlflowException as error:  # which the server turns into its answer
        found, text = error.get_http_status_code(), error.message
    assert found == status
    assert re.search(says, text)
