"""Glyph outlines drawn on a fine grid, from font units, by our own arithmetic: no font library decides a pixel."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from odyssey_core import lazy_numpy as np

GRID = 128  # cells a side
BOX = 80  # cells of a glyph's longer side
PIECES = 6  # straight pieces a curve
MOVE, CURVES, CLOSE = 1, {2: 1, 3: 2, 4: 3}, 79  # matplotlib's path codes; the values are points a segment


def draw(fonts: tuple[str, ...], characters: str) -> np.ndarray:
    """Every character of every font, centred and scaled so that the longer side of its bounding box is ``BOX`` cells.

    Args:
        fonts: file names without ``.ttf``, among those that matplotlib ships.
        characters: each must be in each font.

    Returns:
        (fonts, characters, GRID, GRID) uint8 ink, blurred over about a pixel's four cells.
    """
    from matplotlib import ft2font, get_data_path

    # Font units: neither hinting nor a rendering size, nor the version of FreeType, touches the outline.
    flags: Any = getattr(ft2font, "LoadFlags", None)  # from Matplotlib 3.10 on
    unscaled = flags.NO_SCALE if flags else vars(ft2font)["LOAD_NO_SCALE"]
    atlas = np.empty((len(fonts), len(characters), GRID, GRID), np.uint8)
    for planes, name in zip(atlas, fonts, strict=True):
        font = ft2font.FT2Font(str(Path(get_data_path(), "fonts", "ttf", f"{name}.ttf")))
        for plane, character in zip(planes, characters, strict=True):
            font.load_char(ord(character), flags=unscaled)
            plane[:] = _blurred(fill(flatten(*font.get_path())))
    return atlas


def flatten(vertices: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """A path as straight edges from (x, y) to (x, y), (n, 2, 2) float64; Bézier curves of degree 2 and 3 are cut up."""
    points, edges, at, start = vertices.tolist(), [], 0, None
    while at < len(codes):
        code = int(codes[at])
        if code == MOVE:
            pen = start = points[at]
            at += 1
        elif code == CLOSE:
            edges.append((pen, start))
            pen, at = start, at + 1
        else:
            controls = [pen, *points[at : at + CURVES[code]]]
            for piece in range(1, PIECES + 1) if code > 2 else (PIECES,):
                end = _bezier(controls, piece / PIECES)
                edges.append((pen, end))
                pen = end
            at += CURVES[code]
    return np.array(edges)


def _bezier(controls: list[tuple[float, float]], t: float) -> tuple[float, float]:
    """De Casteljau's construction."""
    while len(controls) > 1:
        controls = [(x + t * (u - x), y + t * (v - y)) for (x, y), (u, v) in pairwise(controls)]
    return controls[0]


def fill(edges: np.ndarray) -> np.ndarray:
    """The cells whose centre has a non-zero winding number: (GRID, GRID) bool, rows from the top.

    An edge that crosses a row's centre line adds its direction to every cell right of the crossing.
    """
    low, high = edges.min(axis=(0, 1)), edges.max(axis=(0, 1))
    scale = BOX / max(high - low)
    edges = (edges - (low + high) / 2) * np.array([scale, -scale]) + GRID / 2
    (x0, y0), (x1, y1) = edges[:, 0].T[..., None], edges[:, 1].T[..., None]
    rows = np.arange(GRID) + 0.5
    edge, row = np.nonzero((y0 <= rows) != (y1 <= rows))
    slope = (x1 - x0)[edge, 0] / (y1 - y0)[edge, 0]
    crossing = x0[edge, 0] + (rows[row] - y0[edge, 0]) * slope
    winding = np.zeros((GRID, GRID), np.int32)
    np.add.at(winding, (row, np.ceil(crossing - 0.5).astype(int)), np.where((y1 > y0)[edge, 0], 1, -1))
    return np.asarray(np.cumsum(winding, axis=1) != 0)


def _blurred(ink: np.ndarray) -> np.ndarray:
    """Two passes of a box of 4 cells along each axis, in whole numbers: (GRID, GRID) bool to uint8, at most 255."""
    total = ink.astype(np.int32)
    for axis in (0, 1):
        for shifts in ((-2, -1, 0, 1), (-1, 0, 1, 2)):
            total = sum((np.roll(total, shift, axis) for shift in shifts), start=np.zeros_like(total))
    return (total * 255 // 256).astype(np.uint8)
