"""Images that a table lists: paths of picture files with their classes, or the pixels themselves in columns."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from odyssey_core import lazy_numpy as np
from odyssey_core.data.cache import cached, room
from odyssey_core.data.dataset import Dataset, Images, Shape, of_shape
from odyssey_core.data.files import identity
from odyssey_core.data.options import pixel_options
from odyssey_core.data.parts import (
    NAMES,
    TEST,
    TRAIN,
    TestShare,
    class_numbers,
    in_parts,
    name_of,
)
from odyssey_core.data.picture_set import Fit, Listed, Size, dataset_of
from odyssey_core.data.pictures import Mode
from odyssey_core.errors import ConfigError, DataError
from odyssey_core.places import expanded, not_a_file
from odyssey_core.registry import nearest

PATHS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path")
SHOWN = 8  # column names in a message
SMALL_BLOCK = 1 << 18  # bytes of a CSV file at once


class _Columns(NamedTuple):
    """The columns of a table: ``path`` is None where the pixels are in it, ``part`` where it has no parts."""

    label: str
    part: str | None
    path: str | None
    pixels: tuple[str, ...]


def _shape(
    file: str,
    label: str = "label",
    path: str | None = None,
    split: str = "split",
    size: Size = None,
    channels: int | None = None,
    **rest: Any,
) -> Shape | None:
    place = _existing("data.file", file)
    columns = _columns([place], label, split, path)
    if columns.path is None:
        return _image_shape(place, columns, size, channels or 1)
    return Fit(size, channels or 3, "resize", False).shape


@pixel_options
@of_shape(_shape)
def table(
    file: str,
    test_file: str | None = None,
    label: str = "label",
    path: str | None = None,
    split: str = "split",
    root: str | None = None,
    size: Size = None,
    channels: Literal[1, 3] | None = None,
    mode: Mode = "center_crop",
    test_share: TestShare = 0.2,
    split_seed: int = 0,
    skip_broken: bool = False,
) -> Dataset:
    """Images that a CSV or Parquet file lists, one in each row.

    A column has their classes. Either another has paths of picture files; or all others are pixels from 0 to 255, row
    by row as in the CSV files of MNIST and Sign-MNIST at Kaggle, in colour with the three channels of each pixel side
    by side. A column ``split`` with train, val and test in it makes these parts.

    Args:
        file: the table, ``.csv`` or ``.parquet``.
        test_file: a second one with the images for testing.
        label: the column of classes.
        path: the column of paths; None takes the first of path, file, filename, file_name, filepath, image and
            image_path that there is, and without any reads pixels.
        split: the column of parts; a table need not have one.
        root: the folder that paths begin at; None takes the table's own.
        size: (H, W) of the images, or one number for both; None takes pictures that are all of one size, and for
            pixels in columns a square.
        channels: 3, red, green and blue; 1, grey. None is 3 for pictures and 1 for pixels in columns.
        mode: what is done with pictures of another size: ``resize``, ``center_crop`` or ``pad``.
        test_share: of every class, where there is neither a second table nor a part for testing.
        split_seed: decides which images those are.
        skip_broken: leaves out pictures that cannot be read, and says so.

    Raises:
        DataError: no such file or column, a row without a class, a picture that is missing or cannot be read, a pixel
            that is none.
    """
    files = [_existing("data.file", file), *([_existing("data.test_file", test_file)] if test_file else [])]
    columns = _columns(files, label, split, path)
    if columns.path is None:
        shape = _image_shape(files[0], columns, size, channels or 1)
        return _of_pixels(files, columns, shape, test_share, split_seed)
    place = expanded(root).absolute() if root else files[0].parent
    labels, parts, names_of_files = _texts(files, columns)
    names, numbers = _classes(files[0], columns, labels)
    paths = [place / each for each in names_of_files]
    stamps = [_stamp(each, files[0], row) for row, each in enumerate(paths, 1)]
    listed = Listed(
        place,
        [str(each) for each in paths],
        names,
        in_parts(numbers, names, parts, test_share, split_seed, f"data.file: {files[0]}"),
    )
    key = hashlib.sha256(repr(stamps).encode()).hexdigest()
    fit = Fit(size, channels or 3, mode, skip_broken)
    return dataset_of(name_of("table", files[0]), listed, fit, key, [])


def _existing(key: str, file: str) -> Path:
    path = expanded(file).absolute()
    if not path.is_file():
        raise DataError(f"{key}: expected a CSV or Parquet file, got {path}, which {not_a_file(path)}; correct {key}")
    return path


def _of_pixels(files: Sequence[Path], columns: _Columns, shape: Shape, test_share: float, split_seed: int) -> Dataset:
    def build() -> tuple[Images, Images, dict[str, Any]]:
        labels, given, _ = _texts(files, columns)
        names, numbers = _classes(files[0], columns, labels)
        parts = in_parts(numbers, names, given, test_share, split_seed, f"data.file: {files[0]}")
        place = np.empty(len(numbers), np.int64)
        place[parts.order] = np.arange(len(numbers))
        pixels, start = room((len(numbers), *shape)), 0
        for file in files:  # once more: pixels are kept nowhere but where they belong
            for batch, first in _batches(file, columns, pixels=True):
                rows = _pixels(batch, columns, file, first)
                images = rows.reshape(len(rows), *shape[1:], shape[0])
                pixels[place[start : start + len(rows)]] = images.transpose(0, 3, 1, 2)
                start += len(rows)
        train, test, validation = parts.cut(pixels)
        return train, test, {"names": names, "validation": validation}

    name = name_of("table", files[0])
    where = hashlib.sha256(repr([*map(str, files), columns, shape, test_share, split_seed]).encode()).hexdigest()[:16]
    train, test, facts, digest = cached(f"{name}-{where}", [identity(each) for each in files], build)
    return Dataset(
        name,
        train,
        test,
        tuple(facts["names"]),
        digest=digest,
        validation=facts["validation"],
    )


def _texts(files: Sequence[Path], columns: _Columns) -> tuple[list[str], list[str] | None, list[str]]:
    """Of every row its class, its part, and its path where it has one."""
    labels, parts, paths = [], [], []
    for file, part in zip(files, (TRAIN, TEST), strict=False):
        for batch, first in _batches(file, columns, pixels=False):
            labels += _column(batch, columns.label, file, first)
            paths += _column(batch, columns.path, file, first) if columns.path else []
            parts += _part(batch, columns, file, first, part)
    return labels, None if len(files) == 1 and columns.part is None else parts, paths


def _classes(file: Path, columns: _Columns, labels: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    if not labels:
        raise DataError(f"data.file: expected rows, got none in {file}")
    names, numbers = class_numbers(labels, f"data.label: {file}")
    if len(names) == len(numbers):
        raise DataError(
            f"data.label: column {columns.label!r} of {file} has another value in each of its {len(numbers)} rows; "
            "a class needs several images: choose the column that has the classes"
        )
    return names, numbers


def _columns(files: Sequence[Path], label: str, split: str, path: str | None) -> _Columns:
    """Which columns the tables have for what.

    Raises:
        DataError: one that is asked for is missing.
    """
    for file in files:
        there = _header(file)
        for key, name in (("label", label), ("path", path)):
            if name is not None and name not in there:
                near = nearest(name, there)
                more = ", ..." if len(there) > SHOWN else ""
                hint = f"; did you mean {near!r}?" if near else f"; set data.{key} to one of them"
                raise DataError(
                    f"data.{key}: {file} has no column {name!r}; it has {', '.join(there[:SHOWN])}{more}{hint}"
                )
    there = _header(files[0])
    path = path or next((name for name in PATHS if name in there), None)
    part = split if split in there else None
    return _Columns(label, part, path, () if path else tuple(name for name in there if name not in (label, part)))


def _image_shape(file: Path, columns: _Columns, size: Size, channels: int) -> Shape:
    count = len(columns.pixels)
    side = math.isqrt(count // channels)
    height, width = (side, side) if size is None else (size, size) if isinstance(size, int) else size
    if not count or channels * height * width != count:
        expected = f"{channels} x {height} x {width}" if size else f"{channels} times a square number"
        raise DataError(
            f"{file}: expected {expected} columns of pixels, got {count} beside {columns.label!r}; correct data.size "
            "or data.channels, or name the column of paths with data.path"
        )
    return channels, height, width


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        raise ConfigError("data=table needs pyarrow, which is not installed; pip install pyarrow") from None
    return pyarrow


def _header(file: Path) -> list[str]:
    try:
        if file.suffix.lower() == ".parquet":
            return list(_arrow().parquet.read_schema(file).names)
        with open(file, newline="", encoding="utf-8-sig") as text:
            return next(csv.reader(text))
    except StopIteration:
        raise DataError(f"{file}: cannot be read as a table: it is empty") from None
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as a table: {_first_line(error)}") from None


def _batches(file: Path, columns: _Columns, pixels: bool) -> Iterator[tuple[Any, int]]:
    """The pixels or all else of a table in stretches, each with the number of its first row, counted from 1."""
    arrow, first = _arrow(), 1
    texts = [name for name in (columns.label, columns.part, columns.path) if name]
    wanted = list(columns.pixels) if pixels else texts
    try:
        if file.suffix.lower() == ".parquet":
            batches = arrow.parquet.ParquetFile(file).iter_batches(columns=wanted)
        else:
            types = dict.fromkeys(texts, arrow.string())
            convert = arrow.csv.ConvertOptions(column_types=types, include_columns=wanted)
            # PyArrow reads many blocks ahead; a row of pixels has up to four bytes for each.
            read = arrow.csv.ReadOptions(block_size=max(SMALL_BLOCK, 64 * len(columns.pixels)), use_threads=False)
            batches = arrow.csv.open_csv(file, read_options=read, convert_options=convert)
        for batch in batches:
            yield batch, first
            first += batch.num_rows
    except (OSError, ValueError) as error:
        raise DataError(f"{file}: cannot be read as a table: {_first_line(error)}") from None


def _column(batch: Any, name: str, file: Path, first: int) -> list[str]:
    values = ["" if value is None else str(value) for value in batch.column(name).to_pylist()]
    if "" in values:
        raise DataError(f"{file}: row {first + values.index('')}: expected a value in column {name!r}, got nothing")
    return values


def _part(batch: Any, columns: _Columns, file: Path, first: int, default: str) -> list[str]:
    if columns.part is None or default == TEST:
        return [default] * batch.num_rows
    values = _column(batch, columns.part, file, first)
    if wrong := [i for i, value in enumerate(values) if value.lower() not in NAMES]:
        raise DataError(
            f"{file}: row {first + wrong[0]}: column {columns.part!r}: expected one of {', '.join(NAMES)}, got "
            f"{values[wrong[0]]!r}"
        )
    return [NAMES[value.lower()] for value in values]


def _pixels(batch: Any, columns: _Columns, file: Path, first: int) -> np.ndarray:
    """(rows, pixels) uint8."""
    arrow, found = _arrow(), np.empty((batch.num_rows, len(columns.pixels)), np.uint8)
    for i, name in enumerate(columns.pixels):
        column = batch.column(name)
        if not (arrow.types.is_integer(column.type) or arrow.types.is_floating(column.type)):
            raise DataError(
                f"{file}: column {name!r}: expected pixels from 0 to 255, got {column.type}; name the column of paths "
                "with data.path, or remove it"
            )
        values = column.to_numpy(zero_copy_only=False)
        found[:, i] = np.clip(np.nan_to_num(values), 0, 255)
        wrong = np.flatnonzero(found[:, i] != values)
        if len(wrong):
            raise DataError(
                f"{file}: row {first + wrong[0]}, column {name!r}: expected a whole number from 0 to 255, got "
                f"{values[wrong[0]]}"
            )
    return found


def _stamp(path: Path, file: Path, row: int) -> list[Any]:
    if not path.is_file():
        raise DataError(f"{file}: row {row}: {path} {not_a_file(path)}; correct the table, or data.root")
    return identity(path)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
