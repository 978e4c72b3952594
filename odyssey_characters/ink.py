"""Where the characters are in a picture: ink told from paper whatever the light, parted into characters, or a doubt.

Ink is what is narrow and differs from what is around it: a closing of the picture by a square wider than the strokes
gives the paper behind them, with its shadows and the desk that it lies on; what falls below that by more than the noise
is ink. Both polarities and a few widths of stroke are tried, and the one with most ink that stands on paper is taken.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
from scipy import ndimage

from odyssey_core.errors import DataError

CONTRAST = 24  # of 255, between ink and paper
REACH = (0.09, 0.18, 0.4)  # sides of the squares, of the picture's shorter side: each bridges strokes below its width
BRIDGED = 0.4  # of a square's side: wider strokes than that it may have shown in part
SPECK = 0.02  # of the largest piece of ink
FAINT = 0.12  # of the darkest ink, below which a tone is paper
SMALL = 0.4  # of the tallest piece, below which another is a dot, a bar or a splinter of a character
LEAST = 0.04  # of the picture's shorter side: smaller marks are grain
DARKER = 0.38  # of the paper under most of the ink: what lies on darker ground lies beside the sheet
BLOT, LONG, WIDE = 0.5, 1.5, 1.8  # of 360 test images of each data set, 1,440, so many are beyond: 3, 0, 4
SHADE = 0.056  # of a character's longer side: the width of an edge from which it is none
MOST = 40  # characters in one picture
THIN = 12  # pixels, at most, of a line on ruled paper
EIGHT = np.ones((3, 3), bool)  # neighbours


class Unclear(DataError):
    """A picture in which nothing is clearly a character; the message says what it holds instead."""


@dataclass(frozen=True)
class Piece:
    """Ink that belongs together.

    Args:
        ink: (h, w) bool, cut out with a margin.
        tone: (h, w) float32, 0 on paper and about 1 where the ink is darkest, also beside the ink.
        top: row of its upper edge in the picture.
        left: column of its left edge.
    """

    ink: np.ndarray
    tone: np.ndarray
    top: int
    left: int

    @cached_property
    def thickness(self) -> np.ndarray:
        """How far every pixel of ink is from the ink's edge."""
        return np.asarray(ndimage.distance_transform_edt(np.pad(self.ink, 1))[1:-1, 1:-1][self.ink])

    @cached_property
    def stroke(self) -> float:
        """Width of its strokes in pixels: in a strip of width w the mean distance to the edge is w / 4."""
        return 4 * float(self.thickness.mean())

    @property
    def height(self) -> int:
        return int(self.ink.shape[0])

    @property
    def width(self) -> int:
        return int(self.ink.shape[1])

    @property
    def longer(self) -> int:
        return int(max(self.ink.shape))

    @property
    def place(self) -> tuple[slice, slice]:
        """Where it is in the picture."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def characters(rgb: np.ndarray) -> list[tuple[Piece, str | None]]:
    """What may be characters in a picture, row by row and from left to right, and why one may be none.

    Args:
        rgb: (h, w, 3) float32, 0 to 255, at least some hundred pixels wide or high.

    Raises:
        Unclear: nothing in it stands out, or too much.
    """
    channels = [rgb[..., 0]] if np.ptp(rgb, axis=2).max() == 0 else list(np.moveaxis(rgb, 2, 0))
    channels = [ndimage.gaussian_filter(channel, 0.7) for channel in channels]
    best: list[tuple[Piece, str | None]] = []
    most, crowd = 0, 0
    for reach in REACH:
        side = max(3, round(reach * min(rgb.shape[:2])) | 1)
        for picture in (channels, [255 - channel for channel in channels]):
            pieces = _standing_out(picture, side)
            crowd = max(crowd, len(pieces))
            found = [(p, doubt(p)) for p in pieces[:MOST]]
            ink = sum(int(p.ink.sum()) for p, why in found if why is None)
            if ink > most or (found and not best):
                best, most = found, ink
        if most and max(p.stroke for p, why in best if why is None) < BRIDGED * side:
            break
    if crowd > MOST and (not most or len(best) == MOST):
        raise Unclear(f"it holds {crowd} pieces that stand out: text, a texture or noise; cut out what is meant")
    if not best:
        raise Unclear("nothing in it stands out from the background as a character does")
    return best


def _standing_out(picture: list[np.ndarray], side: int) -> list[Piece]:
    """Ink that is darker than its paper, joined to what may be characters; of many pieces as many as there are."""
    shown, paper = _contrast(picture, side)
    pieces = _pieces(_without_lines(_mask(shown)), shown)
    if len(pieces) > 5 * MOST:
        return pieces
    pieces = _without_frames(_off_the_edges(pieces, shown.shape))
    grey = np.mean(picture, axis=0)
    pieces = _on_one_sheet([p for p in pieces if _on_paper(p, grey, paper)], paper)
    return _in_reading_order(_joined(pieces)) if pieces else []


def _contrast(channels: list[np.ndarray], side: int) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) float32: how far below the paper behind it a pixel lies, 255 times its share; and the paper, grey."""
    papers = [ndimage.grey_closing(channel, side) for channel in channels]
    shares = [(paper - channel) / np.maximum(paper, 64) for paper, channel in zip(papers, channels, strict=True)]
    shown = 255 * np.max(shares, axis=0)
    return shown - np.median(shown), np.mean(papers, axis=0)


