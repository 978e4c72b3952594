"""A model as text gives the bits of the model that it was made of."""

import numpy as np
import pytest

from odyssey_core import ops
from odyssey_core.backends import BACKENDS
from odyssey_core.data.dataset import Images
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


def test_an_operation_of_somebody_elses_is_not_stored():
    own = Op("own", lambda x: x.shape)

    class Net(Module):
        def forward(self, x):
            return own(ops.flatten(x))

    assert encode(Net(), LOSSES["mse"](), SHAPE) is None
