"""Random affine distortion: both backends draw and sample the same."""

import numpy as np
import pytest

from odyssey_core import ops
from odyssey_core.backends import BACKENDS
from odyssey_core.backends.base import Feed
from odyssey_core.data.augment import Augment
from odyssey_core.errors import ConfigError

STRONG = Augment(rotation=30, scale=0.3, shear=0.5, shift=3).amounts()
SIZES = [(1, 28, 28), (3, 5, 7)]


def distorted(backend, size, amounts, *, epoch=0, seed=3, mean=0.1, std=0.3):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, int(np.prod(size))), dtype=np.uint8)
    order = rng.integers(0, 50, (2, 19))
    order[1, 4:] = -1
    executable = backend.compile([ops.images((19, *size), mean, std, amounts)], {})
    return executable.run(Feed(order=order, pixels=pixels, seed=seed, epoch=epoch)), pixels, order


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_numba_samples_what_numpy_samples(size):
    expected, _, _ = distorted(BACKENDS["numpy"]("float64"), size, STRONG)
    found, _, _ = distorted(BACKENDS["numba"](), size, STRONG)
    np.testing.assert_allclose(found, expected, atol=1e-4)  # a coordinate's last bit, times the step between pixels
    assert not found[1, 4:].any()


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_no_amount_changes_nothing(backend):
    found, pixels, order = distorted(BACKENDS[backend](), (1, 28, 28), Augment().amounts(), mean=0.0, std=1.0)
    np.testing.assert_allclose(found[0], pixels[order[0]] / 255, atol=1e-5)


def test_a_shift_of_whole_pixels_moves_the_image():
    """With only a shift, the drawn offset is one number for x and one for y: a ramp stays a ramp."""
    ramp = np.broadcast_to(np.arange(28, dtype=np.uint8) * 4, (28, 28)).reshape(1, -1)
    node = ops.images((1, 1, 28, 28), 0.0, 1 / 255, Augment(shift=2).amounts())
    image = BACKENDS["numba"]().compile([node], {}).run(Feed(order=np.zeros((1, 1), np.int64), pixels=ramp.copy()))
    inner = image.reshape(28, 28)[4:-4, 4:-4]
    np.testing.assert_allclose(np.diff(inner, axis=1), 4, atol=1e-3)
    np.testing.assert_allclose(np.diff(inner, axis=0), 0, atol=1e-3)
    moved = (inner[0, 0] - 4 * 4) / 4
    assert 0 < abs(moved) < 2


def test_each_epoch_draws_anew_and_each_seed_too():
    backend = BACKENDS["numba"]()
    first, _, _ = distorted(backend, (1, 28, 28), STRONG)
    again, _, _ = distorted(backend, (1, 28, 28), STRONG)
    np.testing.assert_array_equal(first, again)
    for changed in ({"epoch": 1}, {"seed": 4}):
        other, _, _ = distorted(backend, (1, 28, 28), STRONG, **changed)
        assert np.abs(other - first).max() > 0.1


@pytest.mark.parametrize("wrong", [{"rotation": 46}, {"scale": 1.0}, {"shear": -1}, {"shift": float("nan")}], ids=str)
def test_amounts_out_of_range(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=rf"data\.augment\.{name}: expected a number from 0 to"):
        Augment(**wrong)
