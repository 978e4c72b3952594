"""Which image is used when: the validation split, and the order of an epoch."""

from __future__ import annotations

from odyssey_core import lazy_numpy as np
from odyssey_core.errors import ConfigError
from odyssey_core.random import permutation


def stratified_split(labels: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sets ``size`` images aside for validation, each class in proportion to its share.

    A class with n of N images gives floor(size n / N) of them, and one more where the remainder is among the
    largest (the lower class first among equals), so that exactly ``size`` are taken. Integers only.

    Args:
        labels: (N,) int64.
        size: images to set aside.
        seed: which ones; the same seed gives the same split on every machine.

    Returns:
        The indices that stay and those set aside, both int64 and sorted.

    Raises:
        ConfigError: a size below the number of classes present, or one that leaves nothing to train on.
    """
    total, counts = len(labels), np.bincount(labels)
    present = int(np.count_nonzero(counts))
    if not present <= size < total:
        raise ConfigError(
            f"validation split: expected between {present} (the number of classes) and {total - 1} images "
            f"(there are {total} to train on), got {size}; change the size of the validation split"
        )
    quotas, remainders = np.divmod(counts * size, total)
    quotas[np.argsort(-remainders, kind="stable")[: size - quotas.sum()]] += 1

    shuffled = permutation(total, seed=seed, stream="data/split")
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    rank_in_class = np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = rank_in_class < np.repeat(quotas, counts)
    return np.sort(by_class[~chosen]), np.sort(by_class[chosen])


def epoch_order(indices: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The batches of one epoch: every index once, shuffled by (seed, epoch).

    Args:
        indices: (n,) int64, the images to train on.
        batch_size: images a step.
        seed: of the shuffle.
        epoch: counted from 0; each has its own order, whatever came before.

    Returns:
        (ceil(n / batch_size), batch_size) int64; the last row is filled up with -1, which stands for no image.

    Raises:
        ConfigError: a batch size below 1 or above n.
    """
    count = len(indices)
    if not 1 <= batch_size <= count:
        raise ConfigError(
            f"trainer.batch_size: expected between 1 and {count} (the number of training images), got {batch_size}"
        )
    steps = -(-count // batch_size)
    order = np.full(steps * batch_size, -1, np.int64)
    order[:count] = np.asarray(indices, np.int64)[permutation(count, seed=seed, stream="data/order", epoch=epoch)]
    return order.reshape(steps, batch_size)
