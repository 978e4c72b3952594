"""What every dataset is once loaded, and the checks that make its indices and labels safe to use unchecked."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from odyssey_core import lazy_numpy as np
from odyssey_core.data.augment import Augment
from odyssey_core.data.preparation import PHOTOGRAPHS, Preparation
from odyssey_core.errors import ConfigError, DataError, OdysseyError

ORIENTATIONS = ("upright", "transposed")
Shape = tuple[int, int, int]
PerChannel = float | tuple[float, ...]  # one number for all channels of an image, or one for each
Constructor = TypeVar("Constructor", bound=Callable[..., "Dataset"])


@dataclass(frozen=True)
class Images:
    """Labelled images.

    Args:
        pixels: (N, C, H, W) uint8, C-contiguous.
        labels: (N,) int64.

    Raises:
        DataError: another rank, dtype or memory order, no image at all, or not one label an image.
    """

    pixels: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        pixels, labels = self.pixels, self.labels
        if pixels.ndim != 4 or pixels.dtype != np.uint8 or not pixels.flags.c_contiguous:
            raise DataError(
                f"images: expected C-contiguous uint8 pixels (N, C, H, W), got {pixels.dtype} {pixels.shape}"
                f"{'' if pixels.flags.c_contiguous else ', not C-contiguous'}; convert with np.ascontiguousarray"
            )
        if labels.ndim != 1 or labels.dtype != np.int64:
            raise DataError(f"labels: expected int64 (N,), got {labels.dtype} {labels.shape}; convert with astype")
        if len(pixels) != len(labels):
            raise DataError(f"images: expected one label an image, got {len(pixels)} images and {len(labels)} labels")
        if pixels.size == 0:
            raise DataError(f"images: expected at least one, got shape {pixels.shape}; the data set is empty")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Alike:
    """Pairs of classes that a person, too, takes for each other.

    Args:
        reasons: what the two classes of a pair share.
        told_apart: for a sentence: what they are, and what a person goes by who tells them apart.
    """

    reasons: Mapping[frozenset[str], str]
    told_apart: str

    def reason(self, a: str, b: str) -> str | None:
        """Why taking one class for the other is forgivable; None where it is not."""
        return self.reasons.get(frozenset((a, b)))


@dataclass(frozen=True)
class Dataset:
    """A training set, a test set, and what is needed to read them.

    Args:
        name: as in the registry, with the split where there are several: ``"emnist-balanced"``.
        train: the training images; a validation split is cut from these.
        test: the test images, of the same (C, H, W).
        class_names: one name a class, in label order.
        orientation: ``"upright"``, or ``"transposed"`` where rows and columns are stored swapped, as in EMNIST.
        mean: mean of the pixels in [0, 1], subtracted before the first layer; one number, or one for each channel.
        std: their standard deviation, divided by after that; likewise.
        digest: SHA-256 of the data as read; by default that of the pixels and labels (see ``digest_of``).
        official: whether every source file is byte for byte the published one; None where none is published.
        preparation: how a person's picture is made into such an image.
        augment: distortion of the training images, or None.
        alike: which classes a person, too, takes for each other; None where nothing is known of it.
        validation: how many of the training images, the last ones, are a validation part that the data set itself has.
        left_out: files that are no part of it, each with the reason: ``"cat/a.png: is truncated"``.
        licence: what one may do with it and whom one names, in a line; "" where nothing is known.

    Raises:
        DataError: a class name that is blank, used twice or has control characters, labels outside
            ``range(classes)``, images of two sizes, an unknown orientation.
        ConfigError: a std that is not positive, a mean or std that is not finite or not one for each channel.
    """

    name: str
    train: Images
    test: Images
    class_names: tuple[str, ...]
    orientation: str = "upright"
    mean: PerChannel = 0.0
    std: PerChannel = 1.0
    digest: str = ""
    official: bool | None = None
    preparation: Preparation = PHOTOGRAPHS
    augment: Augment | None = None
    alike: Alike | None = None
    validation: int = 0
    left_out: tuple[str, ...] = ()
    licence: str = ""

    def __post_init__(self) -> None:
        if not self.digest:
            object.__setattr__(self, "digest", digest_of(self.train, self.test))
        _check_names(self.name, self.class_names)
        for part, images in (("train", self.train), ("test", self.test)):
            _check_labels(f"{self.name} {part}", images.labels, self.classes)
        if self.train.pixels.shape[1:] != self.test.pixels.shape[1:]:
            raise DataError(
                f"{self.name}: expected train and test images of one size, got (C, H, W) = "
                f"{self.train.pixels.shape[1:]} and {self.test.pixels.shape[1:]}; check the files in data.root"
            )
        if self.orientation not in ORIENTATIONS:
            raise DataError(f"{self.name}: orientation: expected one of {ORIENTATIONS}, got {self.orientation!r}")
        for key, values in (("mean", self.mean), ("std", self.std)):
            if isinstance(values, tuple) and len(values) != self.input_shape[0]:
                channels = self.input_shape[0]
                raise ConfigError(
                    f"data.{key}: expected one number, or {channels} for {channels} channels, got {values}"
                )
        if not np.isfinite(self.mean).all():
            raise ConfigError(f"data.mean: expected a finite number, got {self.mean}")
        if not (np.isfinite(self.std) & (np.array(self.std) > 0)).all():
            raise ConfigError(f"data.std: expected a finite number above 0, got {self.std}; 1.0 divides by nothing")

    @property
    def input_shape(self) -> Shape:
        """(C, H, W) of one image."""
        return tuple(self.train.pixels.shape[1:])

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def upright_test(self) -> Images:
        """The test images as a person reads them, which is how a trained model takes them."""
        return Images(np.ascontiguousarray(upright(self.test.pixels, self.orientation)), self.test.labels)


def of_shape(shape: Shape | Callable[..., Shape | None]) -> Callable[[Constructor], Constructor]:
    """Decorates a data set's constructor: the shape of its images is known before they are loaded.

    Args:
        shape: (C, H, W), or what gives it, or None where it does not know, for the constructor's arguments.
    """

    def decorate(constructor: Constructor) -> Constructor:
        decorated: Any = constructor
        decorated.shape_of_images = shape if callable(shape) else lambda **arguments: shape
        return constructor

    return decorate


def shape_before_loading(constructor: Callable[..., Dataset], arguments: Mapping[str, Any]) -> Shape | None:
    """The (C, H, W) of a data set's images, as `of_shape` states it; None where it is only known once they are loaded.

    Arguments that the data set will refuse give None too: to say so is left to the constructor.
    """
    try:
        return getattr(constructor, "shape_of_images", lambda **_: None)(**arguments)
    except (OdysseyError, OSError, TypeError):
        return None


def upright(pixels: np.ndarray, orientation: str) -> np.ndarray:
    """Images (..., H, W) as a person reads them; applied to upright ones, as they are stored."""
    return np.swapaxes(pixels, -1, -2) if orientation == "transposed" else pixels


def listed(class_names: Iterable[str]) -> str:
    """Class names for people: ``0123``, but ``coat, shirt`` where one is longer than a letter."""
    names = list(class_names)
    return ("" if all(len(name) == 1 for name in names) else ", ").join(names)


def _check_names(what: str, names: Iterable[str]) -> None:
    known = set[str]()
    for name in names:
        if not isinstance(name, str) or not name.strip() or any(unicodedata.category(c) == "Cc" for c in name):
            raise DataError(
                f"{what}: class names: expected texts without control characters, none of them blank, got {name!r}; "
                "rename the class"
            )
        if name in known:
            raise DataError(f"{what}: class names: expected each once, got {name!r} twice; rename one of the classes")
        known.add(name)


def _check_labels(what: str, labels: np.ndarray, classes: int) -> None:
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        first = int(np.argmax(outside))
        raise DataError(
            f"{what} labels: expected 0 to {classes - 1} ({classes} classes), got {labels[first]} at index {first} "
            f"({np.count_nonzero(outside)} labels out of range); check the label file and data.split"
        )


def digest_of(train: Images, test: Images) -> str:
    """SHA-256, in hex, over the shapes (little-endian int64), pixels and labels (little-endian int64) of both parts."""
    sha = hashlib.sha256()
    for images in (train, test):
        sha.update(np.array(images.pixels.shape, "<i8").tobytes())
        sha.update(images.pixels.reshape(-1).data)
        sha.update(images.labels.astype("<i8", copy=False).data)
    return sha.hexdigest()
