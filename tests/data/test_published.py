"""Published sets from small files of their real formats, and from the real ones where there are any."""

import bz2
import gzip
import hashlib
import io
import lzma
import struct
import tarfile

import numpy as np
import pytest
from idx_files import idx_bytes

from odyssey_core.data import DATASETS, cifar, mnist_like
from odyssey_core.errors import ConfigError, DataError

L_SHAPE = np.zeros((28, 28), np.uint8)  # upright: a stem on the left, a foot below
L_SHAPE[4:24, 6:9] = 200
L_SHAPE[21:24, 6:20] = 200


def grey(labels):
    """Images whose first pixel is their label."""
    pixels = np.repeat(L_SHAPE[None], len(labels), axis=0)
    pixels[:, 0, 0] = labels
    return pixels


def idx_set(folder, labels, names):
    folder.mkdir()
    for name in names:
        array = grey(labels) if "images" in name else labels
        (folder / name).write_bytes(gzip.compress(idx_bytes(array)))


def colour(labels):
    """(N, 3, 32, 32): red in the first row, green in the first column, blue in the last row; the label at (5, 5)."""
    pixels = np.zeros((len(labels), 3, 32, 32), np.uint8)
    pixels[:, 0, 0], pixels[:, 1, :, 0], pixels[:, 2, -1], pixels[:, :, 5, 5] = 250, 240, 230, labels[:, None]
    return pixels


def check(data, pixels, labels, test=None):
    """``labels`` are in the files' order; by default the test set is the same as that for training."""
    assert np.array_equal(data.train.pixels, pixels) and data.train.labels.tolist() == list(labels)
    assert data.test.labels.tolist() == list(labels if test is None else test)
    assert data.orientation == "upright" and not data.official and data.licence


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist"])
def test_sets_in_mnists_files(tmp_path, name):
    labels = np.arange(10)[::-1]
    idx_set(tmp_path / "x", labels, mnist_like.FASHION.official)
    data = DATASETS[name](root=str(tmp_path / "x"), normalize="channel")
    check(data, grey(labels)[:, None], labels)
    assert data.mean == pytest.approx((data.train.pixels.mean() / 255,))
    assert data.class_names[9] == {"fashion_mnist": "ankle boot", "kmnist": "wo"}[name]
    assert data.class_names[0] == {"fashion_mnist": "T-shirt/top", "kmnist": "o"}[name]


def test_qmnist_takes_the_first_of_eight_numbers(tmp_path):
    labels = np.arange(10)
    idx_set(tmp_path / "x", labels, [name for name in mnist_like.QMNIST.official if "images" in name])
    rows = np.array([[label, 1, 2000, 7, 3, 99, -1, 0] for label in labels], ">i4")
    content = struct.pack(">BBBB2I", 0, 0, 0x0C, 2, *rows.shape) + rows.tobytes()
    for part in ("train", "test"):
        (tmp_path / "x" / f"qmnist-{part}-labels-idx2-int.gz").write_bytes(gzip.compress(content))
    check(DATASETS["qmnist"](root=str(tmp_path / "x")), grey(labels)[:, None], labels)
    (tmp_path / "x" / "qmnist-test-labels-idx2-int.gz").write_bytes(idx_bytes(labels))
    with pytest.raises(DataError, match=r"test-labels-idx2-int\.gz: expected IDX elements of type 0x0c \(int32\)"):
        DATASETS["qmnist"](root=str(tmp_path / "x"))


def test_kuzushiji49_is_in_numpys_files(tmp_path):
    labels = np.array([48, 0, 46, 5], np.uint8)
    for part in ("train", "test"):
        np.savez_compressed(tmp_path / f"k49-{part}-imgs.npz", grey(labels))
        np.savez_compressed(tmp_path / f"k49-{part}-labels.npz", labels)
    data = DATASETS["kuzushiji49"](root=str(tmp_path))
    check(data, grey(labels)[:, None], labels)
    assert (data.classes, data.class_names[5], data.class_names[46:]) == (49, "ka", ("wo", "n", "iteration mark"))
    np.savez(tmp_path / "k49-test-imgs.npz", grey(labels)[:, :20])
    with pytest.raises(
        DataError, match=r"k49-test-imgs\.npz: expected uint8 images \(N, 28, 28\) .* uint8 \(4, 20, 28\)"
    ):
        DATASETS["kuzushiji49"](root=str(tmp_path))
    np.savez(tmp_path / "k49-test-labels.npz", np.array([{}, 1, 2, 3], object))
    with pytest.raises(DataError, match="arr_0 holds Python objects, which are a pickle and may run anything"):
        DATASETS["kuzushiji49"](root=str(tmp_path))


