"""Initial values: what a parameter or a buffer holds before the first step, as a function of the seed and its name.

Only integer arithmetic, exact conversions and single roundings are used, so that every machine draws the same bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from odyssey_core import lazy_numpy as np
from odyssey_core.random import uniform, words
from odyssey_core.tensor import Shape
from odyssey_core.whitening import Whitening

SUMMED = 12  # uniform numbers in a normal one: their sum has variance 12 / 12
PIECE = 1 << 12  # normal numbers drawn at a time: what they are made of stays in the cache


@dataclass(frozen=True)
class Constant:
    """The same value everywhere."""

    value: float

    def draw(self, shape: Shape, seed: int, stream: str) -> np.ndarray:
        """Values of a shape, float32."""
        return np.full(shape, self.value, np.float32)


@dataclass(frozen=True)
class Uniform:
    """Uniformly distributed in [-bound, bound); the standard deviation is bound / sqrt(3)."""

    bound: float

    def draw(self, shape: Shape, seed: int, stream: str) -> np.ndarray:
        """Values of a shape, float32."""
        unit = uniform(math.prod(shape), seed=seed, stream=stream) * np.float32(2) - np.float32(1)
        return (unit * np.float32(self.bound)).reshape(shape)


@dataclass(frozen=True)
class Normal:
    """Nearly normally distributed with mean 0: the sum of twelve uniform numbers, less their mean, times ``std``.

    The exact transformations (Box-Muller, the inverse of the distribution function) need a logarithm, whose last bits
    differ between libraries. The sum lies within 6 standard deviations; its kurtosis is 2.9 instead of 3.

    Source: Irwin and Hall, 1927, for the distribution of the sum.
    """

    std: float

    def draw(self, shape: Shape, seed: int, stream: str) -> np.ndarray:
        """Values of a shape, float32."""
        sums = np.empty(math.prod(shape), np.float32)
        for first in range(0, len(sums), PIECE):
            count = SUMMED * len(sums[first : first + PIECE])
            drawn = words(count, seed=seed, stream=stream, first=SUMMED * first).reshape(-1, SUMMED) >> np.uint32(8)
            # Twelve 24-bit numbers: their sum is exact in an integer, and so is its distance from the mean.
            sums[first : first + PIECE] = drawn.sum(axis=1, dtype=np.int64) - SUMMED // 2 * (1 << 24)
        return (sums * np.float32(2**-24) * np.float32(self.std)).reshape(shape)


@dataclass(frozen=True)
class Dirac:
    """Filters that pass their input on: filter i is 1 at the middle of channel i and 0 elsewhere, as far as there are
    channels and filters; the others are drawn.

    Source: Zagoruyko and Komodakis, "DiracNets", 2017, for the identity; for some filters alone as in Jordan, "94% on
    CIFAR-10 in 3.29 Seconds on a Single GPU", 2024 (arXiv 2404.00498).
    """

    rest: Uniform

    def draw(self, shape: Shape, seed: int, stream: str) -> np.ndarray:
        """Values of a shape (out, in, ...), float32."""
        values, middle = self.rest.draw(shape, seed, stream), tuple(size // 2 for size in shape[2:])
        for i in range(min(shape[:2])):
            values[i] = 0
            values[(i, i, *middle)] = 1
        return values


Initial = Constant | Uniform | Normal | Dirac | Whitening
