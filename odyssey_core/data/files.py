"""Datasets kept as four IDX files: train images, train labels, test images, test labels."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from odyssey_core.data.cache import cached
from odyssey_core.data.dataset import Images
from odyssey_core.data.idx import read_idx
from odyssey_core.errors import DataError
from odyssey_core.places import expanded

BELOW = ("raw", "MNIST/raw", "EMNIST/raw", "EMNIST/raw/gzip", "gzip", "mnist", "emnist")  # torchvision's and NIST's own


def present(folder: Path, names: Sequence[str]) -> list[Path]:
    """Those of the files that the folder has, each as published (``.gz``) or unpacked."""
    candidates = ((folder / name, folder / name.removesuffix(".gz")) for name in names)
    return [path for pair in candidates for path in pair[: 1 if pair[0].is_file() else 2] if path.is_file()]


def files_in(root: str, names: Sequence[str]) -> list[Path]:
    """The files of a folder the user named.

    Args:
        root: the folder; ``~`` is expanded.
        names: the published names, ending in ``.gz``.

    Raises:
        DataError: no such folder, or a file that is not in it, packed or unpacked.
    """
    folder = expanded(root).absolute()
    if not folder.is_dir():
        raise DataError(
            f"data.root: expected a folder with {names[0]} and its like, got {folder}, which "
            f"{'is a file' if folder.exists() else 'does not exist'}; correct data.root, or leave it out to download"
        )
    for name in names:
        if not present(folder, [name]):
            raise DataError(
                f"data.root: expected {folder / name} (or without .gz), which does not exist; "
                f"{_elsewhere(folder, name) or 'add the file, correct data.root, or leave it out to download'}"
            )
    return present(folder, names)


def _elsewhere(folder: Path, name: str) -> str:
    """What to do about a file that lies in a folder below, as other programs keep it, or has a dot in its name."""
    bare = name.removesuffix(".gz")
    for place in (folder, *(folder / below for below in BELOW)):
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if path.name.removesuffix(".gz").replace(".", "-") == bare:
                if path.name.removesuffix(".gz") != bare:
                    return f"{path} looks like it: rename it and its like, with - for the dot before idx"
                return f"it lies in a folder below: data.root={place}"
    return ""


def load_files(
    name: str, paths: Sequence[Path], official: Mapping[str, str], class_names: tuple[str, ...], first_label: int = 0
) -> dict:
    """Reads four IDX files, or the uncompressed copy kept since they were last read unchanged.

    Args:
        name: the dataset's name.
        paths: train images, train labels, test images, test labels.
        official: file name to the SHA-256 of the published file.
        class_names: one a class.
        first_label: the label in the files of class 0.

    Returns:
        The arguments of ``Dataset`` that come from the files.

    Raises:
        DataError: a file that is missing or damaged, a label out of range, images and labels that differ in number.
    """
    key = [str([first_label, len(class_names)]), *(_identity(path) for path in paths)]
    copy = f"{name}-{hashlib.sha256(str(paths[0].parent).encode()).hexdigest()[:16]}"

    def build():
        shas = {}
        train = _images(paths[0], paths[1], len(class_names), first_label, shas)
        test = _images(paths[2], paths[3], len(class_names), first_label, shas)
        return train, test, shas

    train, test, shas, digest = cached(copy, key, build)
    return {
        "name": name,
        "train": train,
        "test": test,
        "class_names": class_names,
        "digest": digest,
        "official": all(official.get(file) == sha for file, sha in shas.items()),
    }


def _identity(path: Path) -> list:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check data.root") from error
    return [str(path), stat.st_size, stat.st_mtime_ns]


def _images(image_path: Path, label_path: Path, classes: int, first_label: int, shas: dict) -> Images:
    pixels, shas[image_path.name] = read_idx(image_path, rank=3)
    raw, shas[label_path.name] = read_idx(label_path, rank=1)
    if len(pixels) != len(raw):
        raise DataError(
            f"{label_path}: expected {len(pixels)} labels, one for each image of {image_path.name}, got {len(raw)}; "
            "the two files belong to different sets"
        )
    labels = raw.astype(np.int64) - first_label
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(
            f"{label_path}: expected labels {first_label} to {first_label + classes - 1} ({classes} classes), got "
            f"{raw[wrong[0]]} at index {wrong[0]} ({len(wrong)} out of range); is it the label file of another split?"
        )
    return Images(pixels[:, None], labels)
