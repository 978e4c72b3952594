"""Images and labels that a notebook gives as arrays, put into a file that ``data=npz`` reads.

The file lies in the cache under the digest of what it holds: the same arrays are the same file, so a run that was made
with them is continued, verified and swept like any other, and giving them again brings a file back that was deleted.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from odyssey_core.data.dataset import Dataset, upright
from odyssey_core.errors import DataError, shortened
from odyssey_core.files import atomic_file
from odyssey_core.places import cache_home

EXPECTED = "(images, labels), ((images, labels), (test images, test labels)), a Dataset, or a function that returns one"
TEST_NAMES = "x_test", "y_test"


def overrides_of(data: Any) -> dict[str, Any]:
    """Values of overrides by key, which stand for arrays or for a data set.

    Args:
        data: (images, labels); a pair of such, the second for the test; or a `Dataset`, whose images, classes,
            normalisation and augmentation are taken over.

    Raises:
        DataError: something else, or arrays that are no images and labels.
    """
    if isinstance(data, Dataset):
        cut = len(data.train) - data.validation
        pixels, labels = upright(data.train.pixels, data.orientation), data.train.labels
        arrays = {"x_train": pixels[:cut], "y_train": labels[:cut]}
        arrays |= {"x_val": pixels[cut:], "y_val": labels[cut:]} if data.validation else {}
        arrays |= dict(zip(TEST_NAMES, (data.upright_test.pixels, data.upright_test.labels), strict=True))
        augment = None if data.augment is None else dict(vars(data.augment))
        settings = {"classes": data.class_names, "mean": data.mean, "std": data.std, "augment": augment}
        return {"data.file": _stored(arrays), **{f"data.{name}": value for name, value in settings.items()}}
    if not isinstance(data, tuple) or len(data) != 2:
        raise DataError(f"data: expected {EXPECTED}, got {shortened(type(data).__name__)}")
    parts = data if all(isinstance(part, tuple) and len(part) == 2 for part in data) else (data,)
    arrays = {}
    for names, part in zip((("x_train", "y_train"), TEST_NAMES), parts, strict=False):
        arrays |= dict(zip(names, _checked(*part), strict=True))
    return {"data.file": _stored(arrays)}


def _checked(images: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images and labels of a kind that a file holds."""
    pixels, classes = np.asarray(images), np.asarray(labels)
    if (
        pixels.dtype.kind not in "iu"
        or pixels.ndim not in (3, 4)
        or (pixels.size and not 0 <= pixels.min() <= pixels.max() <= 255)
    ):
        raise DataError(
            "data: images: expected whole numbers from 0 to 255, (N, H, W), (N, H, W, C) or (N, C, H, W), got "
            f"{_kind(pixels)}; pixels from 0 to 1 are made of these by (255 * images).round().astype('uint8')"
        )
    if classes.ndim != 1 or classes.dtype.kind not in "iuU":
        raise DataError(f"data: labels: expected whole numbers or names, (N,), got {_kind(classes)}")
    if len(classes) != len(pixels) or not len(pixels):
        raise DataError(f"data: expected one label an image, got {len(pixels)} images and {len(classes)} labels")
    return pixels.astype(np.uint8), classes


def _kind(array: np.ndarray) -> str:
    values = f" from {array.min():g} to {array.max():g}" if array.size and array.dtype.kind in "iuf" else ""
    return f"{array.dtype} of shape {array.shape}{values}"


def _stored(arrays: Mapping[str, np.ndarray]) -> str:
    """The path of a file with these arrays."""
    sha = hashlib.sha256()
    for name, array in arrays.items():
        sha.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array).data)
    path = cache_home() / "arrays" / f"arrays-{sha.hexdigest()[:16]}.npz"
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path, durable=False) as file:
                np.savez(file, **dict[str, Any](arrays))
        except OSError as error:
            raise DataError(
                f"data: cannot write {path} ({error.strerror or error}); set ODYSSEY_CACHE elsewhere"
            ) from None
    return str(path)
