"""USPS: handwritten digits from envelopes, 16×16, grey, from LIBSVM's text files."""

from __future__ import annotations

import bz2
from collections.abc import Iterator, Sequence
from pathlib import Path

from odyssey_core import lazy_numpy as np
from odyssey_core.data.dataset import Dataset, of_shape
from odyssey_core.data.files import Part, Source, published
from odyssey_core.data.options import pixel_options
from odyssey_core.data.preparation import Preparation
from odyssey_core.errors import DataError

USPS = Source(  # torchvision publishes MD5 alone
    {"usps.bz2": "ec16c51db3855ca6c91edd34d0e9b197", "usps.t.bz2": "8ea070ee2aca1ac39742fdd1ef5ed118"},
    ("https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/",),
)
SIDE = 16


@pixel_options
@of_shape((1, SIDE, SIDE))
def usps(root: str | None = None) -> Dataset:
    """USPS: 7,291 + 2,007 digits, pixels (N, 1, 16, 16) uint8, upright, light on dark, 10 classes.

    The files call the digit d class d + 1; their pixels v, from -1 to 1, become 255 (v + 1) / 2, rounded.

    Args:
        root: a folder with usps.bz2 and usps.t.bz2; downloaded once where it is None.

    Raises:
        DataError: a file that is missing, damaged or out of range, or that cannot be downloaded.

    Source: Hull, "A Database for Handwritten Text Recognition Research", 1994.
    """
    licence = "no licence is stated; cite Hull, 1994"
    preparation = Preparation("resize", {"mode": "resize", "polarity": "light on dark"})
    names = tuple("0123456789")
    return published("usps", root, USPS, names, licence, preparation=preparation, first_label=1, read=_parts)


def _parts(paths: Sequence[Path]) -> Iterator[Part]:
    for path in paths:
        pixels, labels = [], []
        try:
            with bz2.open(path, "rt", encoding="ascii") as file:
                for line in file:
                    label, *entries = line.split()
                    image = np.zeros(SIDE * SIDE)
                    for entry in entries:
                        place, _, value = entry.partition(":")
                        image[int(place) - 1] = float(value)
                    pixels.append(_grey(image))
                    labels.append(int(label))
        except (OSError, EOFError, ValueError, IndexError) as error:
            raise DataError(
                f"{path}: expected lines of a class and {SIDE * SIDE} pixels as LIBSVM has them, got {error} in line "
                f"{len(labels) + 1}"
            ) from None
        if not labels:
            raise DataError(f"{path}: expected images, got an empty file")
        yield Part(np.stack(pixels)[:, None], np.array(labels), path)


def _grey(image: np.ndarray) -> np.ndarray:
    """(16, 16) uint8 of values from -1 to 1."""
    if not (np.abs(image) <= 1).all():
        raise ValueError(f"a pixel of {image[np.abs(image) > 1][0]}")
    return np.rint((image + 1) * 127.5).astype(np.uint8).reshape(SIDE, SIDE)