def records(*labels):
    """Bytes of CIFAR's binary version: label bytes, then planes of red, green and blue."""
    return np.concatenate([np.stack(labels, axis=1), colour(labels[-1]).reshape(len(labels[0]), -1)], axis=1).tobytes()


def test_cifar10(tmp_path):
    for i, name in enumerate(cifar.CIFAR10.official):
        (tmp_path / name).write_bytes(records(np.array([i, 9 - i], np.uint8)))
    data = DATASETS["cifar10"](root=str(tmp_path))
    labels = np.array([0, 9, 1, 8, 2, 7, 3, 6, 4, 5])
    check(data, colour(labels), labels, test=[5, 4])
    assert (data.input_shape, data.class_names[3], data.class_names[9]) == ((3, 32, 32), "cat", "truck")
    test = tmp_path / "test_batch.bin"
    test.write_bytes(test.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"test_batch\.bin: expected records of 3,073 bytes, got 6,145 bytes, which"):
        DATASETS["cifar10"](root=str(tmp_path))
    test.write_bytes(records(np.array([11], np.uint8)))
    with pytest.raises(DataError, match=r"test_batch\.bin: expected labels 0 to 9 \(10 classes\), got 11 at index 0"):
        DATASETS["cifar10"](root=str(tmp_path))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("data_batch_1", "test_batch"), "data_batch_1 is of the version for Python, a pickle, which is never read"),
        (("train.bin", "test.bin"), r"the folder has test\.bin, train\.bin; is it another data set\?"),
        (("data_batch_2.bin",), "add the file, correct data.root, or leave it out to download"),
    ],
)
def test_files_that_are_not_cifar10s(tmp_path, files, message):
    for name in files:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=rf"expected .*/data_batch_1\.bin, which does not exist; {message}"):
        DATASETS["cifar10"](root=str(tmp_path))


def test_cifar100_has_coarse_labels_before_fine_ones(tmp_path):
    coarse, fine = np.array([4, 19], np.uint8), np.array([0, 99], np.uint8)
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(records(coarse, fine))
    data = DATASETS["cifar100"](root=str(tmp_path))
    check(data, colour(fine), fine)
    assert (data.classes, data.class_names[0], data.class_names[99]) == (100, "apple", "worm")
    groups = DATASETS["cifar100"](labels="coarse", root=str(tmp_path))
    check(groups, colour(fine), coarse)
    assert (groups.classes, groups.class_names[4], groups.class_names[19]) == (20, "fruit_and_vegetables", "vehicles_2")


def test_an_archive_of_cifar100_is_unpacked_and_official(tmp_path, cache, monkeypatch):
    with tarfile.open(cache.parent / "x.tar.gz", "w:gz") as packed:
        for name in ("train.bin", "test.bin", "other.txt"):
            content = records(np.array([1], np.uint8), np.array([2], np.uint8))
            info = tarfile.TarInfo(f"cifar-100-binary/{name}")
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    content = (cache.parent / "x.tar.gz").read_bytes()
    (cache / "cifar100").mkdir(parents=True)
    (cache / "cifar100" / "cifar-100-binary.tar.gz").write_bytes(content)
    urls, _, inside = cifar.CIFAR100.archive
    source = cifar.Source(cifar.CIFAR100.official, archive=(urls, hashlib.sha256(content).hexdigest(), inside))
    monkeypatch.setattr(cifar, "CIFAR100", source)
    data = DATASETS["cifar100"]()
    assert data.official and data.train.labels.tolist() == [2]
    assert sorted(path.name for path in (cache / "cifar100").iterdir()) == [
        "SHA256SUMS", "cifar-100-binary.tar.gz", "test.bin", "train.bin",
    ]  # fmt: skip
    monkeypatch.setattr(cifar, "CIFAR100", cifar.Source({"more.bin": ""}, archive=source.archive))
    with pytest.raises(DataError, match=r"expected cifar-100-binary/more\.bin and its like, got none; delete it"):
        DATASETS["cifar100"]()


def test_svhn_calls_the_digit_0_class_10(tmp_path):
    from scipy.io import savemat

    digits = np.array([0, 1, 9, 0], np.uint8)
    images = np.ascontiguousarray(colour(digits).transpose(2, 3, 1, 0))
    for part in ("train", "test"):
        savemat(tmp_path / f"{part}_32x32.mat", {"X": images, "y": np.where(digits == 0, 10, digits)[:, None]})
    data = DATASETS["svhn"](root=str(tmp_path))
    check(data, colour(digits), digits)
    assert data.input_shape == (3, 32, 32)
    savemat(tmp_path / "test_32x32.mat", {"X": images[:16], "y": digits[:, None]})
    with pytest.raises(DataError, match=r"expected X uint8 \(32, 32, 3, N\) .*, got uint8 \(16, 32, 3, 4\) and 4"):
        DATASETS["svhn"](root=str(tmp_path))
    whole = (tmp_path / "train_32x32.mat").read_bytes()
    (tmp_path / "train_32x32.mat").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"train_32x32\.mat: expected a MATLAB file with X and y, got .*is it whole"):
        DATASETS["svhn"](root=str(tmp_path))


