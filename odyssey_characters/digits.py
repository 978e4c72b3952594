"""Digits: scikit-learn's bundled 1,797 handwritten digits, enlarged to 28×28. Needs no network."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from odyssey_characters.preparations import PREPARATIONS
from odyssey_core import lazy_numpy as np
from odyssey_core.data.cache import cached
from odyssey_core.data.dataset import Dataset, Images, of_shape
from odyssey_core.data.options import pixel_options
from odyssey_core.data.split import stratified_split

TEST_SIZE = 360
DIGEST = "9d1fdd65f97c060a5bc8293f7ce52f34b5327a4864ab1704e67ce7b0cc2f38f3"
SOURCE_SIZE, SIZE, SOURCE_MAX = 8, 28, 16


@pixel_options
@of_shape((1, 28, 28))
def digits() -> Dataset:
    """Handwritten digits: pixels (1437, 1, 28, 28) and (360, 1, 28, 28) uint8, upright, 10 classes.

    The test set is a fixed stratified fifth. ``official`` tells whether the images are those of
    scikit-learn 1.9.

    Source: Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
    """
    # Importing scikit-learn takes a second or more; a copy of what it gave takes none.
    train, test, _, digest = cached("digits", [1, version("scikit-learn")], _build)
    return Dataset(
        "digits",
        train,
        test,
        tuple("0123456789"),
        digest=digest,
        official=digest == DIGEST,
        preparation=PREPARATIONS["digits"],
    )


def _build() -> tuple[Images, Images, dict[str, Any]]:
    from sklearn.datasets import load_digits

    bundled = load_digits()
    pixels = enlarge(bundled.images.astype(np.int64))[:, None]
    labels = bundled.target.astype(np.int64)
    train, test = (Images(pixels[chosen], labels[chosen]) for chosen in stratified_split(labels, TEST_SIZE, seed=0))
    return train, test, {}


def enlarge(images: np.ndarray) -> np.ndarray:
    """Bilinear enlargement, exact: (N, 8, 8) int64 in 0..16 to (N, 28, 28) uint8.

    The centre of pixel i lies at (2i + 1)/7 - 1/2 = (4i - 5)/14 of the source, so all weights are fourteenths.
    """
    position = np.clip(4 * np.arange(SIZE) - 5, 0, 14 * (SOURCE_SIZE - 1))
    low = np.minimum(position // 14, SOURCE_SIZE - 2)
    weights = np.zeros((SIZE, SOURCE_SIZE), np.int64)
    weights[np.arange(SIZE), low + 1] = position - 14 * low
    weights[np.arange(SIZE), low] = 14 - weights[np.arange(SIZE), low + 1]
    scaled = weights @ images @ weights.T
    full = 14 * 14 * SOURCE_MAX
    return np.asarray((scaled * 255 + full // 2) // full, np.uint8)
