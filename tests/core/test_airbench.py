"""airbench93 trained by its recipe beside PyTorch's stored steps, and by both backends alike."""

import json

import numpy as np
from fixtures import formulas
from harness import FIXTURES, numba_backend

from odyssey_core.backends.numpy import NumpyBackend
from odyssey_core.data.augment import Augment
from odyssey_core.data.dataset import Images
from odyssey_core.learner import Learner
from odyssey_core.losses import CrossEntropy
from odyssey_core.models import MODELS
from odyssey_core.optim import SGD, Lookahead, Plan
from odyssey_core.optim.schedules import Triangular
from odyssey_core.testing.graph import relative_error

GROUPS = ({"match": "*.norm?.bias", "lr": formulas.AIRBENCH_BIASES, "weight_decay": 1 / formulas.AIRBENCH_BIASES},)


def _learner(backend, shape, lr, **settings):
    decay, momentum = formulas.AIRBENCH_DECAY, formulas.AIRBENCH_MOMENTUM
    optimizer = SGD(lr, momentum, nesterov=True, weight_decay=decay, groups=GROUPS)
    model, loss = MODELS["airbench"](shape, 10, size=93), CrossEntropy(0.2)
    batch = formulas.AIRBENCH_BATCH
    return Learner(model, optimizer, backend(), input_shape=shape, batch_size=batch, loss=loss, **settings)


def test_airbench93_loses_what_pytorchs_loses():
    """With frozen filters and factors, biases that learn 64 times as fast, Nesterov's momentum and smoothed labels.

    PyTorch's own float32 is 1.5e-7 away from its float64 over twenty steps, 1e-6 over forty, 1.3e-4 over 200, and in
    running averages 2.1e-3, since these are of the last two batches: roundings grow from step to step, where a batch
    norm of eight images divides by a deviation, and the faster, the higher the learning rate is.
    """
    stored = json.loads((FIXTURES / "torch_airbench93.json").read_text())
    data = Images(*formulas.large_digits())
    learner = _learner(numba_backend, (1, 28, 28), formulas.AIRBENCH_LR)
    assert {name: list(node.shape) for name, node in learner.nodes.items()} == stored["shapes"]
    learner.load_weights(formulas.weights({name: tuple(shape) for name, shape in stored["shapes"].items()}))
    order = formulas.order(len(data))[:, : formulas.AIRBENCH_BATCH]
    first, expected = formulas.FIRST_STEPS, np.array(stored["losses"])
    for start, end, tolerance, of_averages in ((0, first, 1e-5, 1e-4), (first, formulas.STEPS, 1e-3, 5e-3)):
        losses = learner.train(data, order[start:end], epoch=0, first_step=start).losses.mean(axis=1)
        error = np.abs(losses - expected[start:end]) / expected[start:end]
        assert error.max() <= tolerance, f"step {start + error.argmax()}"
        found = learner.weights()
        for name, value in stored["averages"][str(end)].items():
            assert relative_error(found[name], np.array(value)) <= of_averages, name


def test_both_backends_follow_the_recipe_alike():
    """Three steps with all that belongs to it, on images of three colours as small as they may be."""
    rng, shape, found = np.random.default_rng(2), (3, 25, 26), []
    data = Images(rng.integers(0, 256, (24, *shape), np.uint8), rng.integers(0, 10, 24))
    for backend in (numba_backend, NumpyBackend):
        learner = _learner(
            backend, shape, 0.05, mean=(0.5, 0.4, 0.6), std=0.25, plan=Plan(3, 3, Triangular(0.2, 0.4, 0.1)),
            augment=Augment(flip="alternating", crop=2, border="reflect"), lookahead=Lookahead(2, 0.8, 3),
        )  # fmt: skip
        learner.initialize(data, np.arange(24))
        losses = learner.train(data, np.arange(24).reshape(3, 8), epoch=1, first_step=0).losses
        found.append({"losses": losses, **learner.weights()})
    for name, value in found[0].items():
        np.testing.assert_allclose(value, found[1][name], rtol=2e-3, atol=2e-3, err_msg=name)
