"""Glyphs: 47 classes in EMNIST's order drawn from matplotlib's bundled fonts, distorted at random. Needs no network."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from odyssey_characters.lookalikes import LOOKALIKES
from odyssey_characters.outlines import GRID, draw
from odyssey_characters.preparations import PREPARATIONS
from odyssey_core import lazy_numpy as np
from odyssey_core import random
from odyssey_core.data.cache import cached
from odyssey_core.data.dataset import Dataset, Images, of_shape
from odyssey_core.data.options import pixel_options

CLASSES = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"
TRAIN_SIZE, TEST_SIZE, SIZE = 112_800, 18_800, 28
FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmr10", "cmb10", "cmss10", "cmti10", "cmtt10"),
)

# Coordinates on the source grid are whole multiples of 2**-12 cell, so that the float32 products and sums of
# _positions stay below 2**24: exact, in whatever order a matrix product takes them.
UNIT = 4096
CHUNK = 1024
DIGEST = "051bc29164771060f0176582d2b0dcdffd8a60551510e857ecc5e8c3034e9de8"


@pixel_options
@of_shape((1, 28, 28))
def glyphs() -> Dataset:
    """Printed characters, sized like EMNIST Balanced: 112,800 + 18,800 images (N, 1, 28, 28) uint8, 47 classes.

    Every image is a glyph of one of 21 fonts (regular, bold, italic; sans, serif, monospaced), fitted to a square as
    in EMNIST, then rotated by at most 17°, scaled by 0.8 to 1.2 along each axis, sheared, bent, shifted by at most
    2 pixels, and given a random stroke weight and grey. Train and test are drawn from different random streams. The
    pixels are computed with whole numbers and exact float32 steps: the same on every machine that has the same fonts.
    ``official`` tells whether they are those of matplotlib 3.11.
    """
    sources = [Path(__file__).with_name(name).read_bytes() for name in ("glyphs.py", "outlines.py")]
    key = [version("matplotlib"), *(hashlib.sha256(source).hexdigest() for source in sources)]
    train, test, _, digest = cached("glyphs", key, _build)
    return Dataset(
        "glyphs",
        train,
        test,
        tuple(CLASSES),
        digest=digest,
        official=digest == DIGEST,
        preparation=PREPARATIONS["glyphs"],
        alike=LOOKALIKES,
    )


def _build() -> tuple[Images, Images, dict[str, Any]]:
    atlas = draw(FONTS, CLASSES)
    return render(atlas, TRAIN_SIZE, "glyphs/train"), render(atlas, TEST_SIZE, "glyphs/test"), {}


def render(atlas: np.ndarray, count: int, stream: str) -> Images:
    """Draws ``count`` images, image i of class i modulo 47.

    Args:
        atlas: (fonts, 47, GRID, GRID) uint8, as ``outlines.draw`` gives it.
        count: images; a multiple of 47 gives every class as many.
        stream: of the random numbers; each image depends on the stream and its own number alone.
    """
    pixels, labels = np.empty((count, 1, SIZE, SIZE), np.uint8), np.arange(count, dtype=np.int64) % len(CLASSES)

    def part(start: int) -> None:
        items = np.arange(start, min(start + CHUNK, count))
        chance = random.uniform(16, seed=0, stream=stream, item=items)
        fonts = (chance[:, 0] * np.float32(len(atlas))).astype(np.int64)
        plane = (fonts * len(CLASSES) + labels[items]) * GRID**2
        where = _positions(_coefficients(chance)) + plane[:, None].astype(np.int32)
        ink = atlas.reshape(-1).take(where).astype(np.int32)
        # The grid holds ink blurred over some cells: a threshold makes the stroke thin or bold, a slope soft or hard.
        threshold, slope = 30 + 90 * chance[:, 10:11], 1.5 + 2.0 * chance[:, 11:12]
        grey = (255 - 95 * chance[:, 12:13] * chance[:, 12:13]).astype(np.int32)
        ink -= threshold.astype(np.int32)
        ink *= (256 * slope).astype(np.int32)
        ink >>= 8
        np.clip(ink, 0, grey, out=ink)
        pixels[items, 0] = ink.reshape(-1, SIZE, SIZE)

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(part, range(0, count, CHUNK)))
    return Images(pixels, labels)


def _coefficients(chance: np.ndarray) -> np.ndarray:
    """How the source grid is read: (n, 2, 6) float32 whole numbers, for x and y the factors of ``_basis``'s terms.

    The rotation takes its sine and cosine from t = tan(angle / 2), so that no library's sin decides a pixel.
    """
    signed = 2 * chance - 1
    t = np.float32(0.15) * signed[:, 1]
    cos, sin = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    # Half an output pixel is two cells; a glyph's longer side, 80 cells, then covers 20 pixels.
    across = 2 / (1 + np.float32(0.2) * signed[:, 2])
    down = 2 / (1 + np.float32(0.2) * signed[:, 3])
    shear = np.float32(0.25) * signed[:, 4]
    bend = np.float32(0.006) * signed[:, 5:9]
    shift = 8 * signed[:, [13, 14]]
    zero = np.zeros_like(t)
    x = (GRID / 2 + shift[:, 0], across * cos, across * (sin + shear), zero, bend[:, 0], bend[:, 1])
    y = (GRID / 2 + shift[:, 1], -down * sin, down * cos, bend[:, 2], bend[:, 3], zero)
    return np.asarray(np.rint(UNIT * np.stack([np.stack(x, axis=-1), np.stack(y, axis=-1)], axis=1)), np.float32)


def _basis() -> np.ndarray:
    """1, u, v, u², uv, v² at every output pixel, (6, 784) float32: u and v are half pixels from the centre."""
    v, u = np.mgrid[:SIZE, :SIZE].reshape(2, -1) * 2 - (SIZE - 1)
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v]).astype(np.float32)


def _positions(coefficients: np.ndarray) -> np.ndarray:
    """The cell of a plane that each output pixel reads: (n, 784) int32. Outside the grid the edge, which is empty."""
    exact = coefficients @ _basis()
    np.clip(exact, 0, GRID * UNIT - 1, out=exact)
    cells = exact.astype(np.int32) >> 12
    return np.asarray(cells[:, 1] * GRID + cells[:, 0])
