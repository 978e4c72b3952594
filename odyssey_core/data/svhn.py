"""SVHN: house numbers from photographs of streets, 32×32, in colour, from MATLAB files."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from odyssey_core import lazy_numpy as np
from odyssey_core.data.cache import room
from odyssey_core.data.dataset import Dataset, of_shape
from odyssey_core.data.files import Part, Source, published
from odyssey_core.data.options import pixel_options
from odyssey_core.errors import ConfigError, DataError

SVHN = Source(
    {
        "train_32x32.mat": "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
        "test_32x32.mat": "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
    },
    ("http://ufldl.stanford.edu/housenumbers/",),
)
MOVED = 1024  # images at once


@pixel_options
@of_shape((3, 32, 32))
def svhn(root: str | None = None) -> Dataset:
    """The cropped digits of SVHN: 73,257 + 26,032, pixels (N, 3, 32, 32) uint8, upright, 10 classes.

    The files call the digit 0 class 10, and have the number of the image as their last axis; both are put right here.

    Args:
        root: a folder with train_32x32.mat and test_32x32.mat; downloaded once where it is None.

    Raises:
        DataError: a file that is missing, damaged or out of range, or that cannot be downloaded.
        ConfigError: SciPy, which reads these files, is not installed.

    Source: Netzer and others, "Reading Digits in Natural Images with Unsupervised Feature Learning", 2011.
    """
    licence = "for non-commercial use; cite Netzer and others, 2011"
    return published("svhn", root, SVHN, tuple("0123456789"), licence, read=_parts)


def _parts(paths: Sequence[Path]) -> Iterator[Part]:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise ConfigError("data=svhn needs SciPy, which is not installed; pip install scipy") from None
    for path in paths:
        try:
            found = loadmat(path, variable_names=["X", "y"])
            images, labels = found["X"], found["y"].reshape(-1)
        except Exception as error:  # a damaged file makes SciPy's reader raise almost anything
            raise DataError(f"{path}: expected a MATLAB file with X and y, got {error}; is it whole?") from None
        if images.dtype != np.uint8 or images.shape != (32, 32, 3, len(labels)):
            raise DataError(
                f"{path}: expected X uint8 (32, 32, 3, N) and as many labels y, got {images.dtype} {images.shape} and "
                f"{len(labels)}"
            )
        pixels = room((len(labels), 3, 32, 32))
        for start in range(0, len(labels), MOVED):
            pixels[start : start + MOVED] = images[..., start : start + MOVED].transpose(3, 2, 0, 1)
        yield Part(pixels, np.where(labels == 10, 0, labels), path)
