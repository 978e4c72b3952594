"""How a data set makes its images out of ink: what a picture of one character must go through to look like them.

A model carries this in its weights file, so that whoever asks it about a photograph shows it what it has learned from.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from odyssey_core.errors import DataError

POLARITY = "light on dark"  # of every image that a model takes: ink near 255, paper 0


@dataclass(frozen=True)
class Preparation:
    """The size, place and stroke of a character in its image, light on dark.

    Args:
        box: the longer side of the ink, as a share of the image's side.
        centre: what lies in the middle of the image, the ink's centre of ``mass`` or its bounding ``box``.
        stroke: the median width of the strokes, as a share of the image's side, measured on 400 test images.
    """

    box: float
    centre: Literal["mass", "box"]
    stroke: float

    def __post_init__(self):
        if not (0 < self.box <= 1 and self.centre in ("mass", "box") and 0 < self.stroke < 1):
            raise DataError(f"preparation: expected box and stroke in (0, 1] and centre mass or box, got {self}")


# LeCun, Bottou, Bengio, Haffner 1998, section III-A: a 20-pixel box, the centre of mass in the middle of 28 pixels.
# Cohen, Afshar, Tapson, van Schaik 2017, section II: a border of 2 of 28 pixels around the bounding box.
# Those of digits fill their 8 pixels; glyphs are drawn 80 of 112 cells high, more or less.
PREPARATIONS = {
    "mnist": Preparation(20 / 28, "mass", 2.6 / 28),
    "emnist": Preparation(24 / 28, "box", 3.3 / 28),
    "digits": Preparation(1.0, "box", 6.4 / 28),
    "glyphs": Preparation(20 / 28, "box", 2.7 / 28),
}


def written(preparation: Preparation) -> dict[str, str]:
    """The lines of a weights file's metadata that say what images the model takes."""
    return {"polarity": POLARITY, "preparation": json.dumps(asdict(preparation))}


def of_metadata(about: Mapping[str, str]) -> Preparation:
    """What a weights file says; a file from before it did so is read by the name of its data set, else as EMNIST's.

    Raises:
        DataError: metadata that are no preparation.
    """
    if "preparation" not in about:
        return PREPARATIONS.get(about.get("dataset", "").partition("-")[0], PREPARATIONS["emnist"])
    try:
        return Preparation(**json.loads(about["preparation"]))
    except (ValueError, TypeError) as error:
        raise DataError(f"weights file: its metadata do not say how images are prepared ({error})") from None
