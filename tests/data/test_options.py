"""The options that all data sets share: they are added to a constructor's own, and applied to what it loads."""

import inspect

import numpy as np
import pytest

from odyssey_core.data import DATASETS, Dataset, Images
from odyssey_core.data.augment import Augment
from odyssey_core.data.options import pixel_options
from odyssey_core.errors import ConfigError, DataError

SHIPPED = list(DATASETS)


def images(*values):
    """One image of 1 x 2 pixels with two channels for each pair of values; all of class 0."""
    pixels = np.array([[[[a, a]], [[b, b]]] for a, b in values], np.uint8)
    return Images(pixels, np.zeros(len(values), np.int64))


@pixel_options
def pairs(last: int = 255) -> Dataset:
    """Two training images, then one of validation."""
    return Dataset("pairs", images((0, 51), (255, 51 + 102), (last, last)), images((0, 0)), ("only",), validation=1)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_data_set_has_them(name):
    parameters = inspect.signature(DATASETS[name]).parameters
    assert list(parameters)[-4:] == ["normalize", "mean", "std", "augment"]
    assert parameters["augment"].annotation == Augment | None


def test_their_place_is_behind_the_constructors_own():
    assert list(inspect.signature(pairs).parameters) == ["last", "normalize", "mean", "std", "augment"]
    assert pairs.__name__ == "pairs" and pairs.__doc__.startswith("Two training images")


def test_what_is_given_is_taken():
    data = pairs(mean=(0.5, 0.25), std=2.0, augment=Augment(flip=True))
    assert (data.mean, data.std, data.augment) == ((0.5, 0.25), 2.0, Augment(flip=True))
    assert (pairs().mean, pairs().std, pairs().augment) == (0.0, 1.0, None)


@pytest.mark.parametrize("last", [0, 255])
def test_channels_are_normalised_by_the_training_images_alone(last):
    data = pairs(last, normalize="channel")
    assert data.mean == (0.5, 102 / 255)
    assert data.std == pytest.approx((0.5, 51 / 255), abs=1e-15)


def test_normalize_beside_a_mean_is_refused_before_anything_is_loaded():
    @pixel_options
    def unread() -> Dataset:
        raise AssertionError("loaded")

    with pytest.raises(ConfigError, match=r"data\.normalize: channel computes data\.mean and data\.std"):
        unread(normalize="channel", mean=0.1)


def test_a_channel_that_is_the_same_everywhere():
    @pixel_options
    def flat() -> Dataset:
        return Dataset("flat", images((7, 1), (7, 2)), images((0, 0)), ("only",))

    with pytest.raises(DataError, match="channel 0 has the same value everywhere"):
        flat(normalize="channel")
