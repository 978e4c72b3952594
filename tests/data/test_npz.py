"""A data set in one NPZ file."""

import zipfile

import numpy as np
import pytest

from odyssey_core.data import DATASETS, npz
from odyssey_core.data.dataset import shape_before_loading
from odyssey_core.errors import DataError

read = DATASETS["npz"]
RNG = np.random.default_rng(0)


def images(count, *shape):
    """Noise, the number of the image in its first pixel."""
    pixels = RNG.integers(0, 256, (count, *shape), np.uint8)
    pixels.reshape(count, -1)[:, 0] = np.arange(count)
    return pixels


def test_names_of_keras(tmp_path):
    train, test = images(6, 5, 4), images(3, 5, 4)
    np.savez_compressed(tmp_path / "x.npz", x_train=train, y_train=[2, 0, 1, 0, 1, 2], x_test=test, y_test=[0, 2, 1])
    data = read(str(tmp_path / "x.npz"), normalize="channel")
    assert (data.name, data.class_names, data.input_shape) == ("npz-x", ("0", "1", "2"), (1, 5, 4))
    assert np.array_equal(data.train.pixels[:, 0], train) and data.train.labels.tolist() == [2, 0, 1, 0, 1, 2]
    assert np.array_equal(data.test.pixels[:, 0], test) and data.test.labels.tolist() == [0, 2, 1]
    assert data.mean == pytest.approx((train.mean() / 255,)) and data.std == pytest.approx((train.std() / 255,))


def test_names_of_medmnist(tmp_path):
    arrays = {f"{part}_images": images(n, 4, 6, 3) for part, n in (("train", 6), ("val", 4), ("test", 2))}
    labels = {f"{part}_labels": np.arange(n, dtype=np.uint8)[:, None] % 2 for part, n in (("train", 6), ("val", 4))}
    np.savez(tmp_path / "x.npz", **arrays, **labels, test_labels=[[1], [0]])
    data = read(str(tmp_path / "x.npz"), classes=("benign", "malignant"))
    assert (data.input_shape, len(data.train), data.validation, len(data.test)) == ((3, 4, 6), 10, 4, 2)
    expected = np.concatenate([arrays["train_images"], arrays["val_images"]]).transpose(0, 3, 1, 2)
    assert np.array_equal(data.train.pixels, expected) and data.class_names == ("benign", "malignant")
    assert data.test.labels.tolist() == [1, 0]
    assert shape_before_loading(read, {"file": str(tmp_path / "x.npz")}) == (3, 4, 6)


def test_names_of_savez_and_a_split(tmp_path):
    pixels = images(40, 3, 4, 4)
    np.savez(tmp_path / "x.npz", pixels, np.array(["b", "a"] * 20))
    data = read(str(tmp_path / "x.npz"), test_share=0.25)
    assert (data.class_names, data.input_shape, len(data.train), len(data.test)) == (("a", "b"), (3, 4, 4), 30, 10)
    for part in (data.train, data.test):
        number = part.pixels[:, 0, 0, 0]
        assert np.array_equal(part.pixels, pixels[number]) and np.array_equal(part.labels, 1 - number % 2)
    assert np.bincount(data.test.labels).tolist() == [5, 5]


def test_labels_are_in_the_order_of_numbers(tmp_path):
    np.savez(tmp_path / "x.npz", images=images(8, 4, 4), labels=np.array([10, 2, 9, 2, 10, 9, 2, 10.0]))
    data = read(str(tmp_path / "x.npz"), test_share=0.4)
    assert data.class_names == ("2", "9", "10")


def test_a_copy_is_used_until_the_file_changes(tmp_path, monkeypatch):
    def save(labels):
        np.savez(tmp_path / "x.npz", x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)

    pixels = images(4, 4, 4)
    save([0, 1, 0, 1])
    first = read(str(tmp_path / "x.npz"))
    with monkeypatch.context() as patch:
        patch.setattr(npz, "_pixels", None)
        assert read(str(tmp_path / "x.npz")).digest == first.digest
    save([0, 1, 1, 0])
    assert read(str(tmp_path / "x.npz")).digest != first.digest


