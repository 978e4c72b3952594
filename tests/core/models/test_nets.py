"""A step of each net that people know is PyTorch's, on both backends: loss, gradients, averages, logits after it."""

import json

import numpy as np
import pytest
from fixtures import formulas
from harness import FIXTURES, numba_backend

from odyssey_core.data.dataset import Images
from odyssey_core.learner import Learner
from odyssey_core.models import MODELS
from odyssey_core.optim import SGD
from odyssey_core.testing.graph import reference

STORED = json.loads((FIXTURES / "torch_nets.json").read_text())
LARGE = {"vgg16", "vgg16 batch_norm", "googlenet", "alexnet", "resnet56"}
BACKENDS = {"numpy": reference, "numba": numba_backend}
CASES = [pytest.param(case, marks=pytest.mark.slow if case in LARGE else ()) for case in formulas.NET_CASES]


def test_every_case_is_stored():
    assert STORED.keys() == formulas.NET_CASES.keys(), "make the fixtures anew: tests/fixtures/make_torch_fixtures.py"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES)
def test_a_step_is_what_pytorch_has(case, backend):
    """In float64 to 1e-6. In float32 roundings grow through the layers, and a ReLU whose argument is rounded to the
    other side of 0 changes gradients by a thousandth; PyTorch's own error of gradients is stored.
    """
    (name, settings), stored = formulas.NET_CASES[case], STORED[case]
    within, of_gradients = (1e-6, 1e-6) if backend == "numpy" else (x + 4 * stored["float32"] for x in (1e-4, 2e-3))
    learner = Learner(
        MODELS[name](input_shape=formulas.NET_SHAPE, classes=10, **settings), SGD(lr=0.0), BACKENDS[backend](),
        input_shape=formulas.NET_SHAPE, batch_size=formulas.NET_IMAGES,
    )  # fmt: skip
    weights = formulas.weights({path: tuple(shape) for path, shape in stored["shapes"].items()})
    learner.load_weights(weights)
    data, order = Images(*formulas.net_images()), np.arange(formulas.NET_IMAGES)
    gradients = learner.gradients(data, order)
    assert gradients.keys() == stored["gradients"].keys()
    for path, gradient in gradients.items():
        norm, along = stored["gradients"][path]
        found = np.linalg.norm(gradient.astype(np.float64))
        assert found == pytest.approx(norm, rel=of_gradients, abs=1e-9), path
        product = (gradient * formulas.spread(gradient.shape, 1.0)).sum()
        assert product == pytest.approx(along, abs=of_gradients * norm + 1e-9), path
    losses = learner.train(data, order[None], epoch=0, first_step=0).losses
    assert losses.mean() == pytest.approx(stored["loss"], rel=within)
    after = learner.weights()
    for path, expected in stored["averages"].items():
        assert np.linalg.norm(after[path].astype(np.float64)) == pytest.approx(expected, rel=within), path
    logits, _ = learner.evaluate(data, order)
    size = np.abs(stored["logits"]).max()
    np.testing.assert_allclose(logits, stored["logits"], rtol=0, atol=within * size)
