"""From listed picture files to a data set: decoded once, kept in the cache, what is broken named."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from odyssey_core import lazy_numpy as np
from odyssey_core.data.cache import Reading, cached, room
from odyssey_core.data.dataset import Dataset, Images, Shape
from odyssey_core.data.decoding import Faults, decode
from odyssey_core.data.parts import Parts, check_trained
from odyssey_core.data.pictures import Mode, read
from odyssey_core.data.preparation import Preparation
from odyssey_core.errors import DataError
from odyssey_core.ranges import Range

Side = Annotated[int, Range(1, 4096)]
Size = Side | tuple[Side, Side] | None
MOVED = 1024  # images at once
NAMED = 3  # broken files in a message


@dataclass(frozen=True)
class Fit:
    """What is made of every picture.

    Args:
        size: (H, W), one number for both, or None for pictures that are of one size.
        channels: 1 or 3.
        mode: see `pictures.fitted`.
        skip_broken: whether a picture that cannot be read is left out.
    """

    size: Size
    channels: int
    mode: Mode
    skip_broken: bool

    @property
    def shape(self) -> Shape | None:
        """(C, H, W), as far as the options alone say it."""
        if self.size is None:
            return None
        return self.channels, *((self.size, self.size) if isinstance(self.size, int) else self.size)

    def found(self, paths: Iterable[str]) -> Shape:
        """(C, H, W) of the first picture that can be read.

        Raises:
            DataError: there is none, or the first cannot be read and must not be left out.
        """
        for path in paths:
            try:
                return read(path, self.channels).shape
            except DataError as error:
                if not self.skip_broken:
                    raise DataError(f"{error}; remove it, or set data.skip_broken=true to leave it out") from None
        raise DataError("data: no picture can be read")


class Listed(NamedTuple):
    """Picture files with their classes.

    Attributes:
        root: the folder that messages name files in.
        paths: of the files, as they were found.
        class_names: in the order of the labels.
        parts: what they are for.
    """

    root: Path
    paths: Sequence[str]
    class_names: tuple[str, ...]
    parts: Parts


def copy_name(name: str, root: Path, fit: Fit) -> str:
    """What the copy of a set's decoded pictures is called in the cache."""
    return f"{name}-{hashlib.sha256(json.dumps([str(root), astuple(fit)]).encode()).hexdigest()[:16]}"


def dataset_of(
    name: str,
    listed: Listed,
    fit: Fit,
    key: str,
    left_out: Sequence[str],
    begun: Reading | None = None,
) -> Dataset:
    """Decodes pictures, or reads the copy kept when they were last decoded unchanged.

    Args:
        name: of the data set.
        listed: the files.
        fit: what is made of them.
        key: changes when a file does.
        left_out: files that are none of them, for people.
        begun: the copy called `copy_name`, which is being read.

    Raises:
        DataError: pictures that cannot be read or that differ in size, a class of which none is left.
    """
    parts = [hashlib.sha256(part.tobytes()).hexdigest() for part in (listed.parts.order, listed.parts.labels)]

    def build() -> tuple[Images, Images, dict[str, Any]]:
        paths = [listed.paths[i] for i in listed.parts.order]
        pixels = room((len(paths), *(fit.shape or fit.found(paths))))
        faults = decode(paths, pixels, fit.mode if fit.size else None)
        broken = _named(listed, paths, fit, pixels.shape[2:], faults)
        kept = np.ones(len(paths), bool)
        kept[list(faults.broken)] = False
        _check_classes(listed, kept)
        train, test, validation = listed.parts.cut(_closed(pixels, kept), kept)
        return train, test, {"validation": validation, "broken": broken}

    train, test, facts, digest = cached(
        copy_name(name, listed.root, fit), [key, parts, listed.class_names], build, begun
    )
    return Dataset(
        name,
        train,
        test,
        listed.class_names,
        digest=digest,
        preparation=Preparation("resize", {"mode": fit.mode}),
        validation=facts["validation"],
        left_out=(*left_out, *facts["broken"]),
    )


def _named(listed: Listed, paths: Sequence[str], fit: Fit, size: tuple[int, int], faults: Faults) -> list[str]:
    """The pictures that are left out.

    Raises:
        DataError: they may not be, or some are of another size than the first.
    """
    broken = [f"{_within(listed.root, paths[i])}: {fault}" for i, fault in sorted(faults.broken.items())]
    if broken and not fit.skip_broken:
        more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        raise DataError(
            f"{listed.root}: {len(broken)} of {len(paths)} pictures cannot be read: {'; '.join(broken[:NAMED])}{more}; "
            "remove them, or set data.skip_broken=true to leave them out"
        )
    if faults.other_size:
        i, (height, width) = min(faults.other_size.items())
        raise DataError(
            f"{listed.root}: pictures differ in size: {_within(listed.root, paths[i])} has {height} x {width} pixels, "
            f"others {size[0]} x {size[1]}; data.size={max(size)} makes them one size"
        )
    return broken


def _within(root: Path, path: str) -> str:
    return path.removeprefix(f"{root}{os.sep}")


def _check_classes(listed: Listed, kept: np.ndarray) -> None:
    train = kept.copy()
    train[len(kept) - listed.parts.test :] = False
    check_trained(listed.parts.labels[train], listed.class_names, str(listed.root))


def _closed(pixels: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Those that are kept moved together, in place: a copy would need as much memory again."""
    where = np.flatnonzero(kept)
    if len(where) < len(kept):
        for start in range(0, len(where), MOVED):
            moved = pixels[where[start : start + MOVED]]
            pixels[start : start + len(moved)] = moved
    return pixels[: len(where)]
