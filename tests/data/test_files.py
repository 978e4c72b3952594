"""EMNIST and MNIST: from small files, from a small archive, and from the real data where there is any."""

import gzip
import hashlib
import os
import time
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from idx_files import idx_bytes, small_files

from odyssey_characters import emnist as emnist_module
from odyssey_characters.emnist import OFFICIAL, SPLITS
from odyssey_core.data import DATASETS
from odyssey_core.data import mnist as mnist_module
from odyssey_core.errors import ConfigError, DataError

CLASSES = {"byclass": 62, "bymerge": 47, "balanced": 47, "letters": 26, "digits": 10, "mnist": 10}


@pytest.mark.parametrize("split", SPLITS)
def test_every_split(tmp_path, split):
    labels = [1, 2, 3, 26 if split == "letters" else 9]
    _, pixels = small_files(tmp_path, f"emnist-{split}", labels)
    data = DATASETS["emnist"](split=split, root=str(tmp_path), mean=0.2, std=0.4)
    assert (data.name, data.classes, data.input_shape) == (f"emnist-{split}", CLASSES[split], (1, 28, 28))
    assert (data.orientation, data.mean, data.std, data.official) == ("transposed", 0.2, 0.4, False)
    assert data.train.labels.tolist() == [label - (split == "letters") for label in labels]
    assert np.array_equal(data.train.pixels[:, 0], pixels) and np.array_equal(data.test.pixels[:, 0], pixels)


def test_class_names():
    assert "".join(SPLITS["balanced"]) == "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt" == SPLITS["bymerge"]
    assert SPLITS["byclass"][36:] == "abcdefghijklmnopqrstuvwxyz" and SPLITS["letters"][25] == "Z"


def test_unpacked_files_and_a_relative_root(tmp_path, monkeypatch):
    names, pixels = small_files(tmp_path / "d", "emnist-digits", pack=bytes)
    assert not names[0].endswith(".gz")
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(DATASETS["emnist"](split="digits", root="d").test.pixels[:, 0], pixels)


def test_an_unknown_split():
    with pytest.raises(ConfigError, match=r"data\.split: unknown EMNIST split 'balance'; .*did you mean 'balanced'\?"):
        DATASETS["emnist"](split="balance")


def test_a_root_that_does_not_exist(tmp_path):
    message = rf"data\.root: expected a folder with emnist-.*, got {tmp_path}/no, which does not exist; correct data\."
    with pytest.raises(DataError, match=message):
        DATASETS["emnist"](root=str(tmp_path / "no"))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file, which is a file; correct"):
        DATASETS["mnist"](root=str(tmp_path / "file"))


def test_a_missing_file(tmp_path):
    names, _ = small_files(tmp_path, "emnist-balanced")
    (tmp_path / names[3]).unlink()
    message = rf"data\.root: expected {tmp_path}/{names[3]} \(or without \.gz\), which does not exist; add the file"
    with pytest.raises(DataError, match=message):
        DATASETS["emnist"](root=str(tmp_path))


@pytest.mark.parametrize("below", ["MNIST/raw", "raw", "gzip"])
def test_files_in_a_folder_below_are_pointed_at(tmp_path, below):
    small_files(tmp_path / below, "emnist-digits")
    with pytest.raises(DataError, match=rf"it lies in a folder below: data\.root={tmp_path / below}$"):
        DATASETS["emnist"](split="digits", root=str(tmp_path))


def test_files_with_a_dot_in_their_names_are_pointed_at(tmp_path):
    names, _ = small_files(tmp_path, "emnist-digits")
    for name in names:
        (tmp_path / name).rename(tmp_path / name.replace("-idx", ".idx"))
    with pytest.raises(
        DataError, match=r"images\.idx3-ubyte\.gz looks like it: rename it .*, with - for the dot before"
    ):
        DATASETS["emnist"](split="digits", root=str(tmp_path))


def test_a_corrupt_file(tmp_path):
    names, _ = small_files(tmp_path, "emnist-balanced")
    path = tmp_path / names[0]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=rf"{path}: expected a whole gzip file, got one cut short"):
        DATASETS["emnist"](root=str(tmp_path))


@pytest.mark.parametrize(("split", "label", "low", "high"), [("balanced", 47, 0, 46), ("letters", 0, 1, 26)])
def test_labels_out_of_range(tmp_path, split, label, low, high):
    names, _ = small_files(tmp_path, f"emnist-{split}", labels=(1, 2, label, label))
    message = (
        rf"{names[1]}: expected labels {low} to {high} \({CLASSES[split]} classes\), got {label} at index 2 "
        r"\(2 out of range\); is it the label file of another split\?"
    )
    with pytest.raises(DataError, match=message):
        DATASETS["emnist"](split=split, root=str(tmp_path))


def test_images_and_labels_that_differ_in_number(tmp_path):
    names, _ = small_files(tmp_path, "emnist-balanced")
    (tmp_path / names[1]).write_bytes(idx_bytes([1, 2, 3]))
    with pytest.raises(DataError, match=rf"expected 8 labels, one for each image of {names[0]}, got 3; the two files"):
        DATASETS["emnist"](root=str(tmp_path))


