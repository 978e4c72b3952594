"""The options that every data set has: how its pixels are normalised and its training images augmented."""

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Any, Literal

from odyssey_core import lazy_numpy as np
from odyssey_core.data.augment import Augment
from odyssey_core.data.dataset import Dataset, PerChannel
from odyssey_core.errors import ConfigError, DataError

COUNTED = 256  # images at once


def pixel_options(constructor: Callable[..., Dataset]) -> Callable[..., Dataset]:
    """Decorates a data set's constructor, which loads the images alone; the options follow its own parameters.

    They are keyword arguments of what it returns:

    Args:
        normalize: ``channel`` computes mean and std of every channel from the training images, those of validation
            left out.
        mean: mean of the pixels in [0, 1]; one number, or one for each channel.
        std: their standard deviation; likewise.
        augment: distortion of the training images.

    Raises:
        ConfigError: normalize beside mean or std, before anything is loaded.
        DataError: normalize, and a channel that is the same everywhere.
    """

    @wraps(constructor, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
    def loaded(
        *arguments: Any,
        normalize: Literal["channel"] | None = None,
        mean: PerChannel = 0.0,
        std: PerChannel = 1.0,
        augment: Augment | None = None,
        **own: Any,
    ) -> Dataset:
        if normalize and (mean, std) != (0.0, 1.0):
            raise ConfigError(
                "data.normalize: channel computes data.mean and data.std; leave these out, or set it to null"
            )
        dataset = constructor(*arguments, **own)
        if normalize:
            mean, std = channel_statistics(dataset.train.pixels[: len(dataset.train) - dataset.validation])
        return replace(dataset, mean=mean, std=std, augment=augment)

    own = inspect.signature(constructor)
    added = [
        parameter
        for parameter in inspect.signature(loaded, follow_wrapped=False).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    vars(loaded)["__signature__"] = own.replace(parameters=[*own.parameters.values(), *added])
    return loaded


def channel_statistics(pixels: "np.ndarray") -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel of (N, C, H, W) uint8, of pixels in [0, 1]: exact sums, rounded once.

    Raises:
        DataError: a channel that is the same everywhere.
    """
    means, deviations = [], []
    for channel in range(pixels.shape[1]):
        counts = np.zeros(256, np.int64)
        for start in range(0, len(pixels), COUNTED):
            counts += np.bincount(pixels[start : start + COUNTED, channel].reshape(-1), minlength=256)
        total = sum(value * count for value, count in enumerate(counts.tolist()))
        squares = sum(value * value * count for value, count in enumerate(counts.tolist()))
        n = int(counts.sum())
        if n * squares == total * total:
            raise DataError(f"data.normalize: channel {channel} has the same value everywhere; set it to null")
        means.append(total / (255 * n))
        deviations.append(math.sqrt((n * squares - total * total) / (255 * n) ** 2))
    return tuple(means), tuple(deviations)
