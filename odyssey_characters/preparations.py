"""How the data sets of characters make their images out of ink."""

from odyssey_core.data.preparation import DIGITS, Preparation


def _handwriting(box: float, centre: str, stroke: float) -> Preparation:
    """See `odyssey_characters.handwriting.Handwriting`."""
    return Preparation("handwriting", {"polarity": "light on dark", "box": box, "centre": centre, "stroke": stroke})


# Cohen, Afshar, Tapson, van Schaik 2017, section II: a border of 2 of 28 pixels around the bounding box.
# Those of digits fill their 8 pixels; glyphs are drawn 80 of 112 cells high, more or less.
PREPARATIONS = {
    "mnist": DIGITS,
    "emnist": _handwriting(24 / 28, "box", 3.3 / 28),
    "digits": _handwriting(1.0, "box", 6.4 / 28),
    "glyphs": _handwriting(20 / 28, "box", 2.7 / 28),
}
