"""Arithmetic on each element, and dropout."""

import numpy as np

from odyssey_core.random import words


def add(a, b):
    return a + b


def multiply(a, b):
    return a * b


def scale_shift(x, *, scale, shift):
    return scale * x + shift


def dropout(x, *, p, stream, feed):
    """The mask is word ``element`` of the counter (image, epoch, stream) against p 2**32, as in every backend."""
    elements = int(np.prod(x.shape[1:]))
    drawn = words(elements, seed=feed.seed, stream=stream, epoch=feed.epoch, item=feed.order)
    keep = drawn.reshape(x.shape) >= np.uint32(int(p * 2**32))
    return np.where(keep, x / (1 - p), 0).astype(x.dtype)