def _mask(shown: np.ndarray) -> np.ndarray:
    """(h, w) bool: above the noise, and nearer to the darkest ink than to the faintest where there are both."""
    noise = 1.4826 * float(np.median(np.abs(shown)))  # its standard deviation, were it Gaussian
    above = shown[shown > max(CONTRAST / 2, 2.5 * noise)]
    if not len(above) or (peak := float(np.percentile(above, 98))) < CONTRAST:
        return np.zeros(shown.shape, bool)
    return np.asarray(shown > np.clip(otsu(above), 0.3 * peak, 0.45 * peak))


def otsu(values: np.ndarray) -> float:
    """The threshold that parts values from 0 to 255 into two groups farthest from each other.

    Source: Otsu, "A threshold selection method from gray-level histograms", 1979.
    """
    counts, edges = np.histogram(values, 256, (0, 256))
    below = counts.cumsum()
    total = (counts * edges[:-1]).cumsum()
    above = below[-1] - below
    with np.errstate(all="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    between[np.isnan(between)] = 0  # where all values lie on one side
    return float(edges[between.argmax() + 1])


def _pieces(mask: np.ndarray, shown: np.ndarray) -> list[Piece]:
    """Connected ink, without specks, and the tones about it."""
    labels, count = ndimage.label(mask, EIGHT)
    if not count or mask.mean() > 0.5:
        return []
    sizes, places = np.bincount(labels.ravel())[1:], ndimage.find_objects(labels)
    if max(s.stop - s.start for place in places for s in place) < LEAST * min(mask.shape):
        return []
    margin = 2 + min(mask.shape) // 100
    large = np.flatnonzero(sizes >= SPECK * sizes.max()).tolist()
    return [_piece(labels, i + 1, places[i], shown, margin) for i in large]


def _piece(labels: np.ndarray, label: int, place: tuple[slice, slice], shown: np.ndarray, margin: int) -> Piece:
    around = tuple(slice(max(s.start - margin, 0), s.stop + margin) for s in place)
    ink = labels[around] == label
    tone = shown[around] / np.percentile(shown[around][ink], 90)
    near = ndimage.distance_transform_edt(~ink) <= margin
    tone = np.where(near & (tone > FAINT) & (ink | (labels[around] == 0)), tone.clip(0, 1), 0)
    return Piece(ink, tone.astype(np.float32), around[0].start, around[1].start)


def _without_lines(mask: np.ndarray) -> np.ndarray:
    """Without the lines of ruled or squared paper, which go from edge to edge, and with the ink on them."""
    for turned in (False, True):
        flat = mask.T if turned else mask
        lined, width = flat.copy(), flat.shape[1]
        rows, columns = np.nonzero(flat)
        if not len(rows):
            return mask
        thick = _runs(flat)[rows, columns]
        thin = thick <= THIN
        for tilt in np.linspace(-0.06, 0.06, 49):
            level = np.rint(rows - tilt * (columns - width / 2)).astype(int) + width
            on = np.bincount(level[thin], minlength=flat.shape[0] + 2 * width) >= 0.6 * width
            outer = (np.bincount(level[thin & side], minlength=len(on)) > 0 for side in _ends(columns, width))
            if (on & np.logical_and(*map(_near, outer))).any():
                gone = _near(on)[level] & (thick <= 2 * np.median(thick[on[level]]))
                lined[rows[gone], columns[gone]] = False
        mask = lined.T if turned else lined
    return mask


def _ends(columns: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    return columns < 0.06 * width, columns >= 0.94 * width


def _near(on: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.binary_dilation(on, iterations=2))


def _runs(mask: np.ndarray) -> np.ndarray:
    """(h, w) int: how long the vertical run of ink is that a pixel belongs to."""
    labels, _ = ndimage.label(mask, [[0, 1, 0], [0, 1, 0], [0, 1, 0]])
    return np.asarray(np.bincount(labels.ravel())[labels])


def _off_the_edges(pieces: list[Piece], shape: tuple[int, int]) -> list[Piece]:
    """Without what comes in from the edge: the desk beside the sheet, a scanner's lid, a shadow, half a character.

    A character that was cut out tightly spans the picture, and stays.
    """
    inner = [p for p in pieces if not any(_cover(p, shape)) and p.longer >= 0.12 * min(shape)]
    kept = []
    for piece in pieces:
        cover = _cover(piece, shape)
        full = sum(share > 0.85 for share in cover)
        whole = piece.height > 0.9 * shape[0] and piece.width > 0.9 * shape[1]
        spans = piece.height > 0.7 * shape[0] or piece.width > 0.7 * shape[1]
        if not any(cover) or (spans and ((max(cover) < 0.15) if inner else (not full or (whole and full < 3)))):
            kept.append(piece)
    return kept


def _cover(piece: Piece, shape: tuple[int, int]) -> tuple[float, ...]:
    """The shares of the picture's four edges that a piece lies on."""
    ink, (h, w) = piece.ink, shape
    return (
        ink[0].sum() / w * (piece.top == 0),
        ink[-1].sum() / w * (piece.top + piece.height == h),
        ink[:, 0].sum() / h * (piece.left == 0),
        ink[:, -1].sum() / h * (piece.left + piece.width == w),
    )


def _without_frames(pieces: list[Piece]) -> list[Piece]:
    return [p for p in pieces if not any(_encloses(p, other) for other in pieces)]


def _encloses(frame: Piece, other: Piece) -> bool:
    """Whether one piece goes around another, which is no mere dot in it."""
    top, left = other.top - frame.top, other.left - frame.left
    rows, columns = slice(top, top + other.height), slice(left, left + other.width)
    if min(top, left) <= 0 or rows.stop >= frame.height or columns.stop >= frame.width:
        return False
    sides = (
        frame.ink[rows, :left].any(axis=1),
        frame.ink[rows, columns.stop :].any(axis=1),
        frame.ink[:top, columns].any(axis=0),
        frame.ink[rows.stop :, columns].any(axis=0),
    )
    return other.height > 0.25 * frame.height and min(side.mean() for side in sides) > 0.8


def _on_paper(piece: Piece, grey: np.ndarray, paper: np.ndarray) -> bool:
    """Whether there is paper around a piece. The hole of a ring stands out too, but beyond the ring it goes on."""
    margin = 3 + piece.longer // 2
    rows, columns = (slice(max(s.start - margin, 0), s.stop + margin) for s in piece.place)
    top, left = piece.top - rows.start, piece.left - columns.start
    own = np.zeros(grey[rows, columns].shape, bool)
    own[top : top + piece.height, left : left + piece.width] = piece.ink
    distance, (y, x) = ndimage.distance_transform_edt(~own, return_indices=True)
    around = (distance > 3) & (distance < margin)
    if not around.any():
        return True
    values, nearest = grey[rows, columns], (y[around], x[around])
    ink, behind = values[nearest], paper[rows, columns][nearest]
    return bool((np.abs(values[around] - ink) < np.abs(values[around] - behind)).mean() < 0.35)


def _on_one_sheet(pieces: list[Piece], paper: np.ndarray) -> list[Piece]:
    """Without what lies on much darker ground than the largest piece of ink: on the desk, beside the sheet."""
    if not pieces:
        return []
    ground = [float(np.median(paper[p.place][p.ink])) for p in pieces]
    main = ground[max(range(len(pieces)), key=lambda i: pieces[i].ink.sum())]
    return [p for p, value in zip(pieces, ground, strict=True) if value >= DARKER * main]


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Pieces put together to characters; dots, bars and splinters that belong to none are left out."""
    tallest = max(p.longer for p in pieces)
    group = list(range(len(pieces)))
    for i, j in combinations(range(len(pieces)), 2):
        if _belong(pieces[i], pieces[j], tallest):
            old, new = group[j], group[i]
            group = [new if g == old else g for g in group]
    whole = [_union([p for p, g in zip(pieces, group, strict=True) if g == name]) for name in dict.fromkeys(group)]
    tallest = max(p.longer for p in whole)
    return [p for p in whole if p.longer >= SMALL * tallest]


def _belong(a: Piece, b: Piece, tallest: int) -> bool:
    across, down = (
        min(p.stop, q.stop) - max(p.start, q.start) for q, p in zip(a.place[::-1], b.place[::-1], strict=True)
    )  # how far they overlap; where it is negative, the gap
    small = min(a.longer, b.longer) < SMALL * tallest
    if across > 0 and down > 0:
        return across * down > 0.25 * min(a.width * a.height, b.width * b.height) or small
    if across >= 0.5 * min(a.width, b.width):
        return bool(-down <= (0.35 if small else 0.08) * tallest)
    return bool(max(-across, -down) <= 0.05 * tallest)


def _union(pieces: list[Piece]) -> Piece:
    top, left = min(p.top for p in pieces), min(p.left for p in pieces)
    bottom, right = max(p.place[0].stop for p in pieces), max(p.place[1].stop for p in pieces)
    ink, tone = np.zeros((bottom - top, right - left), bool), np.zeros((bottom - top, right - left), np.float32)
    for p in pieces:
        own = slice(p.top - top, p.top - top + p.height), slice(p.left - left, p.left - left + p.width)
        ink[own] |= p.ink
        np.maximum(tone[own], p.tone, out=tone[own])
    return Piece(ink, tone, top, left)


def _in_reading_order(pieces: list[Piece]) -> list[Piece]:
    """Row by row: what overlaps a row's first by half of the lower of both belongs to the row."""
    rows: list[list[Piece]] = []
    for piece in sorted(pieces, key=lambda p: p.top + p.height / 2):
        for row in rows:
            first = row[0]
            shared = min(first.top + first.height, piece.top + piece.height) - max(first.top, piece.top)
            if shared >= 0.5 * min(first.height, piece.height):
                row.append(piece)
                break
        else:
            rows.append([piece])
    return [piece for row in rows for piece in sorted(row, key=lambda p: p.left)]


def doubt(piece: Piece) -> str | None:
    """Why ink may be no single character; None where it looks like one."""
    if 2 * piece.thickness.max() > BLOT * piece.longer:
        return "a blot: it has no strokes"
    between = ((piece.tone > 0.3) & (piece.tone < 0.7)).sum()
    if between * piece.stroke / (2 * piece.ink.sum()) > SHADE * piece.longer:  # area over length of the edges
        return "a shade: it has no edges"
    if piece.width > WIDE * piece.height:
        return "wider than a character; several may touch"
    if piece.ink.sum() / piece.stroke > LONG * (piece.height + piece.width):
        return "more strokes than a character has"
    if _rectangle(piece.ink, piece.stroke):
        return "an empty frame"
    return None


def _rectangle(ink: np.ndarray, stroke: float) -> bool:
    """Whether ink lies along the four sides of a rectangle, turned by at most 6 degrees."""
    y, x = np.nonzero(ink)
    band = 1.5 * stroke
    for tilt in np.linspace(-0.1, 0.1, 21):
        u, v = x - tilt * y, y + tilt * x
        if min(np.ptp(u), np.ptp(v)) < 6 * stroke:
            continue  # a bar
        near = np.minimum(np.minimum(u - u.min(), u.max() - u), np.minimum(v - v.min(), v.max() - v)) < band
        corners = [np.hypot(u - a, v - b).min() < 2 * stroke for a in (u.min(), u.max()) for b in (v.min(), v.max())]
        if near.mean() > 0.97 and all(corners):
            return True
    return False
