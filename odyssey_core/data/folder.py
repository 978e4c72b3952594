"""Pictures in a folder, with one folder for each class."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from odyssey_core.data.cache import Reading
from odyssey_core.data.dataset import Dataset, Shape, of_shape
from odyssey_core.data.options import pixel_options
from odyssey_core.data.parts import NAMES, TestShare, class_numbers, in_parts, name_of
from odyssey_core.data.picture_set import Fit, Listed, Size, copy_name, dataset_of
from odyssey_core.data.pictures import Mode
from odyssey_core.errors import DataError
from odyssey_core.places import expanded

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
EXPECTED = "a folder for each class, or train and test folders with these in them"


def _shape(root: str, size: Size = None, channels: int = 3, mode: Mode = "center_crop", **rest: object) -> Shape | None:
    fit = Fit(size, channels, mode, skip_broken=True)
    return fit.shape or fit.found(path for path, *_ in _pictures(_root(root), []))


@pixel_options
@of_shape(_shape)
def folder(
    root: str,
    size: Size = None,
    channels: Literal[1, 3] = 3,
    mode: Mode = "center_crop",
    test_share: TestShare = 0.2,
    split_seed: int = 0,
    skip_broken: bool = False,
) -> Dataset:
    """Pictures in class folders: PNG, JPEG, WebP, BMP and TIFF, each upright as its EXIF data say.

    ``root`` has a folder for each class, in which pictures may lie in further folders; or it has folders ``train`` and
    ``test``, perhaps ``val``, and these have the class folders. Classes are in the order of their names. Decoded
    pictures are kept in the cache until a file is added, removed or changed.

    Args:
        root: the folder.
        size: (H, W) of the images, or one number for both; None takes pictures that are all of one size.
        channels: 3, red, green and blue; 1, grey. What is transparent lies on white.
        mode: what is done with pictures of another size: ``resize`` changes their proportions, ``center_crop`` cuts
            off what lies beyond them, ``pad`` fills them up with black.
        test_share: of every class, where there is neither a test nor a val folder.
        split_seed: decides which pictures those are; it is not the run's seed, so that all runs have one test set.
        skip_broken: leaves out pictures that cannot be read, and says so, where otherwise the first ends the run.

    Raises:
        DataError: no such folder, a class without pictures or only one class, pictures that cannot be read or that
            differ in size.
    """
    place = _root(root)
    left_out: list[str] = []
    name, fit = name_of("folder", place), Fit(size, channels, mode, skip_broken)
    begun = Reading(copy_name(name, place, fit))
    paths, classes, parts, stamps = zip(*_pictures(place, left_out), strict=True)
    class_names, labels = class_numbers(classes, f"data.root: {place}")
    given = None if parts[0] is None else parts
    sorted_in = in_parts(labels, class_names, given, test_share, split_seed, f"data.root: {place}")
    listed = Listed(place, paths, class_names, sorted_in)
    key = hashlib.sha256("\n".join(stamps).encode(errors="surrogateescape")).hexdigest()
    return dataset_of(name, listed, fit, key, left_out, begun)


def _root(root: str) -> Path:
    place = expanded(root).absolute()
    if not place.is_dir():
        what = "is a file" if place.exists() else "does not exist"
        raise DataError(f"data.root: expected a folder with {EXPECTED}, got {place}, which {what}")
    return place


def _pictures(place: Path, left_out: list[str]) -> Iterator[tuple[str, str, str | None, str]]:
    """Every picture: its path, its class, its part or None, and a line that changes when the file does.

    Raises:
        DataError: no class folder, or one without pictures.
    """
    folders = _folders(place, place, left_out)
    split = [name for name in folders if name in NAMES and _folders(place / name, place, [])]
    if "train" not in split or len(split) < 2:
        yield from _of_classes(place, place, folders, None, left_out)
        return
    left_out += [f"{name}: is not one of {', '.join(NAMES)}" for name in folders if name not in split]
    known = _folders(place / "train", place, [])
    for name in split:
        classes = _folders(place / name, place, left_out)
        if strangers := [each for each in classes if each not in known]:
            raise DataError(f"data.root: {place / name / strangers[0]}: train has no class folder of this name")
        yield from _of_classes(place, place / name, classes, NAMES[name], left_out)


def _of_classes(
    root: Path, place: Path, classes: list[str], part: str | None, left_out: list[str]
) -> Iterator[tuple[str, str, str | None, str]]:
    if not classes:
        loose = sum(path.suffix.lower() in SUFFIXES for path in place.iterdir())
        got = f"{loose} picture{'s' if loose > 1 else ''} and no folder" if loose else "no folder"
        raise DataError(f"data.root: expected {EXPECTED}, got {got} in {place}")
    below = len(str(root)) + 1
    for name in classes:
        empty = True
        for entry in _files(place / name):
            path, shown = entry.path, entry.path[below:]
            if not entry.is_file():
                left_out.append(f"{shown}: is no file, or a link to none")
            elif entry.name.startswith(".") or not entry.name.lower().endswith(SUFFIXES):
                left_out.append(f"{shown}: its name does not end in {', '.join(SUFFIXES)}")
            else:
                empty, stat = False, entry.stat()
                yield path, name, part, f"{shown}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}"
        if empty:
            raise DataError(
                f"data.root: {place / name}: expected pictures ({', '.join(SUFFIXES)}), got none; every folder is a "
                "class: add pictures or move it elsewhere"
            )


def _folders(place: Path, root: Path, left_out: list[str]) -> list[str]:
    """Names of the folders in a folder, in their order; hidden ones and files are left out."""
    found = []
    try:
        for entry in sorted(os.scandir(place), key=lambda entry: entry.name):
            if entry.is_dir() and not entry.name.startswith("."):
                found.append(entry.name)
            else:
                left_out.append(f"{Path(entry.path).relative_to(root)}: lies in no class folder")
    except OSError as error:
        raise DataError(f"data.root: {place}: cannot be read ({error.strerror or error})") from error
    return found


def _files(place: Path | str) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder but folders, in the order of names. No `Path` is made of it: that takes most time."""
    try:
        for entry in sorted(os.scandir(place), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            else:
                yield entry
    except OSError as error:
        raise DataError(f"data.root: {place}: cannot be read ({error.strerror or error})") from error
