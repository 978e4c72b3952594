"""What Images and Dataset refuse, and the digest."""

import hashlib
import struct

import numpy as np
import pytest

from odyssey_core.data import DATASETS, Dataset, Images
from odyssey_core.data.dataset import digest_of, of_shape, shape_before_loading
from odyssey_core.errors import ConfigError, DataError


def images(count=4, size=3, labels=None):
    labels = np.arange(count) if labels is None else np.array(labels)
    return Images(np.zeros((count, 1, size, size), np.uint8), labels.astype(np.int64))


def dataset(**changes):
    usual = {"name": "toy", "train": images(), "test": images(), "class_names": tuple("abcd"), "orientation": "upright"}
    rest = {"mean": 0.0, "std": 1.0, "digest": "", "official": False}
    return Dataset(**usual | rest | changes)


def test_properties():
    assert dataset().input_shape == (1, 3, 3) and dataset().classes == 4 and len(dataset().train) == 4


LABELS = np.zeros(2, np.int64)


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (np.zeros((2, 3, 3), np.uint8), LABELS, r"uint8 pixels \(N, C, H, W\), got uint8 \(2, 3, 3\); convert"),
        (np.zeros((2, 1, 3, 3), np.float32), LABELS, r"got float32 \(2, 1, 3, 3\); convert"),
        (np.zeros((2, 1, 3, 4), np.uint8).swapaxes(2, 3), LABELS, "not C-contiguous; convert with np.ascontiguous"),
        (np.zeros((2, 1, 3, 3), np.uint8), LABELS.astype(np.uint8), r"expected int64 \(N,\), got uint8 \(2,\)"),
        (np.zeros((3, 1, 3, 3), np.uint8), LABELS, "one label an image, got 3 images and 2 labels"),
        (np.zeros((0, 1, 3, 3), np.uint8), LABELS[:0], r"expected at least one, got shape \(0, 1, 3, 3\)"),
    ],
)
def test_images_refuse(pixels, labels, message):
    with pytest.raises(DataError, match=message):
        Images(pixels, labels)


@pytest.mark.parametrize("label", [-1, 4])
@pytest.mark.parametrize("part", ["train", "test"])
def test_labels_out_of_range(part, label):
    message = rf"toy {part} labels: expected 0 to 3 \(4 classes\), got {label} at index 2 \(1 labels out of range\)"
    with pytest.raises(DataError, match=message):
        dataset(**{part: images(labels=[0, 1, label, 3])})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "b", "c", 3), "expected texts without control characters, none of them blank, got 3"),
        (("a", " ", "c", "d"), "none of them blank, got ' '; rename the class"),
        (("a", "b", "\x1b[31m", "d"), "without control characters, .*, got '.x1b.31m'"),
        (("a", "b", "c", "b"), "expected each once, got 'b' twice; rename one of the classes"),
    ],
)
def test_class_names(names, message):
    with pytest.raises(DataError, match=f"toy: class names: .*{message}"):
        dataset(class_names=names)


def test_sizes_that_differ():
    with pytest.raises(DataError, match=r"one size, got \(C, H, W\) = \(1, 3, 3\) and \(1, 5, 5\)"):
        dataset(test=images(size=5))


def test_orientation():
    with pytest.raises(DataError, match=r"orientation: expected one of .*upright.*, got 'sideways'"):
        dataset(orientation="sideways")


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan"), float("inf")])
def test_std(std):
    with pytest.raises(ConfigError, match=r"data\.std: expected a finite number above 0, got"):
        dataset(std=std)


def test_mean():
    with pytest.raises(ConfigError, match=r"data\.mean: expected a finite number, got nan"):
        dataset(mean=float("nan"))


def test_means_and_deviations_of_channels():
    colour = Images(np.zeros((2, 3, 4, 4), np.uint8), np.zeros(2, np.int64))
    parts = {"train": colour, "test": colour}
    assert dataset(**parts, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0)).mean == (0.1, 0.2, 0.3)
    with pytest.raises(ConfigError, match=r"data\.mean: expected one number, or 3 for 3 channels, got \(0\.1, 0\.2\)"):
        dataset(**parts, mean=(0.1, 0.2))
    with pytest.raises(ConfigError, match=r"data\.std: expected a finite number above 0, got \(1\.0, 0\.0, 1\.0\)"):
        dataset(**parts, std=(1.0, 0.0, 1.0))


def test_a_shape_is_told_before_loading():
    def squares(size: int, channels: int = 3) -> Dataset:
        raise AssertionError("nothing is loaded")

    told = of_shape(lambda size, channels=3: (channels, size, size))(squares)
    assert shape_before_loading(told, {"size": 8}) == (3, 8, 8)
    assert shape_before_loading(told, {"sise": 8}) is None  # the constructor will refuse it
    assert shape_before_loading(lambda size: None, {"size": 8}) is None
    assert {name: shape_before_loading(DATASETS[name], {}) for name in ("mnist", "digits", "emnist", "glyphs")} == (
        dict.fromkeys(("mnist", "digits", "emnist", "glyphs"), (1, 28, 28))
    )


def test_digest_is_of_shapes_pixels_and_labels():
    part = Images(np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2), np.array([5, 6]))
    content = struct.pack("<4q", 2, 1, 2, 2) + bytes(range(8)) + struct.pack("<2q", 5, 6)
    assert digest_of(part, part) == hashlib.sha256(content * 2).hexdigest()
    reshaped = Images(part.pixels.reshape(2, 1, 1, 4), part.labels)
    assert digest_of(part, reshaped) != digest_of(part, part)


def test_an_unknown_dataset():
    with pytest.raises(ConfigError, match=r"unknown dataset 'emnsit'; known: cifar10, .*; did you mean 'emnist'\?"):
        DATASETS["emnsit"]


def test_noise_is_random_and_the_same_each_time():
    data = DATASETS["noise"](shape=(2, 5, 4), classes=3, count=500)
    assert data.train.pixels.shape == data.test.pixels.shape == (500, 2, 5, 4)
    assert data.train.labels[:4].tolist() == [0, 1, 2, 0]
    assert abs(data.train.pixels.mean() - 127.5) < 3  # 5 standard errors
    assert (data.train.pixels != data.test.pixels).mean() > 0.99
    assert data.digest == DATASETS["noise"](shape=(2, 5, 4), classes=3, count=500).digest
    assert shape_before_loading(DATASETS["noise"], {}) == (3, 32, 32)
    assert shape_before_loading(DATASETS["noise"], {"shape": (1, 8, 8)}) == (1, 8, 8)
