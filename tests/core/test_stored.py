"""A model as text gives the bits of the model that it was made of."""

import copy
import json
import random

import numpy as np
import pytest

from odyssey_core import ops
from odyssey_core.backends import BACKENDS
from odyssey_core.backends.numpy import NumpyBackend
from odyssey_core.classifier import Classifier
from odyssey_core.data.dataset import Images
from odyssey_core.errors import OdysseyError
from odyssey_core.inference import Inference
from odyssey_core.learner import initial_values
from odyssey_core.losses import LOSSES
from odyssey_core.models import MODELS
from odyssey_core.nn import Module
from odyssey_core.stored import decode, encode
from odyssey_core.tensor import Op

SHAPE, CLASSES = (3, 28, 28), 5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("model", "loss"), [("lenet5", "mse"), ("resnet8", "cross_entropy"), ("mlp", "multi_margin")])
def test_the_same_bits(model, loss, backend):
    module, made = MODELS[model](input_shape=SHAPE, classes=CLASSES), LOSSES[loss]()
    values = initial_values(module.state(), 0)
    rng = np.random.default_rng(0)
    images = Images(rng.integers(0, 256, (37, *SHAPE), np.uint8), rng.integers(0, CLASSES, 37))
    found = []
    for net, of in ((module, made), decode(encode(module, made, SHAPE))):
        assert {path: node.shape for path, node in net.state().items()} == {n: v.shape for n, v in values.items()}
        inference = Inference(net, BACKENDS[backend](), SHAPE, 0.5, 0.25, lambda: values, of)
        found.append(inference.evaluate(images, np.arange(37)))
    assert np.array_equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])
    assert found[0][1].std() > 0


def test_any_change_of_the_text_is_answered_or_refused_in_a_line():
    """Whoever can write the file can write anything into it."""
    module = MODELS["resnet8"](input_shape=SHAPE, classes=CLASSES)
    weights = initial_values(module.state(), 0)
    text = json.loads(encode(module, LOSSES["mse"](), SHAPE))
    about = {"class_names": '["a", "b", "c", "d", "e"]', "input_shape": json.dumps(SHAPE), "orientation": "upright",
             "model": "gone", "model_config": "{}", "mean": "0.5", "std": "0.25"}  # fmt: skip
    Classifier(weights, about | {"graph": json.dumps(text)}, NumpyBackend())
    rng, refused = random.Random(0), 0
    for _ in range(400):
        changed = copy.deepcopy(text)
        _change(changed, rng)
        try:
            Classifier(weights, about | {"graph": json.dumps(changed)}, NumpyBackend())
        except OdysseyError:
            refused += 1
    assert refused > 200


def _change(value, rng):
    """Puts something else somewhere into nested lists and mappings."""
    places = list(value) if isinstance(value, dict) else range(len(value))
    place = rng.choice(list(places))
    inner = value[place]
    if isinstance(inner, dict | list) and inner and rng.random() < 0.9:
        _change(inner, rng)
    else:
        value[place] = rng.choice([None, -1, 0, 10**12, 7, "relu", "", [], {}, 1e300, [1, 2, 3], True])


def test_an_operation_of_somebody_elses_is_not_stored():
    own = Op("own", lambda x: x.shape)

    class Net(Module):
        def forward(self, x):
            return own(ops.flatten(x))

    assert encode(Net(), LOSSES["mse"](), SHAPE) is None
