"""The transforms of Winograd's F(4x4, 3x3) at the points 0, 1, -1, 2, -2 and infinity, on 6 x 6 or 4 x 4 pixels.

With the matrices A^T (4, 6), B^T (6, 6) and G (6, 3) a 3x3 convolution of a tile d of the input is
A^T [(G w G^T) . (B^T d B)] A, and its weight's gradient for that of the output is G^T [(B^T d B) . (A dy A^T)] G.
A pixel is a vector of sixteen values, which a transform does not tell apart. What lies outside the image is zero.

Source: A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, section 4.3.
"""

import numpy as np

from odyssey_core.backends.numba.memory import inside, load, store
from odyssey_core.backends.numba.traced import LANES, on_lanes
from odyssey_core.backends.numba.vector import fma

OUTPUTS, INPUTS = 4, 6  # pixels of a tile in each direction
POSITIONS = INPUTS * INPUTS
_C = {name: np.float32(value) for name, value in {"1/4": 1 / 4, "1/6": 1 / 6, "1/12": 1 / 12, "1/24": 1 / 24}.items()}


def _input_line(d):
    """B^T d of six values."""
    u, s, v, t = fma(d[2], -4.0, d[4]), fma(d[1], -4.0, d[3]), d[4] - d[2], d[3] - d[1]
    first, last = (fma(d[k + 2], -5.0, fma(d[k], 4.0, d[k + 4])) for k in (0, 1))
    return first, u + s, u - s, fma(t, 2.0, v), fma(t, -2.0, v), last


def _adjoint_line(y):
    """A y of four values."""
    even, odd = y[0] + y[2], y[1] + y[3]
    far_even, far_odd = fma(y[2], 4.0, y[0]), fma(y[3], 4.0, y[1])
    return y[0], even + odd, even - odd, fma(far_odd, 2.0, far_even), fma(far_odd, -2.0, far_even), y[3]


def _weight_line(u):
    """G^T u of six values, from the smallest factor to the largest."""
    near, far, apart, far_apart = u[1] + u[2], u[3] + u[4], u[1] - u[2], u[3] - u[4]
    return (
        fma(u[0], _C["1/4"], fma(near, -_C["1/6"], far * _C["1/24"])),
        fma(apart, -_C["1/6"], far_apart * _C["1/12"]),
        fma(far - near, _C["1/6"], u[5]),
    )


def _both_ways(transform, square):
    """transform square transform^T: down the columns, then along the rows."""
    columns = [transform(column) for column in zip(*square, strict=True)]
    return [transform(row) for row in zip(*columns, strict=True)]


def _pixels(memory, source, line, pixel, top, left, height, width, zeros, size):
    """size x size vectors from row ``top`` and column ``left`` on; ``zeros`` is read in place of those outside."""
    start = source + top * line + left * pixel
    rows = [inside(top + i, height, start + i * line, zeros) for i in range(size)]
    columns = [[load(memory, inside(left + j, width, row + j * pixel, zeros)) for row in rows] for j in range(size)]
    return list(zip(*columns, strict=True))


def _store_all(memory, target, plane, square):
    for p, value in enumerate(value for row in square for value in row):
        store(memory, target + p * plane, value)


@on_lanes
def input_tile(memory, source, top, left, height, width, zeros, target, plane):
    """Writes B^T d B, positions ``plane`` apart, of 6 x 6 pixels of an image (height, width, 16).

    ``zeros`` is where six vectors of zeros lie.
    """
    d = _pixels(memory, source, width * LANES, LANES, top, left, height, width, zeros, INPUTS)
    _store_all(memory, target, plane, _both_ways(_input_line, d))


@on_lanes
def adjoint_tile(memory, source, pixel, top, left, height, width, zeros, target, plane):
    """Writes A dy A^T, positions ``plane`` apart, of 4 x 4 pixels of an image whose pixels lie ``pixel`` apart.

    ``zeros`` is where four vectors of zeros lie, ``pixel`` apart as well.
    """
    y = _pixels(memory, source, width * pixel, pixel, top, left, height, width, zeros, OUTPUTS)
    _store_all(memory, target, plane, _both_ways(_adjoint_line, y))


@on_lanes
def weight_tile(memory, source, plane, target, tap):
    """Writes G^T u G, 3 x 3 vectors ``tap`` apart, of 6 x 6 ``plane`` apart."""
    u = [[load(memory, source + (INPUTS * i + j) * plane) for j in range(INPUTS)] for i in range(INPUTS)]
    _store_all(memory, target, tap, _both_ways(_weight_line, u))
