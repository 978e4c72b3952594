"""Windows over padded images, shared by convolution and pooling."""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def windows(x: np.ndarray, kh: int, kw: int, stride: int) -> np.ndarray:
    """(N, C, out height, out width, kh, kw): every window of (N, C, H, W)."""
    return sliding_window_view(x, (kh, kw), axis=(2, 3))[:, :, ::stride, ::stride]


def pad(x: np.ndarray, rows: int, columns: int, value: float = 0) -> np.ndarray:
    """(N, C, H, W) with rows above and below and columns at the left and right that hold ``value``."""
    return np.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns)), constant_values=value)


def seen(size: tuple[int, int], stride: int, k: int, m: int) -> tuple[Any, ...]:
    """The index of what place (k, m) of each window sees, for ``size`` windows in height and width."""
    return (..., *(slice(at, at + (n - 1) * stride + 1, stride) for at, n in zip((k, m), size, strict=True)))
