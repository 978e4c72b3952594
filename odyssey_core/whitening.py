"""Filters that make the patches of images uncorrelated: first weights that follow from the data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from odyssey_core import lazy_numpy as np
from odyssey_core.eigen import eigen
from odyssey_core.tensor import Shape

IMAGES = 5000  # whose patches are enough
_AT_ONCE = 2**18  # pixels


@dataclass(frozen=True)
class Whitening:
    """v_i / sqrt(l_i + eps) and its negative, v_i and l_i being eigenvectors and eigenvalues of the second moments of
    the patches that a filter sees, the largest first.

    Attributes:
        eps: above 0; keeps the filters of what hardly varies small.

    Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024 (arXiv 2404.00498), after Page,
    "How to Train Your ResNet", 2019.
    """

    eps: float

    def draw(self, shape: Shape, seed: int, stream: str) -> np.ndarray:
        """What stands for the filters where there are no data: each pixel of a patch and its negative, float32."""
        return _both(np.eye(math.prod(shape[1:])), shape)

    def of_images(self, pixels: np.ndarray, mean: np.ndarray, std: np.ndarray, shape: Shape) -> np.ndarray:
        """The filters for some images, float32.

        Args:
            pixels: (N, C, H, W) uint8.
            mean: (C,) float64, of the normalisation.
            std: (C,) float64.
            shape: (2 C height width, C, height, width) of the filters.
        """
        values, vectors = eigen(second_moments(pixels, mean, std, shape[2], shape[3]))
        return _both(vectors / np.sqrt(np.maximum(values, 0.0) + self.eps)[:, None], shape)


def _both(filters: np.ndarray, shape: Shape) -> np.ndarray:
    return np.concatenate((filters, -filters)).reshape(shape).astype(np.float32)


def second_moments(pixels: np.ndarray, mean: np.ndarray, std: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mean of x_a x_b over all patches of all images, x = (p / 255 - mean) / std; (C h w, C h w) float64.

    Sums of products of pixels are whole numbers that float64 holds exactly: their order does not matter, so that a
    matrix product may do the work. Only what follows is rounded.

    Args:
        pixels: (N, C, H, W) uint8; N H W below 10 ** 11.
        mean: (C,) float64.
        std: (C,) float64.
        height: of a patch.
        width: of a patch.
    """
    channels = pixels.shape[1]
    size = channels * height * width
    products, sums, count = np.zeros((size, size)), np.zeros(size), 0
    images = max(1, _AT_ONCE // math.prod(pixels.shape[2:]))
    for first in range(0, len(pixels), images):
        windows = np.lib.stride_tricks.sliding_window_view(pixels[first : first + images], (height, width), (2, 3))
        patches = windows.transpose(1, 4, 5, 0, 2, 3).reshape(size, -1).astype(np.float64)
        products += patches @ patches.T
        sums += patches.sum(axis=1)
        count += patches.shape[1]
    middle, scale = (np.repeat(values, height * width) for values in (255 * mean, 255 * std))
    crossed = middle[:, None] * sums
    centred = products - crossed - crossed.T + count * (middle[:, None] * middle)
    return np.asarray(centred / (count * (scale[:, None] * scale)))
