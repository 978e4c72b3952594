"""Data sets that a CSV or Parquet file lists."""

import csv
import os

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from picture_files import picture, truncated

from odyssey_core.data import DATASETS, table
from odyssey_core.data.dataset import shape_before_loading
from odyssey_core.errors import DataError

read = DATASETS["table"]


def write(path, rows, header):
    """A table as CSV or, by its name, as Parquet."""
    if path.suffix == ".parquet":
        columns = [list(column) for column in zip(*rows, strict=True)]
        pyarrow.parquet.write_table(pyarrow.table(dict(zip(header, columns, strict=True))), path)
    else:
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
    return str(path)


def pixel_rows(count, size=9, classes=(0, 7, 10)):
    rng = np.random.default_rng(1)
    return [[classes[i % len(classes)], i, *rng.integers(0, 256, size - 1).tolist()] for i in range(count)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_pixels_in_columns(tmp_path, suffix):
    """As in Kaggle's MNIST: the label first, then the pixels row by row."""
    rows = pixel_rows(30)
    file = write(tmp_path / f"x{suffix}", rows, ["label", *(f"pixel{i}" for i in range(9))])
    data = read(file)
    assert (data.name, data.class_names, data.input_shape) == ("table-x", ("0", "7", "10"), (1, 3, 3))
    assert (len(data.train), len(data.test)) == (24, 6)
    for part in (data.train, data.test):
        for image, label in zip(part.pixels, part.labels, strict=True):
            row = rows[image[0, 0, 0]]
            assert image.reshape(-1).tolist() == row[1:] and row[0] == (0, 7, 10)[label]
    assert shape_before_loading(read, {"file": file}) == (1, 3, 3)


def test_two_tables_as_sign_mnist_has_them(tmp_path):
    """Labels 0 to 25 without 9, J, which needs a movement: the classes are those that there are."""
    header = ["label", *(f"pixel{i}" for i in range(1, 5))]
    train = write(tmp_path / "train.csv", pixel_rows(12, 4, (8, 10, 24)), header)
    test = write(tmp_path / "test.csv", pixel_rows(3, 4, (24, 8, 10)), header)
    data = read(train, test_file=test)
    assert data.class_names == ("8", "10", "24")
    assert (data.train.labels[:3].tolist(), data.test.labels.tolist()) == ([0, 1, 2], [2, 0, 1])


def test_colour_in_columns_and_a_part_column(tmp_path):
    rows = [[i % 2, ("train", "val", "test")[i % 3], *range(12 * i, 12 * i + 12)] for i in range(12)]
    file = write(tmp_path / "x.csv", rows, ["y", "part", *(f"p{i}" for i in range(12))])
    data = read(file, label="y", split="part", channels=3, size=(1, 4))
    assert (data.input_shape, len(data.train), data.validation, len(data.test)) == ((3, 1, 4), 8, 4, 4)
    assert data.train.pixels[0].tolist() == [[[0, 3, 6, 9]], [[1, 4, 7, 10]], [[2, 5, 8, 11]]]
    assert data.test.pixels[0, 0, 0, 0] == 24


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_paths_of_pictures(tmp_path, suffix):
    root = tmp_path / "pictures"
    for i in range(20):
        picture(root / f"{i:02d}.png", (i, 9, 5))
    rows = [[f"pictures/{i:02d}.png", ("cat", "dog")[i % 2]] for i in range(20)]
    file = write(tmp_path / f"x{suffix}", rows, ["filename", "label"])
    data = read(file)
    assert (data.class_names, data.input_shape, len(data.train), len(data.test)) == (("cat", "dog"), (3, 8, 8), 16, 4)
    assert np.array_equal(data.train.labels, data.train.pixels[:, 0, 0, 0] % 2)
    below = write(tmp_path / f"y{suffix}", [[name.removeprefix("pictures/"), c] for name, c in rows], ["where", "kind"])
    other = read(below, path="where", label="kind", root=str(root), size=4, channels=1)
    assert (
        other.input_shape
        == (1, 4, 4)
        == shape_before_loading(read, {"file": below, "path": "where", "label": "kind", "size": 4, "channels": 1})
    )
    truncated(root / "03.png")
    with pytest.raises(DataError, match=r"1 of 20 pictures cannot be read: pictures/03\.png: .*skip_broken=true"):
        read(file)
    found = read(file, skip_broken=True)
    assert len(found.train) + len(found.test) == 19 and found.left_out[0].startswith("pictures/03.png: ")


def test_a_copy_is_used_until_a_table_changes(tmp_path, monkeypatch):
    header = ["label", *map(str, range(4))]
    file = write(tmp_path / "x.csv", pixel_rows(12, 4), header)
    first = read(file)
    with monkeypatch.context() as patch:
        patch.setattr(table, "_batches", None)
        assert read(file).digest == first.digest
    before = os.stat(file)
    write(tmp_path / "x.csv", [[*row[:-1], 0] for row in pixel_rows(12, 4)], header)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read(file).digest != first.digest


def words(*labels):
    return [[i, i, i, i, label] for i, label in enumerate(labels)]


NAMES = ["a", "b", "c", "d", "label"]
BAD = {
    "no label column": (words(0, 1), ["a", "b", "c", "d", "lable"], {}, "no column 'label'; it has a, b, c, d, "
                        "lable; did you mean 'lable'"),
    "no path column": (words(0, 1), NAMES, {"path": "where"}, r"data\.path: .* no column 'where'; .*set data\.p"),
    "a value a row": (words(*range(9)), NAMES, {}, "column 'label' of .* another value in each of its 9 rows"),
    "one class": (words(*"aaaa"), NAMES, {}, "at least two classes, got only 'a'"),
    "no label": (words("a", "a", "", "b"), NAMES, {}, "row 3: expected a value in column 'label', got nothing"),
    "no square": (words(0, 0, 1, 1), NAMES, {"channels": 3}, "expected 3 times a square number columns"),
    "another size": (words(0, 0, 1, 1), NAMES, {"size": 3}, "expected 1 x 3 x 3 columns of pixels, got 4"),
    "a part": (
        [[*"0000", i % 2, "training"] for i in range(4)], [*NAMES, "split"], {},
        "row 1: column 'split': expected one of train, val, valid, validation, test, got 'training'",
    ),
    "words": ([["x", 1, 1, 1, i % 2] for i in range(4)], NAMES, {}, "column 'a': expected pixels from .*, got str"),
    "too bright": ([[1, 1, 256, 1, i % 2] for i in range(4)], NAMES, {}, "row 1, column 'c': expected .* got 256"),
    "fractions": ([[1, 1, 1, i / 2, i % 2] for i in range(4)], NAMES, {}, "row 2, column 'd': expected .* got 0.5"),
    "a hole": ([[1, "" if i == 2 else 1, 1, 1, i % 2] for i in range(4)], NAMES, {}, "row 3, column 'b': .* got nan"),
    "a missing picture": (
        [["no.png", i % 2] for i in range(4)], ["path", "label"], {}, r"row 1: .*no\.png does not exist; correct"
    ),
    "rows": ([], NAMES, {}, "expected rows, got none"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_refused(tmp_path, case):
    rows, header, options, message = BAD[case]
    file = write(tmp_path / "x.csv", rows, header)
    with pytest.raises(DataError, match=message) as error:
        read(file, **options)
    assert len(str(error.value).splitlines()) == 1


def test_files_that_are_none(tmp_path):
    with pytest.raises(DataError, match=r"data\.file: expected a CSV or Parquet file, got .*x\.csv, which"):
        read(str(tmp_path / "x.csv"))
    for name, content in (("x.csv", b""), ("x.parquet", b"PAR1 no more"), ("y.csv", b"a,label\n1,2\n3\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=r"cannot be read as a table: ") as error:
            read(str(tmp_path / name))
        assert len(str(error.value).splitlines()) == 1
