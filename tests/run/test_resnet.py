"""A net with batch norm through the runner: exported, served, verified, shown."""

import numpy as np
import pytest
from quick import QUICK
from safetensors.numpy import load_file

from odyssey_core.backends import BACKENDS
from odyssey_core.data import DATASETS
from odyssey_run import cli
from odyssey_run.config.schema import TrackingConfig
from odyssey_run.runs import recorded

NONE = TrackingConfig("none", None, None, None)
RESNET = (*QUICK, "model=resnet8", "model.width=2", "trainer.batch_size=8")


@pytest.fixture
def trained():
    """A run of three steps."""
    assert cli.main([*RESNET, "run.name=net"]) == 0
    return recorded.find("net", NONE)


def test_buffers_are_in_the_weights_and_in_the_export(trained, tmp_path):
    classifier = trained.classifier(BACKENDS["numpy"]())
    averages = {name: value for name, value in classifier.parameters.items() if "running" in name}
    assert len(averages) == 2 * 9
    assert all((value != ("var" in name)).any() for name, value in averages.items()), "three steps have moved them"
    assert cli.main(["task=export", "run_id=net", "format=torch", "tracking=none"]) == 0
    exported = load_file(tmp_path / "net.safetensors")
    assert exported.keys() == classifier.parameters.keys()
    for name, value in averages.items():
        np.testing.assert_array_equal(exported[name], value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own, and of what it imports
def test_the_served_model_runs_on_the_backend_of_the_run(trained):
    import mlflow

    model = mlflow.pyfunc.load_model(trained.folder / "model")
    assert model.model_config["backend"] == "numpy"
    pixels = DATASETS["digits"]().test.pixels[:20]
    found = model.predict(pixels[:, 0])
    expected = trained.classifier(BACKENDS["numpy"]()).probabilities(pixels)
    np.testing.assert_array_equal(found["probabilities"], expected)


def test_verify_reproduces_it(trained, capsys):
    assert cli.main(["task=verify", "run_id=net", "tracking=none"]) == 0
    assert "REPRODUCED" in capsys.readouterr().out


def test_show_counts_what_is_trained(capsys):
    assert cli.main(["task=show", *RESNET]) == 0
    lines = capsys.readouterr().out.splitlines()
    (norm,) = [line.split() for line in lines if line.startswith("blocks.2.shortcut.1 ")]
    assert norm[1:] == ["8×7×7", "16", "0.000"]
    assert not [line for line in lines if "channel_moments" in line or "batch_weight" in line]
    total = 18 + 4 + (2 * 36 + 8) + (72 + 144 + 8 + 24) + (288 + 576 + 32 + 48) + 90
    assert next(line for line in lines if line.startswith("all")).split()[1] == f"{total:,}"
