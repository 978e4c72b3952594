"""The transforms of Winograd's F(4x4, 3x3) on register tiles.

A convolution of four outputs with three weights takes six multiplications: y = A^T [(G g) * (B^T d)], in two dimensions
y = A^T [(G g G^T) * (B^T d B)] A; the weights' gradient is G^T [(A y' A^T) * (B^T d B)] G, of the gradient y' of the
outputs. The polynomials meet in the points 0, 1, -1, 2, -2 and infinity.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from llvmlite import ir
from numba.extending import register_jitable

from odyssey_core.arithmetic import fma
from odyssey_core.backends.numba.register_tile import Tile, on_tile
from odyssey_core.backends.numba.traced import F32, LANES
from odyssey_core.backends.numba.vector import fma_vector
from odyssey_core.tensor import Shape

TAPS, KERNEL = 3, 9
PATCH, STEP = 6, 4  # pixels of a tile's input and of its output, in each direction
POSITIONS = PATCH * PATCH
TWO, FOUR, FIVE, EIGHT = (np.float32(x) for x in (2, 4, 5, 8))
# What G's rows are divided by; the sums are scaled once, in both directions together.
_SCALES = 1 / 4, -1 / 6, -1 / 6, 1 / 24, 1 / 24, 1
SCALES = np.outer(_SCALES, _SCALES).astype(np.float32)


class _Register:
    """A vector of a compiled kernel, with the arithmetic that the transforms are written in."""

    def __init__(self, builder: ir.IRBuilder, value: Any):
        self.builder, self.value = builder, value

    def _constant(self, x):
        return ir.Constant(self.value.type, [F32(float(x))] * self.value.type.count)

    def __add__(self, other):
        return _Register(self.builder, self.builder.fadd(self.value, other.value))

    def __sub__(self, other):
        return _Register(self.builder, self.builder.fsub(self.value, other.value))

    def scaled(self, factor):
        return _Register(self.builder, self.builder.fmul(self.value, self._constant(factor)))

    @staticmethod
    def fma(factor, x, y):
        """factor x + y, of a number and two vectors."""
        return _Register(x.builder, fma_vector(x.builder, x.value, x._constant(factor), y.value))


def _inputs(d):
    """B^T d, 6 -> 6."""
    u, v = fma(-FOUR, d[2], d[4]), fma(-FOUR, d[1], d[3])
    s, t = d[4] - d[2], d[3] - d[1]
    first, last = fma(-FIVE, d[2], fma(FOUR, d[0], d[4])), fma(-FIVE, d[3], fma(FOUR, d[1], d[5]))
    return first, u + v, u - v, fma(TWO, t, s), fma(-TWO, t, s), last


def _outputs(m):
    """A^T m, 6 -> 4."""
    s, d, t, e = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    return (m[0] + s) + t, fma(TWO, e, d), fma(FOUR, t, s), fma(EIGHT, e, d) + m[5]


def _weights(g):
    """G g without its scales, 3 -> 6."""
    s, t = g[0] + g[2], fma(FOUR, g[2], g[0])
    return g[0], s + g[1], s - g[1], fma(TWO, g[1], t), fma(-TWO, g[1], t), g[2]


def _adjoint(y):
    """A y, 4 -> 6."""
    s, t = y[0] + y[2], y[1] + y[3]
    u, v = fma(FOUR, y[2], y[0]), fma(FOUR, y[3], y[1])
    return y[0], s + t, s - t, fma(TWO, v, u), fma(-TWO, v, u), y[3]


def _gradients(u):
    """G^T u without G's scales, 6 -> 3."""
    s, d, t, e = u[1] + u[2], u[1] - u[2], u[3] + u[4], u[3] - u[4]
    return (u[0] + s) + t, fma(TWO, e, d), fma(FOUR, t, s) + u[5]


def _both_ways(transform, grid):
    """The transform of every column, then of every row."""
    columns = [transform([line[j] for line in grid]) for j in range(len(grid[0]))]
    return [transform([column[i] for column in columns]) for i in range(len(columns[0]))]


def _on_registers(transform, begin=lambda rows: rows, finish=lambda rows: rows):
    """Code of a transform in both directions, as `on_tile` takes it."""

    def generate(builder, kind, value):
        vectors = [_Register(builder, builder.extract_value(value, k)) for _, _, k in kind.grid()]
        grid = begin([vectors[i : i + kind.columns] for i in range(0, len(vectors), kind.columns)])
        rows = finish(_both_ways(transform, grid))
        result = ir.Constant(ir.ArrayType(kind.vector, len(rows) ** 2), ir.Undefined)
        for k, each in enumerate(x for row in rows for x in row):
            result = builder.insert_value(result, each.value, k)
        return result

    return generate


def _square(size):
    return lambda tile: Tile(size, size, tile.lanes)


@on_tile(_square(PATCH), _on_registers(_inputs))
def winograd_input(tile):
    """B^T d B of a patch of 6 x 6 pixels."""
    return np.stack(_both_ways(_inputs, tile))


@on_tile(_square(STEP), _on_registers(_outputs))
def winograd_output(tile):
    """A^T m A: 4 x 4 pixels of the 6 x 6 products."""
    return np.stack(_both_ways(_outputs, tile))


def _scaled(rows):
    return [[x.scaled(SCALES[i, j]) for j, x in enumerate(row)] for i, row in enumerate(rows)]


@on_tile(_square(PATCH), _on_registers(_adjoint))
def winograd_adjoint(tile):
    """A y A^T of 4 x 4 pixels."""
    return np.stack(_both_ways(_adjoint, tile))


@on_tile(_square(3), _on_registers(_gradients, begin=_scaled))
def winograd_gradient(tile):
    """G^T u G: what 6 x 6 sums of products say of a kernel of 3 x 3 taps."""
    return np.stack(_both_ways(_gradients, tile * SCALES[:, :, None]))


@on_tile(_square(PATCH), _on_registers(_weights, finish=_scaled))
def winograd_taps(tile):
    """G g G^T of a kernel of 3 x 3 taps."""
    return np.stack(_both_ways(_weights, tile)) * SCALES[:, :, None]


def takes(y: Shape, weight: Shape, attrs: Mapping[str, Any]) -> bool:
    """Whether a convolution, or its input's gradient, is computed this way: by shape alone, since it changes bits.

    Where at least half of the multiply-adds are saved. With fewer channels the transforms cost more than that.

    Args:
        y: shape (N, channels, height, width) of the result.
        weight: shape (out, channels, kernel height, kernel width).
        attrs: of the convolution.
    """
    if not (
        weight[2:] == (TAPS, TAPS)
        and min(weight[:2]) >= LANES
        and attrs["stride"] == attrs["groups"] == 1
        and max(attrs["padding"]) < TAPS
    ):
        return False
    return 2 * POSITIONS * tiles_of(*y[2:]) <= KERNEL * math.prod(y[2:])


@register_jitable
def corner(tile, down, across):
    """The block of a tile, of down x across each, and the first row and column of its output."""
    return tile // (down * across), tile // across % down * STEP, tile % across * STEP


def tiles_of(height: int, width: int) -> int:
    """Of an output, those that its border cuts included."""
    return -(-height // STEP) * -(-width // STEP)
