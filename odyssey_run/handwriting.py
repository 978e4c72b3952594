"""An image that a person has, a photo or a drawing of one character, made into what EMNIST's images are.

Source: Cohen, Afshar, Tapson, van Schaik, "EMNIST: an extension of MNIST to handwritten letters", 2017, section II:
binary ink, softened by a Gaussian, cut out, centred in a square with a border of 2 of 28 pixels, made small by bicubic
interpolation, stretched to [0, 255]. We begin earlier, with paper and ink of any colour, and also bring strokes nearer
to the width that EMNIST's have: its writers used one kind of pen, and a thin line would vanish in 28 pixels.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage

from odyssey_core.errors import DataError

MOST_PIXELS = 64_000_000  # of a file: 8000 by 8000
WORKING = 1000  # pixels of the longer side that is looked at
CONTRAST = 24  # of 255, between ink and paper
SPECK = 0.02  # of the largest piece of ink
FINE = 4  # pixels of the working copy in one of the result
BORDER = 2 / 28
STROKE = 3.9 / 28  # median width in EMNIST's test images, of a side
SOFT = 1.0  # pixels of the working copy: the Gaussian's sigma


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Args:
        path: of the file.
        seen: (H, W) uint8 upright: what the net was given.
        answers: (class name, probability), the likeliest first.
    """

    path: Path
    seen: np.ndarray
    answers: list[tuple[str, float]]


def read(path: Path) -> np.ndarray:
    """(H, W, 3) float32, 0 to 255, on paper where the file is transparent, at most ``WORKING`` pixels wide or high.

    Raises:
        DataError: no image, or one that is too large to be opened safely.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's on large images: the check below refuses them
            with Image.open(path) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Image.DecompressionBombError
                image.draft("RGB", (2 * WORKING, 2 * WORKING))
                image = ImageOps.exif_transpose(image)
                image.thumbnail((WORKING, WORKING))
                return _on_paper(np.asarray(image.convert("RGBA"), np.float32))
    except Image.DecompressionBombError:
        raise DataError(f"{path}: is larger than {MOST_PIXELS // 1_000_000} million pixels; make it smaller") from None
    except UnidentifiedImageError:
        what = "is empty" if not path.stat().st_size else "is not an image that can be read (PNG, JPEG, ...)"
        raise DataError(f"{path}: {what}") from None
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for files cut short
        raise DataError(f"{path}: cannot be read: {error}") from None


def _on_paper(rgba: np.ndarray) -> np.ndarray:
    """Light paper behind dark ink and dark behind light, where there is any transparency."""
    alpha = rgba[..., 3:] / 255
    if alpha.min() == 1:
        return rgba[..., :3]
    ink = (rgba[..., :3] * alpha).sum() / max(3 * float(alpha.sum()), 1e-9)
    return rgba[..., :3] * alpha + (0 if ink > 127 else 255) * (1 - alpha)


def prepare(rgb: np.ndarray, shape: tuple[int, int], what: str = "image") -> np.ndarray:
    """The character in an image as EMNIST would have it: (H, W) uint8, upright, light ink on black.

    Args:
        rgb: (h, w, 3) float, 0 to 255.
        shape: (H, W) of the result.
        what: for messages.

    Raises:
        DataError: nothing in it stands out.
    """
    ink = _largest_pieces(_ink(rgb, what))
    side = min(shape)
    inner = FINE * (side - 2 * round(BORDER * side))
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = inner / max(ink.shape)
    size = [max(1, round(scale * n)) for n in ink.shape]
    image = Image.fromarray(np.uint8(ink) * 255).resize(size[::-1], Image.Resampling.BILINEAR)
    frame = np.zeros([FINE * n for n in shape], bool)
    top, left = (frame.shape[0] - size[0]) // 2, (frame.shape[1] - size[1]) // 2
    frame[top : top + size[0], left : left + size[1]] = np.asarray(image) > 127
    frame = _stroke(frame, FINE * STROKE * side)
    soft = Image.fromarray(ndimage.gaussian_filter(np.float32(frame) * 255, SOFT))
    small = np.asarray(soft.resize(shape[::-1], Image.Resampling.BICUBIC)).clip(0)
    return np.uint8(np.rint(small * (255 / small.max())))


def _ink(rgb: np.ndarray, what: str) -> np.ndarray:
    """(h, w) bool: what differs from the paper, whichever of them is darker; the edge of an image is mostly paper."""
    edge = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    apart = np.abs(rgb - np.median(edge, axis=0)).max(axis=2)
    if apart.max() < CONTRAST:
        raise DataError(f"{what}: nothing stands out from the background")
    return apart > max(_otsu(apart), CONTRAST / 2)


def _otsu(values: np.ndarray) -> float:
    """The threshold that parts values into two groups farthest from each other.

    Source: Otsu, "A threshold selection method from gray-level histograms", 1979.
    """
    counts, edges = np.histogram(values, 256, (0, 256))
    below = counts.cumsum()
    total = (counts * edges[:-1]).cumsum()
    above = below[-1] - below
    with np.errstate(all="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    return float(edges[np.nanargmax(between) + 1])


def _largest_pieces(ink: np.ndarray) -> np.ndarray:
    """Without specks, but with the dot of an i."""
    labels, _ = ndimage.label(ink, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return (sizes >= SPECK * sizes.max())[labels] & ink


def _stroke(ink: np.ndarray, width: float) -> np.ndarray:
    """Ink made thicker or thinner towards a width in pixels; what is about right stays as it is.

    In a strip of width w the mean distance to its edge is w / 4.
    """
    inside = ndimage.distance_transform_edt(ink)
    found = 4 * float(inside[ink].mean())
    if 0.7 * width <= found <= 1.4 * width:
        return ink
    outside = ndimage.distance_transform_edt(~ink)
    change = np.clip((width - found) / 2, -0.25 * found, width)
    return np.where(ink, inside, 1 - outside) > -change
