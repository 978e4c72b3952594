"""Random images, to measure a model's speed with: as many, as large and of as many classes as one likes."""

from odyssey_core import lazy_numpy as np
from odyssey_core.data.dataset import Dataset, Images, of_shape
from odyssey_core.data.options import pixel_options
from odyssey_core.random import words
from odyssey_core.ranges import Count


@pixel_options
@of_shape(lambda shape=(3, 32, 32), **_: shape)
def noise(shape: tuple[Count, Count, Count] = (3, 32, 32), classes: Count = 10, count: Count = 1000) -> Dataset:
    """Pixels (count, *shape) uint8 that are all random, and as many others to test with; classes in turn.

    A model can memorise the training images; there is nothing else to learn.

    Args:
        shape: (C, H, W) of an image.
        classes: how many.
        count: images to train on, and to test on.
    """
    size = int(np.prod(shape))
    labels = np.arange(count, dtype=np.int64) % classes
    drawn = (words(count * size, seed=seed, stream="noise") >> np.uint32(24) for seed in (0, 1))
    train, test = (Images(each.astype(np.uint8).reshape(-1, *shape), labels) for each in drawn)
    return Dataset("noise", train, test, tuple(map(str, range(classes))))
