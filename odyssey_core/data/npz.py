"""Images and labels in one NPZ file, as Keras, MedMNIST and `numpy.savez` name them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from odyssey_core import lazy_numpy as np
from odyssey_core.data.cache import cached, room
from odyssey_core.data.dataset import Dataset, Images, Shape, of_shape
from odyssey_core.data.files import identity
from odyssey_core.data.npy import names_in, opened, read_npy, rows
from odyssey_core.data.options import pixel_options
from odyssey_core.data.parts import TEST, TRAIN, VALIDATION, TestShare, class_numbers, in_parts, name_of
from odyssey_core.errors import DataError
from odyssey_core.places import expanded, not_a_file

CHANNELS = (1, 3)
READ = 1024  # images at once
MOST = 2**53  # below it float64 has every whole number
# For each way to name them the arrays of each part, images and labels; the first whose training arrays are there.
WAYS: Sequence[Mapping[str, tuple[str, str]]] = (
    {TRAIN: ("x_train", "y_train"), VALIDATION: ("x_val", "y_val"), TEST: ("x_test", "y_test")},
    {
        TRAIN: ("train_images", "train_labels"),
        VALIDATION: ("val_images", "val_labels"),
        TEST: ("test_images", "test_labels"),
    },
    {TRAIN: ("arr_0", "arr_1"), TEST: ("arr_2", "arr_3")},
    {TRAIN: ("images", "labels")},
    {TRAIN: ("x", "y")},
    {TRAIN: ("X", "y")},
)


class _Layout(NamedTuple):
    """How an array's images lie.

    Attributes:
        shape: (C, H, W).
        axes: that make (N, C, H, W) of a stretch of the array, to which a last axis was added where it had three.
    """

    shape: Shape
    axes: tuple[int, int, int, int]


def _shape(file: str, **rest: Any) -> Shape:
    path = expanded(file).absolute()
    images, _ = _parts(path)[TRAIN]
    with opened(path, images) as array:
        return _layout(path, images, array.shape, array.dtype).shape


@pixel_options
@of_shape(_shape)
def npz(
    file: str,
    classes: tuple[str, ...] | None = None,
    test_share: TestShare = 0.2,
    split_seed: int = 0,
) -> Dataset:
    """Images (N, H, W), (N, H, W, C) or (N, C, H, W) uint8 and labels (N,) or (N, 1) in one NPZ file.

    The arrays are called x_train, y_train, x_test, y_test as Keras does; train_images, train_labels, and their like for
    val and test as in MedMNIST; arr_0 and arr_1, perhaps arr_2 and arr_3 for test, as `numpy.savez` does by itself;
    images and labels; or x and y. Arrays of Python objects are not read, since they are a pickle.

    Args:
        file: the file.
        classes: names of the classes, in the order of their labels; None calls them by these.
        test_share: of every class, where there is neither a test nor a validation part.
        split_seed: decides which images those are.

    Raises:
        DataError: no such file, arrays that are missing, of another type or shape, or of Python objects.
    """
    path = expanded(file).absolute()
    if not path.is_file():
        raise DataError(f"data.file: expected an NPZ file, got {path}, which {not_a_file(path)}; correct data.file")
    arrays = _parts(path)
    labels = {part: _labels(path, name) for part, (_, name) in arrays.items()}
    every = np.concatenate([labels[part] for part in arrays])
    names, numbers = class_numbers(list(every), str(path))
    if classes is not None and len(classes) != len(names):
        raise DataError(f"data.classes: {path} has {len(names)} classes, {_few(names)}; got {len(classes)} names")
    given = [part for part in arrays for _ in labels[part]]
    known = None if len(arrays) == 1 else given
    parts = in_parts(numbers, names, known, test_share, split_seed, f"data.file: {path}")

    def build() -> tuple[Images, Images, dict[str, Any]]:
        pixels = _pixels(path, {name: len(labels[part]) for part, (name, _) in arrays.items()}, parts.order)
        train, test, validation = parts.cut(pixels)
        return train, test, {"validation": validation}

    place = hashlib.sha256(json.dumps([str(path), test_share, split_seed]).encode()).hexdigest()[:16]
    train, test, facts, digest = cached(f"{name_of('npz', path)}-{place}", identity(path), build)
    return Dataset(
        name_of("npz", path),
        train,
        test,
        names if classes is None else classes,
        digest=digest,
        validation=facts["validation"],
    )


def _parts(path: Path) -> dict[str, tuple[str, str]]:
    """The names of the arrays of each part that there is.

    Raises:
        DataError: no names that are known, or the images of a part without their labels.
    """
    there = names_in(path)
    for way in WAYS:
        if all(name in there for name in way[TRAIN]):
            for images, labels in way.values():
                if (images in there) != (labels in there):
                    one, other = (images, labels) if images in there else (labels, images)
                    raise DataError(f"{path}: has {one} and no {other}; add it, or leave out {one}")
            return {part: names for part, names in way.items() if all(name in there for name in names)}
    raise DataError(
        f"{path}: expected arrays x_train and y_train, train_images and train_labels, arr_0 and arr_1, or images and "
        f"labels; got {', '.join(there) or 'none'}"
    )


def _labels(path: Path, name: str) -> np.ndarray:
    """(N,) labels as text."""
    labels = read_npy(path, name)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not len(labels):
        raise DataError(f"{path}: {name}: expected one label an image, (N,) or (N, 1), got shape {labels.shape}")
    if labels.dtype.kind in "fu" and (wrong := np.flatnonzero(~((labels < MOST) & (labels == np.floor(labels))))).size:
        raise DataError(
            f"{path}: {name}: expected whole numbers below 2^53 or texts, got {labels[wrong[0]]} at index {wrong[0]}"
        )
    if labels.dtype.kind not in "fiubU":
        raise DataError(f"{path}: {name}: expected whole numbers or texts, got {labels.dtype}")
    return labels if labels.dtype.kind == "U" else labels.astype(np.int64).astype(str)


def _layout(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> _Layout:
    if dtype != np.uint8:
        raise DataError(
            f"{path}: {name}: expected pixels from 0 to 255 as uint8, got {dtype}; save them with "
            "(255 * x).round().astype(np.uint8) if they are from 0 to 1"
        )
    if 0 in shape[1:]:
        raise DataError(f"{path}: {name}: expected images with pixels, got shape {shape}")
    if len(shape) == 3:
        return _Layout((1, *shape[1:]), (0, 3, 1, 2))
    if len(shape) == 4 and shape[3] in CHANNELS:
        return _Layout((shape[3], *shape[1:3]), (0, 3, 1, 2))
    if len(shape) == 4 and shape[1] in CHANNELS:
        return _Layout(shape[1:], (0, 1, 2, 3))
    raise DataError(f"{path}: {name}: expected images (N, H, W), or (N, H, W, C) with 1 or 3 channels, got {shape}")


def _pixels(path: Path, counts: Mapping[str, int], order: np.ndarray) -> np.ndarray:
    """(N, C, H, W) in an order, from arrays one after the other with so many images each."""
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    pixels: np.ndarray | None = None
    start = 0
    for name, count in counts.items():
        with opened(path, name) as array:
            layout = _layout(path, name, array.shape, array.dtype)
            if array.shape[0] != count:
                raise DataError(f"{path}: {name}: expected {count} images, one for each label, got {array.shape[0]}")
            if pixels is None:
                pixels = room((len(order), *layout.shape))
            if pixels.shape[1:] != layout.shape:
                raise DataError(f"{path}: {name}: expected (C, H, W) = {pixels.shape[1:]}, got {layout.shape}")
            for images in rows(array, READ):
                images = images[..., None] if images.ndim == 3 else images
                pixels[place[start : start + len(images)]] = images.transpose(layout.axes)
                start += len(images)
    assert pixels is not None  # there is a part
    return pixels


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
