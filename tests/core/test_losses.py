"""Every registered loss: values worked out by hand, both uses, and one step that learns."""

import math

import numpy as np
import pytest

from odyssey_core.backends.numpy import NumpyBackend
from odyssey_core.data.dataset import Images
from odyssey_core.errors import ConfigError
from odyssey_core.learner import Learner
from odyssey_core.losses import LOSSES
from odyssey_core.models import MODELS
from odyssey_core.optim import OPTIMIZERS

# Logits (1, 0.5, -1) of an image of class 1: the loss of training and the loss of evaluation.
LOG_SUM = math.log(math.e + math.e**0.5 + 1 / math.e)
BY_HAND = [
    ("cross_entropy", {}, LOG_SUM - 0.5, LOG_SUM - 0.5),
    ("cross_entropy", {"label_smoothing": 0.3}, LOG_SUM - 0.7 * 0.5 - 0.1 * (1 + 0.5 - 1), LOG_SUM - 0.5),
    ("mse", {}, (1**2 + 0.5**2 + 1**2) / 3, (1**2 + 0.5**2 + 1**2) / 3),
    # Class 0 misses a distance of 1 by 1 - 0.5 + 1, class 2 does not.
    ("multi_margin", {}, 1.5 / 3, 1.5 / 3),
]


def _learner(name, settings) -> Learner:
    model = MODELS["linear"](input_shape=(1, 1, 1), classes=3)
    learner = Learner(
        model, OPTIMIZERS["sgd"](lr=0.1), NumpyBackend(), input_shape=(1, 1, 1), batch_size=1,
        loss=LOSSES[name](**settings),
    )  # fmt: skip
    learner.load_weights({"fc.weight": np.zeros((3, 1)), "fc.bias": np.array([1.0, 0.5, -1.0])})
    return learner


def test_every_loss_is_tested():
    assert {case[0] for case in BY_HAND} == set(LOSSES)


@pytest.mark.parametrize(("name", "settings", "training", "evaluation"), BY_HAND)
def test_a_loss_by_hand(name, settings, training, evaluation):
    learner = _learner(name, settings)
    data, one = Images(np.zeros((1, 1, 1, 1), np.uint8), np.array([1])), np.array([0])
    assert learner.evaluate(data, one)[1][0] == pytest.approx(evaluation, rel=1e-6)
    losses = [learner.train(data, one[None], epoch=0, first_step=i).losses[0, 0] for i in range(20)]
    assert losses[0] == pytest.approx(training, rel=1e-6)
    assert losses[-1] < losses[0]
    assert LOSSES[name].label


def test_a_smoothing_out_of_range_is_refused():
    with pytest.raises(ConfigError, match=r"loss\.label_smoothing: expected a number from 0 to below 1, got 1"):
        LOSSES["cross_entropy"](label_smoothing=1.0)
