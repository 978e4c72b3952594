"""Filters from the data: the eigen-solver, the moments of patches, and what a learner makes of them."""

import hashlib

import numpy as np
import pytest
from harness import numba_backend

from odyssey_core import ops
from odyssey_core.backends.base import Feed
from odyssey_core.backends.numpy import NumpyBackend
from odyssey_core.data.dataset import Images
from odyssey_core.eigen import eigen
from odyssey_core.errors import ConfigError
from odyssey_core.learner import Learner
from odyssey_core.models import MODELS
from odyssey_core.nn import Conv2d, Flatten, Linear, Sequential, WhiteningConv2d
from odyssey_core.optim import SGD
from odyssey_core.whitening import Whitening, second_moments

MEAN, STD = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.25, 0.3])


def images(count=40, size=9):
    """Neighbouring pixels alike, as in photographs."""
    noise = np.random.default_rng(3).integers(0, 256, (count, 3, size + 2, size + 2))
    smooth = sum(noise[..., i : i + size, j : j + size] for i in range(3) for j in range(3)) // 9
    return smooth.astype(np.uint8)


@pytest.mark.parametrize("size", [1, 2, 5, 12, 27])
def test_eigenvalues_are_lapacks(size):
    drawn = np.random.default_rng(size).standard_normal((size, size))
    matrix = drawn @ drawn.T
    values, vectors = eigen(matrix)
    np.testing.assert_allclose(values, np.linalg.eigh(matrix)[0][::-1], rtol=1e-12, atol=1e-13 * values[0])
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(size), atol=1e-13)
    np.testing.assert_allclose(vectors @ matrix, values[:, None] * vectors, atol=1e-12 * values[0])


def test_eigenvectors_worked_out_by_hand():
    """[[2, 1], [1, 2]] has 3 for (1, 1) and 1 for (1, -1); a diagonal matrix has the axes, equal ones in order."""
    values, vectors = eigen(np.array([[2.0, 1.0], [1.0, 2.0]]))
    np.testing.assert_allclose(values, [3, 1], rtol=1e-15)
    np.testing.assert_allclose(np.abs(vectors), np.sqrt(0.5) * np.ones((2, 2)), rtol=1e-15)
    assert vectors[0, 0] * vectors[0, 1] > 0 > vectors[1, 0] * vectors[1, 1]
    values, vectors = eigen(np.diag([1.0, 3.0, 0.0, 3.0]))
    np.testing.assert_array_equal(values, [3, 3, 1, 0])
    np.testing.assert_array_equal(vectors, np.eye(4)[[1, 3, 0, 2]])


def test_moments_are_those_of_all_patches():
    pixels = images()
    x = (pixels / 255 - MEAN[:, None, None]) / STD[:, None, None]
    patches = [x[:, :, i : i + 2, j : j + 3].reshape(len(x), -1) for i in range(8) for j in range(7)]
    patches = np.concatenate(patches)
    expected = patches.T @ patches / len(patches)
    np.testing.assert_allclose(second_moments(pixels, MEAN, STD, 2, 3), expected, rtol=1e-11, atol=1e-12)


def test_filters_are_the_same_bits_everywhere():
    """What a machine with another LAPACK or BLAS must find too."""
    filters = Whitening(5e-4).of_images(images(), MEAN, STD, (24, 3, 2, 2))
    assert filters.dtype == np.float32
    assert (
        hashlib.sha256(filters.tobytes()).hexdigest()
        == "13e27af67c52d0264ea63fd4224a9246c99c60409e4b8d78379bfa617e93db32"
    )


@pytest.mark.parametrize("backend", [numba_backend, NumpyBackend])
def test_a_learner_whitens_the_patches_of_its_training_images(backend):
    pixels = images(60)
    data = Images(np.concatenate([255 - pixels, pixels]), np.arange(120) % 3)
    model = Sequential({"whiten": WhiteningConv2d(3), "flatten": Flatten(), "fc": Linear(24 * 64, 3)})
    normalisation = {"mean": tuple(MEAN), "std": tuple(STD)}
    learner = Learner(model, SGD(), backend(), input_shape=(3, 9, 9), batch_size=16, **normalisation)
    drawn = learner.weights()
    np.testing.assert_array_equal(drawn["whiten.weight"][:12].reshape(12, 12), np.eye(12))
    learner.initialize(data, np.arange(60, 120))
    weights = learner.weights()
    np.testing.assert_array_equal(weights["fc.weight"], drawn["fc.weight"])
    x = ops.images((60, 3, 9, 9), **normalisation)
    run = NumpyBackend("float64").compile([model.layers["whiten"](x)], model.state())
    run.write(weights)
    out = run.run(Feed(order=np.arange(60, 120)[None], pixels=data.pixels.reshape(120, -1)))
    out = np.moveaxis(out.reshape(60, 24, 64), 1, 0).reshape(24, -1)[:12]
    np.testing.assert_allclose(out @ out.T / out.shape[1], np.eye(12), atol=0.15)  # eps makes them a little smaller
    before = weights["whiten.weight"]
    learner.train(data, np.arange(60, 92).reshape(2, 16), epoch=0, first_step=0)
    np.testing.assert_array_equal(learner.weights()["whiten.weight"], before)
    assert (learner.weights()["whiten.bias"] != 0).any()


def test_a_whitening_layer_behind_another_is_refused():
    """Its filters would be made from the images, which it does not see."""
    layers = {"conv": Conv2d(3, 3, 3), "whiten": WhiteningConv2d(3), "flatten": Flatten(), "fc": Linear(24 * 36, 3)}
    with pytest.raises(ConfigError, match="a whitening layer must come first"):
        Learner(Sequential(layers), SGD(), NumpyBackend(), input_shape=(3, 9, 9), batch_size=16)


def test_airbench_passes_images_on_at_first():
    """The identity in three blocks: as many filters as there are channels repeat them."""
    model = MODELS["airbench"]((3, 32, 32), 10, size=93)
    weight = model.blocks[0].conv1.weight
    drawn = weight.attrs["initial"].draw(weight.shape, 0, "init/x")
    np.testing.assert_array_equal(drawn[:24, :, 1, 1], np.eye(24))
    assert np.abs(drawn[:24]).sum() == 24
    bound = (24 * 9) ** -0.5
    assert 0.99 * bound < np.abs(drawn[24:]).max() <= bound
