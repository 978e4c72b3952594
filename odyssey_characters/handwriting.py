"""A picture that a person has, made into the images that a model knows, one for each character in it.

Source: the ways of MNIST and EMNIST, see `odyssey_characters.preparations`. We begin earlier than they did, with paper
and ink of any colour and light, and also bring strokes nearer to the width that the data set's have: its writers used
one kind of pen, and a thin line would vanish in 28 pixels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from PIL import Image
from scipy import ndimage

from odyssey_characters.ink import CONTRAST, Piece, Unclear, characters
from odyssey_characters.preparations import PREPARATIONS
from odyssey_core.data.pictures import opened
from odyssey_core.data.preparation import Box, Looked, Seen
from odyssey_core.errors import DataError

WORKING, ENLARGED = 1000, 300  # pixels of the longer side that is looked at, at most and at least
FINE = 4  # pixels of the working copy in one of the result
SOFT = 1.0  # pixels of the working copy: the sigma of the Gaussian that softens edges
EDGE = 0.3  # of a full tone, from where the box of a character is measured
LOST = 0.08  # of a picture's deviation: enlarged digits lose 0.05 in 28 pixels, photographed pages 0.1 and more
GRAIN = 10  # pieces in an image of a model's own size, above which it is a texture
Character = tuple[np.ndarray, Box]  # (H, W) uint8, and where it lies in the picture
Ink = tuple[Box, str]


@dataclass(frozen=True)
class Handwriting:
    """The preparation of characters: the size, place and stroke of each in its image.

    Args:
        box: the longer side of the ink, as a share of the image's side.
        centre: what lies in the middle of the image, the ink's centre of ``mass`` or its bounding ``box``.
        stroke: the median width of the strokes, as a share of the image's side, measured on 400 test images.
        polarity: of the images: ink near 255 on paper near 0.
    """

    box: float
    centre: Literal["mass", "box"]
    stroke: float
    polarity: Literal["light on dark"] = "light on dark"
    part: ClassVar[str] = "character"

    def __post_init__(self) -> None:
        if not (0 < self.box <= 1 and self.centre in ("mass", "box") and 0 < self.stroke < 1):
            raise DataError(f"preparation: expected box and stroke in (0, 1] and centre mass or box, got {self}")
        if self.polarity != "light on dark":
            raise DataError(f"preparation: expected polarity light on dark, got {self.polarity!r}")

    def look(self, path: Path, shape: tuple[int, int, int]) -> Looked:
        """The characters in a picture, row by row and from left to right.

        Raises:
            DataError: no image, or one that is too large to be opened safely.
            Unclear: nothing in it is clearly one character.
        """
        rgb, scale = read(path)
        found, left_out = look(rgb, self, shape[1:])
        seen = [Seen(np.repeat(image[None], shape[0], axis=0), box) for image, box in found]
        return Looked(np.asarray(rgb).astype(np.uint8), scale, seen, left_out)

    def variants(self, image: np.ndarray) -> np.ndarray:
        """An image and it slightly turned, scaled and shifted."""
        return np.stack([variants(channel) for channel in image], axis=1)


def handwriting_like(dataset: str) -> Handwriting:
    """The reader for weights files that are older than their statement of a preparation.

    Args:
        dataset: what the model was trained on; EMNIST's reader is taken where it is no data set of characters.
    """
    reader = PREPARATIONS.get(dataset, PREPARATIONS["emnist"]).reader()
    assert isinstance(reader, Handwriting)
    return reader


def read(path: Path) -> tuple[np.ndarray, float]:
    """A picture (h, w, 3) float32, 0 to 255, on paper where it is transparent; and how many pixels of the file are one.

    It is made at most ``WORKING`` pixels wide or high.

    Raises:
        DataError: no image, or one that is too large to be opened safely.
    """
    image, scale = opened(path, WORKING)
    return _on_paper(np.asarray(image.convert("RGBA"), np.float32)), scale


def _on_paper(rgba: np.ndarray) -> np.ndarray:
    """Light paper behind dark ink and dark behind light, where there is any transparency."""
    alpha = rgba[..., 3:] / 255
    if alpha.min() == 1:
        return rgba[..., :3]
    ink = (rgba[..., :3] * alpha).sum() / max(3 * float(alpha.sum()), 1e-9)
    return rgba[..., :3] * alpha + (0 if ink > 127 else 255) * (1 - alpha)


def look(rgb: np.ndarray, preparation: Handwriting, shape: tuple[int, int]) -> tuple[list[Character], list[Ink]]:
    """The characters in a picture as images of a data set, light on dark, and other ink, with why it is none.

    Args:
        rgb: (h, w, 3) float32, 0 to 255. One of the data set's own size and make is taken as it is, enlarged or not.
        preparation: the data set's.
        shape: (H, W) of its images.

    Raises:
        Unclear: nothing in it is clearly one character.
    """
    own = rgb if rgb.shape[:2] == shape else _unenlarged(rgb, shape)
    if own is not None and (image := _as_it_is(own, preparation)) is not None:
        return [(image, (0, 0, rgb.shape[1], rgb.shape[0]))], []
    enlarged = -(-ENLARGED // max(rgb.shape[:2]))
    if enlarged > 1:
        size = (enlarged * rgb.shape[1], enlarged * rgb.shape[0])
        planes = [Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC) for plane in np.moveaxis(rgb, 2, 0)]
        rgb = np.stack([np.asarray(plane).clip(0, 255) for plane in planes], axis=2)
    found, left_out = [], []
    for piece, why in characters(rgb):
        rows, columns = piece.place
        box = tuple(edge // enlarged for edge in (columns.start, rows.start, columns.stop, rows.stop))
        if why:
            left_out.append((box, why))
        else:
            found.append((prepare(piece, preparation, shape), box))
    tall = max((_longer(box) for _, box in found), default=0)
    like = [why for box, why in left_out if _longer(box) > 0.5 * tall]
    if len(found) <= 2 * len(like):  # where much is no character, the rest is not likely to be one
        more = len(like) - 1
        others = f" (and {more} more piece{'s' if more > 1 else ''} of like size)" if more else ""
        raise Unclear(f"nothing in it is clearly one character: {like[0]}{others}")
    return found, left_out


def _longer(box: tuple[int, int, int, int]) -> int:
    return max(box[2] - box[0], box[3] - box[1])


def _unenlarged(rgb: np.ndarray, shape: tuple[int, int]) -> np.ndarray | None:
    """The small image (H, W, 3) that a picture is an enlargement of; None where it shows more than that could hold."""
    (h, w), grey = rgb.shape[:2], rgb.mean(axis=2)
    if h <= shape[0] or h * shape[1] != w * shape[0]:
        return None
    small = Image.fromarray(grey).resize(shape[::-1], Image.Resampling.BOX)
    filters = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
    lost = min(float(np.std(np.asarray(small.resize((w, h), each)) - grey)) for each in filters)
    return np.repeat(np.asarray(small)[..., None], 3, axis=2) if lost <= LOST * float(grey.std()) else None


def _as_it_is(rgb: np.ndarray, preparation: Handwriting) -> np.ndarray | None:
    """An image of the data set's size, light on dark; None where its ink lies other than the data set's does.

    Raises:
        Unclear: nothing stands out, or it is a texture.
    """
    image = rgb.mean(axis=2)
    if np.ptp(image) < CONTRAST:
        raise Unclear("nothing in it stands out from the background as a character does")
    if np.median(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])) > 127:
        image = 255 - image
    ink = image > image.max() / 2
    if (pieces := ndimage.label(ink)[1]) > GRAIN:
        raise Unclear(f"it holds {pieces} pieces of ink: a texture, or noise")
    side, (rows, columns) = min(image.shape), (np.flatnonzero(ink.any(axis=axis)) for axis in (1, 0))
    longer = max(np.ptp(rows), np.ptp(columns)) + 1
    off = max(abs(edges[0] + edges[-1] + 1 - n) / 2 for edges, n in zip((rows, columns), image.shape, strict=True))
    if longer < 0.65 * preparation.box * side or off > 0.2 * side:
        return None
    return np.asarray(np.rint(image).astype(np.uint8))


def prepare(piece: Piece, preparation: Handwriting, shape: tuple[int, int]) -> np.ndarray:
    """The ink of a character as the data set has it: (H, W) uint8, upright, light on dark."""
    side = min(shape)
    width = preparation.stroke * piece.longer / preparation.box
    field = piece.tone if 0.7 * width <= piece.stroke <= 1.4 * width else _stroke(piece, width)
    inside = field > EDGE
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    field = field[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = FINE * preparation.box * side / max(field.shape)
    size = [max(1, round(scale * n)) for n in field.shape]
    ink = np.asarray(Image.fromarray(field).resize(size[::-1], Image.Resampling.BICUBIC)).clip(0, 1)
    middle = ndimage.center_of_mass(ink) if preparation.centre == "mass" else [(n - 1) / 2 for n in size]
    frame = np.zeros([3 * FINE * n for n in shape], np.float32)  # wide enough for ink that lies off the middle
    top, left = (round((n - 1) / 2 - at) for n, at in zip(frame.shape, middle, strict=True))
    frame[top : top + size[0], left : left + size[1]] = ink
    soft = ndimage.gaussian_filter(frame, SOFT)
    small = soft.reshape(3 * shape[0], FINE, 3 * shape[1], FINE).mean(axis=(1, 3))
    small = small[shape[0] : 2 * shape[0], shape[1] : 2 * shape[1]]
    return np.asarray(np.rint(small * (255 / small.max())).astype(np.uint8))


def _stroke(piece: Piece, width: float) -> np.ndarray:
    """Ink made thicker or thinner towards a width in pixels: (h, w) float32 in [0, 1]."""
    ink = np.pad(piece.ink, int(np.ceil(width)) + 1)
    inside, outside = ndimage.distance_transform_edt(ink), ndimage.distance_transform_edt(~ink)
    found = piece.stroke - 1  # a line of one pixel has distance 1, not 1 / 4
    change = float(np.clip((width - found) / 2, -0.25 * found, width))
    # The edge lies between two pixels, half a pixel from the middle of each.
    return np.asarray(np.clip(np.where(ink, inside - 0.5, 0.5 - outside) + change + 0.5, 0, 1).astype(np.float32))


def variants(image: np.ndarray) -> np.ndarray:
    """An image (H, W) uint8 and it slightly turned, scaled and shifted: (n, H, W) uint8.

    What is a character stays one, and the mean of the answers is better; what is none rarely keeps its answer.

    Source: Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", 2012,
    section 4.1, averages over shifted and mirrored images in the same way.
    """
    middle = (np.array(image.shape) - 1) / 2
    made = [image]
    for angle, scale, shift in VARIANTS:
        cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
        matrix = np.array([[cos, -sin], [sin, cos]])
        offset = middle - matrix @ (middle + np.array(shift))
        made.append(
            np.rint(ndimage.affine_transform(image.astype(np.float32), matrix, offset, order=1).clip(0, 255)).astype(
                np.uint8
            )
        )
    return np.stack(made)


# Radians, factor, pixels down and right.
VARIANTS = (
    *((angle, 1.0, (0, 0)) for angle in (-0.12, 0.12)),
    *((0.0, scale, (0, 0)) for scale in (0.9, 1.1)),
    *((0.0, 1.0, shift) for shift in ((-1, 0), (1, 0), (0, -1), (0, 1))),
)