def test_images_of_two_sizes(tmp_path):
    names, _ = small_files(tmp_path, "emnist-balanced")
    (tmp_path / names[2]).write_bytes(idx_bytes(np.zeros((8, 20, 20))))
    with pytest.raises(DataError, match=r"one size, got \(C, H, W\) = \(1, 28, 28\) and \(1, 20, 20\)"):
        DATASETS["emnist"](root=str(tmp_path))


def test_an_empty_test_set(tmp_path):
    names, _ = small_files(tmp_path, "emnist-balanced")
    (tmp_path / names[2]).write_bytes(idx_bytes(np.zeros((0, 28, 28))))
    (tmp_path / names[3]).write_bytes(idx_bytes(np.zeros(0)))
    with pytest.raises(DataError, match="expected at least one, got shape"):
        DATASETS["emnist"](root=str(tmp_path))


def test_a_changed_file_is_read_again(tmp_path):
    names, pixels = small_files(tmp_path, "emnist-balanced")
    first = DATASETS["emnist"](root=str(tmp_path))
    path = tmp_path / names[2]
    size, changed = path.stat().st_size, pixels[::-1]
    path.write_bytes(gzip.compress(idx_bytes(changed)))
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    again = DATASETS["emnist"](root=str(tmp_path))
    assert abs(path.stat().st_size - size) < 100
    assert np.array_equal(again.test.pixels[:, 0], changed) and again.digest != first.digest


def archive(path, names, folder):
    """An archive like NIST's of the files, and its SHA-256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as members:
        for name in names:
            members.write(folder / name, f"gzip/{name}")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_archive_in_the_cache_is_unpacked(tmp_path, cache, monkeypatch):
    digits, pixels = small_files(tmp_path, "emnist-digits")
    letters, _ = small_files(tmp_path, "emnist-letters", labels=(1, 26))
    sha256 = archive(cache / "emnist" / "gzip.zip", [*digits, *letters], tmp_path)
    monkeypatch.setattr(emnist_module, "ARCHIVE_SHA256", sha256)
    data = DATASETS["emnist"](split="digits")
    assert np.array_equal(data.train.pixels[:, 0], pixels) and data.official
    assert sorted(os.listdir(cache / "emnist")) == sorted(["SHA256SUMS", "gzip.zip", *digits])
    assert DATASETS["emnist"](split="letters").official
    (cache / "emnist" / "gzip.zip").unlink()
    assert DATASETS["emnist"](split="digits").official
    small_files(cache / "emnist", "emnist-digits", labels=(1, 2))
    assert not DATASETS["emnist"](split="digits").official


def test_an_archive_without_the_split(tmp_path, cache, monkeypatch):
    names, _ = small_files(tmp_path, "emnist-digits")
    monkeypatch.setattr(emnist_module, "ARCHIVE_SHA256", archive(cache / "emnist" / "gzip.zip", names, tmp_path))
    with pytest.raises(DataError, match=r"gzip\.zip: expected gzip/emnist-mnist-train-images.*; delete it and run"):
        DATASETS["emnist"](split="mnist")


@pytest.mark.parametrize("name", ["emnist", "mnist"])
def test_no_network(cache, monkeypatch, name):
    monkeypatch.setattr(emnist_module, "URLS", ["http://127.0.0.1:9/gzip.zip"])
    monkeypatch.setattr(mnist_module, "MNIST", replace(mnist_module.MNIST, mirrors=["http://127.0.0.1:9/"]))
    message = rf"http://127\.0\.0\.1:9/.* \(no connection\); put .* in {cache}/{name} .*=glyphs"
    with pytest.raises(DataError, match=message):
        DATASETS[name]()


def test_mnist_files_in_the_cache_need_no_network(cache, monkeypatch):
    monkeypatch.setattr(mnist_module, "MNIST", replace(mnist_module.MNIST, mirrors=[]))
    names, pixels = small_files(cache / "mnist", "x")
    for name, official in zip(names, mnist_module.MNIST.official, strict=True):
        (cache / "mnist" / name).rename(cache / "mnist" / official)
    data = DATASETS["mnist"]()
    assert np.array_equal(data.train.pixels[:, 0], pixels) and not data.official
    assert (data.name, data.orientation, data.classes) == ("mnist", "upright", 10)


def test_real_mnist_is_official_packed_and_unpacked(real, tmp_path):
    data = DATASETS["mnist"](root=str(real("mnist")))
    assert data.official and (len(data.train), len(data.test)) == (60_000, 10_000)
    for name in mnist_module.MNIST.official:
        (tmp_path / name.removesuffix(".gz")).write_bytes(gzip.decompress((real("mnist") / name).read_bytes()))
    assert DATASETS["mnist"](root=str(tmp_path)).official
    labels = tmp_path / "t10k-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\0")
    assert not DATASETS["mnist"](root=str(tmp_path)).official
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]


def test_real_emnist_loads_again_within_half_a_second(real):
    root = str(real("emnist"))
    first = DATASETS["emnist"](root=root)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        again = DATASETS["emnist"](root=root)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5, seconds
    assert again.digest == first.digest and np.array_equal(again.test.pixels, first.test.pixels)
    assert again.classes == 47 and np.bincount(again.test.labels).tolist() == [400] * 47


def test_the_official_digests_are_those_of_balanced():
    assert len(OFFICIAL) == 4 and all(name.startswith("emnist-balanced-") for name in OFFICIAL)