GOOD = {"x_train": np.zeros((4, 3, 3), np.uint8), "y_train": np.arange(4) % 2}
BAD = {
    "no known names": ({"a": np.zeros(3)}, "expected arrays x_train and y_train, .*; got a$"),
    "objects": (
        GOOD | {"y_train": np.array([{}, 1, 2, 3], object)},
        r"x\.npz: y_train holds Python objects, which are a pickle and may run anything; save numbers with np\.savez",
    ),
    "images of objects": (GOOD | {"x_train": np.array([[1], [2, 3]] * 2, object)}, "x_train holds Python objects"),
    "floats": (
        GOOD | {"x_train": np.zeros((4, 3, 3))}, r"x_train: expected pixels from 0 to 255 as uint8, got float64; save",
    ),
    "several labels an image": (
        GOOD | {"y_train": np.zeros((4, 14), int)}, r"expected one label an image, .* got shape \(4, 14\)",
    ),
    "an infinite label": (
        GOOD | {"y_train": np.array([0, np.inf, 1, 1])},
        r"y_train: expected whole numbers below 2\^53 or texts, got inf at index 1",
    ),
    "labels too large for an integer": (
        GOOD | {"y_train": np.array([0, 1, 1, 2**63], np.uint64)},
        r"y_train: expected whole numbers below 2\^53 or texts, got 9223372036854775808 at index 3",
    ),
    "a class that is only tested": (
        GOOD | {"x_test": GOOD["x_train"], "y_test": np.array([0, 1, 2, 2])},
        "no image of class '2' is left to train on; add some, or remove the class",
    ),
    "images without labels": (GOOD | {"x_test": GOOD["x_train"]}, "has x_test and no y_test; add it, or leave out x_t"),
    "labels without images": (GOOD | {"y_val": GOOD["y_train"]}, "has y_val and no x_val; add it, or leave out y_val"),
    "no pixels": (
        GOOD | {"x_train": np.zeros((4, 0, 3), np.uint8)}, r"expected images with pixels, got shape \(4, 0, 3\)",
    ),
    "a class with a line break": (
        GOOD | {"y_train": np.array(["a", "b\n", "a", "b\n"])},
        r"class names: expected texts without control characters, none of them blank, got 'b\\n'; rename the class",
    ),
    "fractions": (GOOD | {"y_train": np.array([0.5, 1, 1, 1])}, "expected whole numbers below .*, got 0.5 at index 0"),
    "one class": (GOOD | {"y_train": np.zeros(4, int)}, "at least two classes, got only '0'"),
    "unlike numbers": (GOOD | {"x_train": np.zeros((5, 3, 3), np.uint8)}, "expected 4 images, .*, got 5"),
    "no images": (GOOD | {"x_train": np.zeros((4, 9), np.uint8)}, r"expected images \(N, H, W\), .* got \(4, 9\)"),
    "sizes": (
        GOOD | {"x_test": np.zeros((2, 3, 4), np.uint8), "y_test": np.arange(2)},
        r"x_test: expected \(C, H, W\) = \(1, 3, 3\), got \(1, 3, 4\)",
    ),
    "column by column": (GOOD | {"x_train": np.asfortranarray(GOOD["x_train"])}, "it is in Fortran's order; save"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_refused(tmp_path, case):
    arrays, message = BAD[case]
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=message) as error:
        read(str(tmp_path / "x.npz"), test_share=0.5)
    assert len(str(error.value).splitlines()) == 1


def test_a_header_that_states_more_than_there_is_takes_no_memory(tmp_path):
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 8, 8)}\n"
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as packed:
        for name in ("images.npy", "labels.npy"):
            packed.writestr(name, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match=r"labels cannot be read \(its header states 6,399,999,999,936 bytes, it has 8"):
        read(str(tmp_path / "x.npz"))


def test_files_that_are_none(tmp_path):
    with pytest.raises(
        DataError, match=r"data\.file: expected an NPZ file, got .*, which is a folder; correct data\.f"
    ):
        read(str(tmp_path))
    path = tmp_path / "x.npz"
    with pytest.raises(DataError, match=r"data\.file: expected an NPZ file, got .*x\.npz, which does not exist"):
        read(str(path))
    path.write_bytes(b"no zip")
    with pytest.raises(DataError, match=r"x\.npz: expected an NPZ file, got File is not a zip file"):
        read(str(path))
    np.savez(path, **GOOD)
    whole = path.read_bytes()
    for size in range(1, len(whole), 37):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError) as error:
            read(str(path))
        assert len(str(error.value).splitlines()) == 1
    for at in range(0, len(whole), 41):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            read(str(path), test_share=0.5)
        except DataError as error:
            assert len(str(error).splitlines()) == 1


def test_class_names_that_are_too_few(tmp_path):
    np.savez(tmp_path / "x.npz", **GOOD)
    with pytest.raises(DataError, match=r"data\.classes: .* has 2 classes, 0, 1; got 1 names"):
        read(str(tmp_path / "x.npz"), classes=("a",))
