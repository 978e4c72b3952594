"""A run's weights file and its logged accuracy, confirmed by the reference backend."""

import json

import numpy as np

from odyssey_core.backends import BACKENDS
from odyssey_core.checkpoint import load_weights, model_names
from odyssey_core.data import DATASETS
from odyssey_core.learner import Learner
from odyssey_core.models import MODELS
from odyssey_core.optim import OPTIMIZERS
from odyssey_run import cli
from odyssey_run.runs.recorded import open_folder


def test_numpy_finds_the_accuracy_that_numba_logged(tmp_path):
    short = ("data=digits", "tracking=none", "plots.enabled=false", "trainer.epochs=2", "optim.lr=0.05")
    assert cli.main([*short, "data.mean=0.3"]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    ((_, logged),) = open_folder(run).metrics["test/accuracy"]
    weights, about = load_weights(run / "lenet5_weights" / "lenet5.safetensors")
    shape, classes = tuple(json.loads(about["input_shape"])), len(json.loads(about["class_names"]))
    model = MODELS[about["model"]](shape, classes, **json.loads(about["model_config"]))
    learner = Learner(
        model, OPTIMIZERS["sgd"](), BACKENDS["numpy"](), input_shape=shape, batch_size=32,
        mean=float(about["mean"]), std=float(about["std"]),
    )  # fmt: skip
    learner.load_weights(model_names(learner.weights(), weights))
    test = DATASETS["digits"]().test
    logits, _ = learner.evaluate(test, np.arange(len(test)))
    assert (logits.argmax(axis=1) == test.labels).mean() == logged
    assert logged > 0.5
