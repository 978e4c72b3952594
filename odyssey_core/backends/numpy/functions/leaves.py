"""What a step is fed with."""

import numpy as np

from odyssey_core.backends.numpy.functions.windows import pad
from odyssey_core.random import words


def images(*, shape, mean, std, augment, feed, dtype):
    pixels, cut_out = feed.pixels[feed.order].reshape(shape).astype(dtype), False
    if augment is not None:
        drawn = words(12, seed=feed.seed, stream="augment", epoch=feed.epoch, item=feed.order).T
        pixels = _toned(pixels, drawn[8:10], augment, dtype)
        # What is drawn for the first epoch holds in every second one, its opposite in the others.
        first = words(13, seed=feed.seed, stream="augment", item=feed.order).T[12] >> np.uint32(31)
        mirrored = (drawn[5] >> np.uint32(31) & augment["flip"]) | ((first ^ feed.epoch) & augment["alternate"])
        pixels = _distort(pixels, *_coordinates(drawn, mirrored, shape[2], shape[3], augment, dtype))
        cut_out = _square(drawn[10:12], shape[2], shape[3], augment["cutout"])
    mean, std = (np.array(values, dtype)[:, None, None] for values in (mean, std))
    shown = (feed.order[:, None, None, None] >= 0) & ~np.asarray(cut_out)
    return np.where(shown, (pixels / 255 - mean) / std, 0).astype(dtype)


def _uniform(drawn, dtype):
    """Numbers in [-1, 1) that broadcast with (N, C, H, W) less an axis."""
    return ((drawn >> np.uint32(8)).astype(dtype) * dtype.type(2**-23) - 1)[..., None, None]


def _below(drawn, count):
    """Whole numbers below the count."""
    return (drawn.astype(np.uint64) * np.uint64(count) >> np.uint64(32)).astype(np.int64)[..., None, None]


def _toned(pixels, drawn, augment, dtype):
    bright, strong = (
        1 + dtype.type(augment[name]) * u[:, None]
        for name, u in zip(("brightness", "contrast"), _uniform(drawn, dtype), strict=True)
    )
    mean = pixels.mean(axis=(2, 3), keepdims=True, dtype=np.float64).astype(dtype)
    return np.clip(bright * (mean + strong * (pixels - mean)), 0, 255)


def _square(drawn, height, width, side):
    """(N, 1, H, W) whether a pixel lies in the square."""
    top, left = (_below(word, size) - side // 2 for word, size in zip(drawn, (height, width), strict=True))
    i, j = np.arange(height)[:, None], np.arange(width)
    return ((i >= top) & (i < top + side) & (j >= left) & (j < left + side))[:, None]


def _coordinates(drawn, mirrored, height, width, augment, dtype):
    """Where each pixel is sampled: two (N, H, W) arrays, x and y in a frame with a border of one pixel."""
    u = _uniform(drawn[:5], dtype)
    turn, scale, shear, shift = (dtype.type(augment[name]) for name in ("rotation", "scaling", "shear", "shift_by"))
    angle, size, k = turn * u[0], 1 + scale * u[1], shear * u[2]
    square = angle * angle
    # Taylor's series, good to float32 up to 45 degrees.
    sine = angle * (1 - square / 6 * (1 - square / 20 * (1 - square / 42)))
    cosine = 1 - square / 2 * (1 - square / 12 * (1 - square / 30 * (1 - square / 56)))
    i, j = np.arange(height, dtype=dtype)[:, None], np.arange(width, dtype=dtype)
    middle_y, middle_x = dtype.type((height - 1) / 2), dtype.type((width - 1) / 2)
    i, j = i - middle_y, j - middle_x
    x = size * cosine * j + size * (cosine * k - sine) * i + (middle_x + 1 + shift * u[3])
    y = size * sine * j + size * (sine * k + cosine) * i + (middle_y + 1 + shift * u[4])
    x, y = (at + _below(word, 2 * augment["crop"] + 1) - augment["crop"] for at, word in ((x, drawn[6]), (y, drawn[7])))
    x = np.where(mirrored[:, None, None] > 0, width + 1 - x, x)
    if augment["reflect"]:  # pixels lie from 1 on in the frame
        x, y = (size - np.abs(size - 1 - np.abs(at - 1)) for at, size in ((x, width), (y, height)))
    return np.clip(x, 0, width + 1), np.clip(y, 0, height + 1)


def _distort(pixels, x, y):
    n, _, height, width = pixels.shape
    padded = pad(pixels, 1, 1)
    x0, y0 = np.minimum(x.astype(int), width), np.minimum(y.astype(int), height)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    image = np.arange(n)[:, None, None]

    def at(dy, dx):
        return np.moveaxis(padded[image, :, y0 + dy, x0 + dx], -1, 1)

    top, bottom = at(0, 0) + fx * (at(0, 1) - at(0, 0)), at(1, 0) + fx * (at(1, 1) - at(1, 0))
    return top + fy * (bottom - top)


def labels(*, batch_size, feed):
    return np.where(feed.order >= 0, feed.labels[feed.order], -1)


def batch_weight(*, batch_size, feed, dtype):
    valid = feed.order >= 0
    return (valid / max(valid.sum(), 1)).astype(dtype)
