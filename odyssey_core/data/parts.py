"""What sets that people bring have in common: parts, classes, names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

from odyssey_core import lazy_numpy as np
from odyssey_core.data.dataset import Images
from odyssey_core.data.split import stratified_split
from odyssey_core.errors import ConfigError, DataError
from odyssey_core.ranges import Range

TestShare = Annotated[float, Range(0, 1, above=True, below=True)]
TRAIN, VALIDATION, TEST = "train", "validation", "test"
NAMES = {"train": TRAIN, "val": VALIDATION, "valid": VALIDATION, "validation": VALIDATION, "test": TEST}


class Parts(NamedTuple):
    """Which image lies where.

    Attributes:
        order: (N,) int64 indices of the images as they came: those of training, then validation, then test.
        labels: (N,) int64, in that order.
        validation, test: how many of them these parts have.
    """

    order: np.ndarray
    labels: np.ndarray
    validation: int
    test: int

    def cut(self, pixels: np.ndarray, kept: np.ndarray | None = None) -> tuple[Images, Images, int]:
        """Training images, test images, and how many of the first are for validation.

        Args:
            pixels: in the order of ``order``, those that are not ``kept`` left out.
            kept: (N,) bool; None keeps all.

        Raises:
            DataError: a part is empty.
        """
        kept = np.ones(len(self.order), bool) if kept is None else kept
        test = int(np.count_nonzero(kept[len(kept) - self.test :]))
        validation = int(np.count_nonzero(kept[len(kept) - self.test - self.validation : len(kept) - self.test]))
        labels = self.labels[kept]
        train = slice(0, len(labels) - test)
        return (
            Images(pixels[train], labels[train]),
            Images(pixels[train.stop :], labels[train.stop :]),
            validation,
        )


def in_parts(
    labels: np.ndarray,
    names: Sequence[str],
    given: Sequence[str] | None,
    test_share: float,
    split_seed: int,
    where: str,
) -> Parts:
    """Sorts images into parts.

    Args:
        labels: (N,) int64.
        names: of the classes.
        given: of each image its part, a value of ``NAMES``; None where the source has no parts. Where there is no test
            part, that of validation is it; where there is neither, a share of every class is set aside.
        test_share: how large that share is.
        split_seed: decides which images those are.
        where: the source, for messages.

    Raises:
        DataError: no image to train on, none of a class, or too few to set some aside.
    """
    part = np.array([TRAIN] * len(labels) if given is None else given)
    if TEST not in part:
        part[part == VALIDATION] = TEST
    if TRAIN not in part:
        raise DataError(f"{where}: expected images of training, got none; the parts are train, val and test")
    if TEST not in part:
        size = max(round(test_share * len(labels)), int(np.count_nonzero(np.bincount(labels))))
        try:
            part[stratified_split(labels, size, split_seed)[1]] = TEST
        except ConfigError:
            raise DataError(
                f"{where}: {len(labels)} images of {len(set(labels.tolist()))} classes are too few to set "
                f"{size} of them aside for testing; add images, or change data.test_share"
            ) from None
    check_trained(labels[part != TEST], names, where)
    order = np.concatenate([np.flatnonzero(part == name) for name in (TRAIN, VALIDATION, TEST)])
    return Parts(order, labels[order], int(np.count_nonzero(part == VALIDATION)), int(np.count_nonzero(part == TEST)))


def check_trained(labels: np.ndarray, names: Sequence[str], where: str) -> None:
    """Raises DataError where some class has none of the images that are not for testing, whose labels are given."""
    counts = np.bincount(labels, minlength=len(names))
    if not counts.all():
        raise DataError(
            f"{where}: no image of class {names[int(np.argmin(counts))]!r} is left to train on; add some, or remove "
            "the class"
        )


def class_numbers(names: Sequence[str], where: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The classes in their order, and (N,) int64 the number of each image's.

    Names that are all whole numbers are in the order of these, others in that of the alphabet.

    Raises:
        DataError: one class alone.
    """
    found, numbers = np.unique(np.asarray(names, str), return_inverse=True)
    classes = [str(name) for name in found]
    if len(classes) < 2:
        raise DataError(f"{where}: expected at least two classes, got only {classes[0]!r}; nothing can be told apart")
    if all(name.removeprefix("-").isdecimal() for name in classes):
        by_number = np.array(sorted(range(len(classes)), key=lambda i: int(classes[i])))
        classes, numbers = [classes[i] for i in by_number], np.argsort(by_number)[numbers]
    return tuple(classes), numbers.reshape(-1).astype(np.int64)


def name_of(kind: str, path: Path) -> str:
    """The name of a set that lies in a file or folder: of letters, digits and a few signs, as files may be called."""
    return kind + "-" + "".join(c if c.isalnum() or c in "-_." else "_" for c in path.stem or "root")
