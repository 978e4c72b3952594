"""Published data sets: where their files are, and what is read from them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from odyssey_core import lazy_numpy as np
from odyssey_core.data.archives import recorded, unpack
from odyssey_core.data.cache import cache_folder, cached
from odyssey_core.data.dataset import Dataset, Images
from odyssey_core.data.download import checksum_of, fetch
from odyssey_core.data.idx import read_idx
from odyssey_core.data.preparation import PHOTOGRAPHS, Preparation
from odyssey_core.errors import DataError
from odyssey_core.places import expanded

# Torchvision's, NIST's and the archives' own.
BELOW = (
    "raw", "MNIST/raw", "EMNIST/raw", "EMNIST/raw/gzip", "gzip", "mnist", "emnist", "FashionMNIST/raw", "KMNIST/raw",
    "QMNIST/raw", "fashion-mnist", "cifar-10-batches-bin", "cifar-100-binary",
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Where the files of a published set come from.

    Args:
        official: file name to checksum: SHA-256, or MD5 where that is what is published; "" where none is known.
        mirrors: addresses that a file's name is put behind.
        archive: where the files come in one: its addresses, its SHA-256, and the folder in it.
        digest: of the images and labels in the published files, which tells them also where they are unpacked.
    """

    official: Mapping[str, str]
    mirrors: Sequence[str] = ()
    archive: tuple[Sequence[str], str, str] | None = None
    digest: str = ""


class Part(NamedTuple):
    """The training or the test images as files have them.

    Attributes:
        pixels: (N, C, H, W) uint8, C-contiguous.
        labels: (N,) integers.
        of: the file that the labels are from, for messages.
    """

    pixels: np.ndarray
    labels: np.ndarray
    of: Path


def located(name: str, root: str | None, source: Source) -> tuple[list[Path], Mapping[str, str]]:
    """The files of a published set, and the checksums that they have if they are the published ones.

    Args:
        name: of the data set, and of its folder in the cache.
        root: the folder the user named; None downloads what the cache lacks.
        source: the set's.

    Raises:
        DataError: a file that is missing or cannot be downloaded.
    """
    names = list(source.official)
    if root is not None:
        return files_in(root, names), source.official
    folder = cache_folder() / name
    if source.archive and len(present(folder, names)) < len(names):
        urls, sha256, inside = source.archive
        archive = fetch(urls, folder / urls[0].rpartition("/")[2], sha256, instead=f"{names[0]} and its like")
        unpack(archive, {f"{inside}/{each}": each for each in names}, folder)
    for each, checksum in source.official.items():
        if not present(folder, [each]):
            if not source.mirrors:
                raise DataError(
                    f"data.root: {name} is not downloaded, since no checksum of its files is known here; put {each} "
                    f"and its like in a folder and set data.root to that"
                )
            fetch([mirror + each for mirror in source.mirrors], folder / each, checksum)
    return present(folder, names), {**recorded(folder), **{k: v for k, v in source.official.items() if v}}


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
            packed = " (or without .gz)" if name.endswith(".gz") else ""
            raise DataError(
                f"data.root: expected {folder / name}{packed}, which does not exist; "
                f"{_elsewhere(folder, name, names) or 'add the file, correct data.root, or leave it out to download'}"
            )
    return present(folder, names)


def _elsewhere(folder: Path, name: str, names: Sequence[str]) -> str:
    """What to do about a file that lies in a folder below, as other programs keep it, or is of another version."""
    if name.endswith(".bin"):
        if (folder / name.removesuffix(".bin")).is_file():
            return (
                f"{name.removesuffix('.bin')} is of the version for Python, a pickle, which is never read: get the "
                "binary version, or leave data.root out to download it"
            )
        others = sorted(path.name for path in folder.glob("*.bin"))
        if others and not present(folder, names):
            return f"the folder has {', '.join(others)}; is it another data set?"
    bare = name.removesuffix(".gz")
    for place in (folder, *(folder / below for below in BELOW)):
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if path.name.removesuffix(".gz").replace(".", "-") == bare:
                if path.name.removesuffix(".gz") != bare:
                    return f"{path} looks like it: rename it and its like, with - for the dot before idx"
                return f"it lies in a folder below: data.root={place}"
    return ""


def idx_parts(paths: Sequence[Path]) -> Iterator[Part]:
    """Reads four IDX files: train images, train labels, test images, test labels."""
    for image_path, label_path in (paths[:2], paths[2:]):
        pixels, labels = read_idx(image_path, rank=3), read_idx(label_path, rank=1)
        if len(pixels) != len(labels):
            raise DataError(
                f"{label_path}: expected {len(pixels)} labels, one for each image of {image_path.name}, "
                f"got {len(labels)}; the two files belong to different sets"
            )
        yield Part(pixels[:, None], labels, label_path)


def load_files(
    name: str,
    paths: Sequence[Path],
    official: Mapping[str, str],
    class_names: tuple[str, ...],
    first_label: int = 0,
    read: Callable[[Sequence[Path]], Iterable[Part]] = idx_parts,
) -> dict[str, Any]:
    """Reads the files of a set, or the uncompressed copy kept since they were last read unchanged.

    Args:
        name: the dataset's name.
        paths: of the files.
        official: file name to the checksum of the published file.
        class_names: one a class.
        first_label: the label in the files of class 0.
        read: gives the training images, then the test images.

    Returns:
        The arguments of ``Dataset`` that come from the files.

    Raises:
        DataError: a file that is missing or damaged, a label out of range, images and labels that differ in number.
    """
    key = [str([first_label, len(class_names)]), *(identity(path) for path in paths)]
    copy = f"{name}-{hashlib.sha256(str(paths[0].parent).encode()).hexdigest()[:16]}"

    def build() -> Any:
        train, test = (_images(part, len(class_names), first_label) for part in read(paths))
        return train, test, {path.name: checksum_of(path, official.get(path.name, "")) for path in paths}

    train, test, shas, digest = cached(copy, key, build)
    return {
        "name": name,
        "train": train,
        "test": test,
        "class_names": class_names,
        "digest": digest,
        "official": all(official.get(file) == sha for file, sha in shas.items()),
    }


def published(
    name: str,
    root: str | None,
    source: Source,
    class_names: tuple[str, ...],
    licence: str = "",
    *,
    preparation: Preparation = PHOTOGRAPHS,
    first_label: int = 0,
    read: Callable[[Sequence[Path]], Iterable[Part]] = idx_parts,
) -> Dataset:
    """A published set of upright images.

    Args:
        name: of the data set, and of its folder in the cache.
        root: a folder with its files; None downloads them once.
        source: where they come from.
        class_names: one a class.
        licence: see `Dataset`.
        preparation: see `Dataset`.
        first_label: the label in the files of class 0.
        read: see `load_files`.

    Raises:
        DataError: as `located` and `load_files`.
    """
    paths, official = located(name.partition("-")[0], root, source)
    loaded = load_files(name, paths, official, class_names, first_label, read)
    loaded["official"] |= loaded["digest"] == source.digest
    return Dataset(**loaded, preparation=preparation, licence=licence)


def identity(path: Path) -> list[Any]:
    """What changes when a file does.

    Raises:
        DataError: there is no such file.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check data.root") from error
    return [str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _images(part: Part, classes: int, first_label: int) -> Images:
    labels = part.labels.astype(np.int64) - first_label
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(
            f"{part.of}: expected labels {first_label} to {first_label + classes - 1} ({classes} classes), got "
            f"{part.labels[wrong[0]]} at index {wrong[0]} ({len(wrong)} out of range); is it the label file of another "
            "split?"
        )
    return Images(part.pixels, labels)
