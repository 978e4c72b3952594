"""How a data set makes its images out of pictures: what a person's own picture must go through to look like them.

A model carries this in its weights file, so that whoever asks it about a photograph shows it what it has learned from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from odyssey_core import lazy_numpy as np
from odyssey_core.errors import DataError
from odyssey_core.registry import Registry, unknown

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Preparation:
    """A kind of preparation and its options, as plain data: whoever only trains needs nothing that reads pictures.

    Args:
        kind: a name in ``READERS``, such as ``"resize"``.
        options: what its reader is made with: numbers, texts, lists. ``polarity``, where it is among them, tells of
            images that have one polarity whatever the picture's: ``"light on dark"``.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            json.dumps(dict(self.options), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"preparation {self.kind!r}: expected numbers, texts and lists as options, which a weights file can "
                f"hold: {error}"
            ) from None

    def reader(self) -> Reader:
        """What prepares pictures so.

        Raises:
            OdysseyError: a kind that nothing here defines, or options that are not its own.
        """
        if self.kind not in READERS:
            raise DataError(
                f"{unknown('preparation', self.kind, READERS)}; a plug-in defines others: name it with --plugin FILE.py"
            )
        try:
            reader: Reader = READERS[self.kind](**self.options)
            return reader
        except TypeError as error:
            raise DataError(f"preparation {self.kind!r}: its options do not fit: {error}") from None

    @property
    def light_on_dark(self) -> bool:
        """Whether images are negatives, ink near 255 on paper near 0."""
        return self.options.get("polarity") == "light on dark"

    def images(self, channels: int) -> str:
        """What images a model takes, for people: ``"upright, light on dark"``."""
        colour = "red, green and blue" if channels == 3 else ""
        return ", ".join(filter(None, ("upright", colour, self.options.get("polarity"))))


PHOTOGRAPHS = Preparation("resize")  # of every data set that states no other
# LeCun, Bottou, Bengio, Haffner 1998, section III-A: a 20-pixel box, the centre of mass in the middle of 28 pixels.
DIGITS = Preparation("handwriting", {"polarity": "light on dark", "box": 20 / 28, "centre": "mass", "stroke": 2.6 / 28})


@dataclass(frozen=True)
class Seen:
    """One image as a model is shown it.

    Args:
        image: (C, H, W) uint8, upright.
        box: (left, top, right, bottom), where it lies in the picture, in pixels of `Looked.rgb`.
    """

    image: np.ndarray
    box: Box


@dataclass(frozen=True)
class Looked:
    """What there is to see in a picture.

    Args:
        rgb: (h, w, 3) uint8: the picture, perhaps made smaller.
        scale: how many pixels of the file are one of ``rgb``.
        found: what a model can be shown of it; at least one.
        left_out: boxes of what it cannot be shown, and why.
    """

    rgb: np.ndarray
    scale: float
    found: list[Seen]
    left_out: list[tuple[Box, str]]


class Reader(Protocol):
    """A kind of preparation with its options.

    Attributes:
        part: what there may be several of in a picture, ``"character"``; None where the picture is the image.
    """

    part: ClassVar[str | None]

    def look(self, path: Path, shape: tuple[int, int, int]) -> Looked:
        """What a picture shows.

        Args:
            path: of the file.
            shape: (C, H, W) of the model's images.

        Raises:
            DataError: a file that is no image, or in which nothing is clear.
        """

    def variants(self, image: np.ndarray) -> np.ndarray:
        """An image (C, H, W) uint8, and what is as good a view of the same thing: (n, C, H, W) uint8.

        A model's answer is the mean of its answers to them.
        """


READERS: Registry = Registry(
    "preparation",
    {"resize": "odyssey_core.data.pictures:Resize"},
    "preparations",
)


def written(preparation: Preparation) -> dict[str, str]:
    """The lines of a weights file's metadata that say what images the model takes."""
    about = {"preparation": json.dumps({"kind": preparation.kind, **preparation.options})}
    return about | ({"polarity": polarity} if (polarity := preparation.options.get("polarity")) else {})


def of_metadata(about: Mapping[str, str]) -> Preparation:
    """What a weights file says; files written before kinds were recorded are all of handwriting.

    Raises:
        DataError: metadata that are no preparation.
    """
    if "preparation" not in about:
        return Preparation("handwriting_like", {"dataset": about.get("dataset", "").partition("-")[0]})
    try:
        options = dict(json.loads(about["preparation"]))
        kind = options.pop("kind", "handwriting" if "box" in options else None)
        if not isinstance(kind, str):
            raise ValueError(f"expected a kind, got {kind!r}")
        return Preparation(kind, options)
    except (ValueError, TypeError) as error:
        raise DataError(f"weights file: its metadata do not say how images are prepared ({error})") from None