def libsvm(digits, value=1.0):
    """Lines of LIBSVM's, class digit + 1; the pixel in row 1, column 2 is the value, one is 0.5, the others are -1."""
    lines = []
    for digit in digits:
        pixels = np.full(256, -1.0)
        pixels[18], pixels[digit] = value, 0.5
        lines.append(f"{digit + 1} " + " ".join(f"{i + 1}:{v:g}" for i, v in enumerate(pixels)))
    return bz2.compress("\n".join(lines).encode())


def test_usps_counts_classes_from_1(tmp_path):
    for name in ("usps.bz2", "usps.t.bz2"):
        (tmp_path / name).write_bytes(libsvm([0, 9]))
    data = DATASETS["usps"](root=str(tmp_path))
    pixels = np.zeros((2, 1, 16, 16), np.uint8)
    pixels[:, 0, 1, 2], pixels[0, 0, 0, 0], pixels[1, 0, 0, 9] = 255, 191, 191  # 255 x 0.75
    check(data, pixels, [0, 9])
    (tmp_path / "usps.t.bz2").write_bytes(libsvm([3, 4], value=7))
    with pytest.raises(DataError, match=r"usps\.t\.bz2: expected lines of .*, got a pixel of 7\.0 in line 1"):
        DATASETS["usps"](root=str(tmp_path))
    (tmp_path / "usps.t.bz2").write_bytes(libsvm([3])[:-4])
    with pytest.raises(DataError, match=r"usps\.t\.bz2: expected lines of a class and 256 pixels"):
        DATASETS["usps"](root=str(tmp_path))


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist", "kmnist", "qmnist", "svhn", "usps"])
def test_files_that_are_not_there(tmp_path, name):
    with pytest.raises(DataError, match=rf"data\.root: expected {tmp_path}/\S+ .*which does not exist; add the file"):
        DATASETS[name](root=str(tmp_path))
    with pytest.raises(ConfigError, match=r"data\.normalize: channel computes data\.mean and data\.std"):
        idx_set(tmp_path / "x", np.arange(10), mnist_like.FASHION.official)
        DATASETS["fashion_mnist"](root=str(tmp_path / "x"), mean=0.5, normalize="channel")


def test_without_scipy_the_other_sets_can_be_read(run_python):
    """Neither SciPy nor scikit-learn is imported by the core until a set needs it."""
    script = """
import sys
import odyssey_core.data, odyssey_core.learner, odyssey_core.backends
from odyssey_core.data import DATASETS
for name in ("folder", "table", "npz", "mnist", "cifar10", "svhn", "usps", "kuzushiji49"):
    DATASETS.get(name)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"scipy", "sklearn", "pyarrow"}))
"""
    assert run_python(script) == "[]"


def test_real_fashion_mnist_is_official_packed_or_not(real, tmp_path):
    folder = real("fashion-mnist")
    for name in mnist_like.FASHION.official:
        if (folder / name).is_file():
            (tmp_path / name).symlink_to(folder / name)
        else:
            packed = (folder / name).with_suffix(".xz")
            (tmp_path / name.removesuffix(".gz")).write_bytes(lzma.decompress(packed.read_bytes()))
    data = DATASETS["fashion_mnist"](root=str(tmp_path), normalize="channel")
    assert data.official and np.bincount(data.train.labels).tolist() == [6000] * 10
    assert (round(data.mean[0], 5), round(data.std[0], 5)) == (0.28604, 0.35302)
    boot = data.train.pixels[0, 0]  # the first image: its heel is right, its sole below
    assert data.class_names[data.train.labels[0]] == "ankle boot" and boot[20:24].mean() > 3 * boot[:6].mean()


def test_real_cifar10_is_official(real):
    folder = real("cifar-10-batches-bin")
    data = DATASETS["cifar10"](root=str(folder), normalize="channel")
    assert data.official and np.bincount(data.train.labels).tolist() == [5000] * 10
    assert tuple(round(x, 5) for x in data.mean) == (0.49140, 0.48216, 0.44653)
    assert tuple(round(x, 5) for x in data.std) == (0.24703, 0.24349, 0.26159)
