"""Views of images at test time: how they are moved, what their mean is, and where it is taken."""

import json

import numpy as np
import pytest
from harness import numba_backend

from odyssey_core import ops
from odyssey_core.backends.base import Feed
from odyssey_core.backends.numpy import NumpyBackend
from odyssey_core.checkpoint import artifact_names
from odyssey_core.classifier import Classifier
from odyssey_core.counterparts import torch_steps
from odyssey_core.data.dataset import Images
from odyssey_core.errors import DataError, ShapeError
from odyssey_core.learner import Learner
from odyssey_core.models import MODELS
from odyssey_core.optim import SGD

BACKENDS = [numba_backend, NumpyBackend]
SHAPE = (3, 26, 28)
RNG = np.random.default_rng(1)
DATA = Images(RNG.integers(0, 256, (20, *SHAPE), np.uint8), RNG.integers(0, 4, 20))
MOVES = [(1, -1, False), (-3, 4, True), (0, 0, True), (0, 0, False), (3, 0, False)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("move", MOVES, ids=str)
def test_a_moved_image_is_a_part_of_it_reflected(backend, move):
    """Worked out with NumPy's padding; 19 images are a full block and a part of one."""
    x, (rows, columns, mirror) = RNG.standard_normal((19, 2, 4, 5)).astype(np.float32), move
    node = ops.shift2d(ops.input_("x", x.shape), rows, columns, mirror)
    feed = Feed(np.arange(19)[None], inputs=x.reshape(1, 19, -1))
    found = backend().compile([node], {}).run(feed).reshape(x.shape)
    padded = np.pad(x, ((0, 0), (0, 0), (3, 3), (4, 4)), mode="reflect")
    expected = padded[:, :, 3 + rows : 7 + rows, 4 + columns : 9 + columns]
    np.testing.assert_array_equal(found, expected[..., ::-1] if mirror else expected)


@pytest.mark.parametrize("move", MOVES, ids=str)
def test_pytorch_moves_alike(move):
    torch = pytest.importorskip("torch")
    x = ops.input_("x", (3, 2, 4, 5))
    values = {"x": torch.arange(120.0).reshape(3, 2, 4, 5)}
    for result, kind, operands, attributes in torch_steps([ops.shift2d(x, *move)], {"x": x}):
        function = torch
        for part in kind.split("."):
            function = getattr(function, part)
        values[result] = function(*(values[name] for name in operands), **attributes)
    run = NumpyBackend().compile([ops.shift2d(x, *move)], {})
    found = run.run(Feed(np.arange(3)[None], inputs=values["x"].numpy().reshape(1, 3, -1)))
    np.testing.assert_array_equal(found.reshape(3, 2, 4, 5), values[result].numpy())


def test_moves_by_more_than_the_image_are_refused():
    with pytest.raises(ShapeError, match="shift2d: columns must be below the 5 of the image, got -5"):
        ops.shift2d(ops.input_("x", (3, 2, 4, 5)), 0, -5)


def _learner(backend, tta):
    model = MODELS["airbench"](SHAPE, 4, size=93)
    made = Learner(model, SGD(), backend(), input_shape=SHAPE, batch_size=16, mean=0.5, std=0.25, tta=tta)
    made.initialize(DATA, np.arange(20))
    return made


@pytest.fixture(scope="module")
def plain():
    return _learner(numba_backend, None)


def _moved(by):
    padded = np.pad(DATA.pixels, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    return Images(np.ascontiguousarray(padded[:, :, 1 + by : 27 + by, 1 + by : 29 + by]), DATA.labels)


@pytest.mark.parametrize(("tta", "shares"), [("mirror", {0: 1}), ("mirror_shift", {0: 0.5, -1: 0.25, 1: 0.25})])
def test_the_answer_is_the_mean_over_views(plain, tta, shares):
    order = np.arange(20)
    found, losses = _learner(numba_backend, tta).evaluate(DATA, order)
    expected = 0
    for by, share in shares.items():
        moved = _moved(by)
        mirrored = Images(np.ascontiguousarray(moved.pixels[..., ::-1]), DATA.labels)
        expected = expected + share / 2 * sum(plain.evaluate(each, order)[0] for each in (moved, mirrored))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - plain.evaluate(DATA, order)[0]).max() > 1e-3
    exps = np.exp(found.astype(np.float64))
    np.testing.assert_allclose(losses, -np.log(exps[order, DATA.labels] / exps.sum(axis=1)), rtol=1e-5)


ABOUT = {
    "model": "airbench", "model_config": json.dumps({"size": 93}), "class_names": json.dumps(list("abcd")),
    "input_shape": json.dumps(SHAPE), "mean": "0.5", "std": "0.25", "orientation": "upright",
}  # fmt: skip


def test_a_weights_file_says_that_the_answer_is_a_mean(plain):
    weights = artifact_names(plain.weights())
    found, _ = Classifier(weights, ABOUT | {"tta": "mirror"}, numba_backend()).evaluate(DATA)
    expected, _ = _learner(numba_backend, "mirror").evaluate(DATA, np.arange(20))
    np.testing.assert_array_equal(found, expected)
    answers = Classifier(weights, ABOUT | {"tta": "mirror"}, numba_backend()).probabilities(DATA.pixels[:1])
    exps = np.exp(expected[:1].astype(np.float64))
    np.testing.assert_allclose(answers, exps / exps.sum(), rtol=1e-5)
    with pytest.raises(DataError, match="tta: expected one of mirror, mirror_shift, got twice"):
        Classifier(weights, ABOUT | {"tta": "twice"}, numba_backend())
