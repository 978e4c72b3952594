"""Sets that were made to replace MNIST: 28×28, grey, light on dark, in its files or in NumPy's."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from odyssey_core import lazy_numpy as np
from odyssey_core.data.dataset import Dataset, of_shape
from odyssey_core.data.files import Part, Source, published
from odyssey_core.data.idx import read_idx
from odyssey_core.data.npy import read_npy
from odyssey_core.data.options import pixel_options
from odyssey_core.data.preparation import DIGITS, Preparation
from odyssey_core.errors import DataError

IMAGES, LABELS = "images-idx3-ubyte.gz", "labels-idx1-ubyte.gz"
FASHION = Source(
    {
        f"train-{IMAGES}": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        f"train-{LABELS}": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        f"t10k-{IMAGES}": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        f"t10k-{LABELS}": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
    ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    digest="8fa3d3e5ae663e715740ac222296faf1918b00f15f162f9dd705edf69e3d3062",
)
KUZUSHIJI = Source(
    {
        f"train-{IMAGES}": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        f"train-{LABELS}": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        f"t10k-{IMAGES}": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        f"t10k-{LABELS}": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    },
    ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
)
KUZUSHIJI_49 = Source({f"k49-{part}-{kind}.npz": "" for part in ("train", "test") for kind in ("imgs", "labels")})
QMNIST = Source(  # its authors and torchvision publish MD5 alone
    {
        f"qmnist-train-{IMAGES}": "ed72d4157d28c017586c42bc6afe6370",
        "qmnist-train-labels-idx2-int.gz": "0058f8dd561b90ffdd0f734c6a30e5e4",
        f"qmnist-test-{IMAGES}": "1394631089c404de565df7b7aeaf9412",
        "qmnist-test-labels-idx2-int.gz": "5b5b05890a5e13444e108efe57b788aa",
    },
    ("https://raw.githubusercontent.com/facebookresearch/qmnist/master/",),
)
CLOTHES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
# In Hepburn's spelling, since few fonts draw kana; in the order of their code points from U+3042 to U+309D.
ROWS = "o ki su tsu na ha ma ya re wo"
HIRAGANA = """
a i u e o ka ki ku ke ko sa shi su se so ta chi tsu te to na ni nu ne no ha hi fu he ho ma mi mu me mo ya yu yo ra ri
ru re ro wa wi we wo n
"""
CODH = "CC BY-SA 4.0: KMNIST Dataset (created by CODH), adapted from Kuzushiji Dataset (NIJL and others)"
# Cut out, made smaller until the longer side fits, put in the middle and inverted: Xiao, Rasul, Vollgraf, section 2.
PADDED = Preparation("resize", {"mode": "pad", "polarity": "light on dark"})


@pixel_options
@of_shape((1, 28, 28))
def fashion_mnist(root: str | None = None) -> Dataset:
    """Fashion-MNIST: 60,000 + 10,000 pieces of clothing, pixels (N, 1, 28, 28) uint8, upright, 10 classes.

    Args:
        root: a folder with the four published files, packed or unpacked; downloaded once where it is None.

    Raises:
        DataError: a file that is missing, damaged or out of range, or that cannot be downloaded.

    Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking", 2017.
    """
    return published("fashion_mnist", root, FASHION, CLOTHES, "MIT, Zalando SE", preparation=PADDED)


@pixel_options
@of_shape((1, 28, 28))
def kmnist(root: str | None = None) -> Dataset:
    """Kuzushiji-MNIST: 60,000 + 10,000 cursive hiragana, pixels (N, 1, 28, 28) uint8, upright, 10 classes.

    Each class is one row of the syllabary, by one of its characters.

    Args:
        root: a folder with the four published files, packed or unpacked; downloaded once where it is None.

    Raises:
        DataError: a file that is missing, damaged or out of range, or that cannot be downloaded.

    Source: Clanuwat and others, "Deep Learning for Classical Japanese Literature", 2018.
    """
    return published("kmnist", root, KUZUSHIJI, tuple(ROWS.split()), CODH, preparation=PADDED)


@pixel_options
@of_shape((1, 28, 28))
def kuzushiji49(root: str) -> Dataset:
    """Kuzushiji-49: 232,365 + 38,547 cursive hiragana, pixels (N, 1, 28, 28) uint8, upright, 49 classes.

    The files are NumPy's. No checksum of them is known here: they are not downloaded, and no run calls them official.

    Args:
        root: a folder with k49-train-imgs.npz, k49-train-labels.npz and their like for test.

    Raises:
        DataError: a file that is missing, damaged or out of range.

    Source: Clanuwat and others, "Deep Learning for Classical Japanese Literature", 2018, section 3.2.
    """
    names = (*HIRAGANA.split(), "iteration mark")
    return published("kuzushiji49", root, KUZUSHIJI_49, names, CODH, preparation=PADDED, read=_of_numpy)


@pixel_options
@of_shape((1, 28, 28))
def qmnist(root: str | None = None) -> Dataset:
    """QMNIST: MNIST's digits made again from NIST's, 60,000 + 60,000, pixels (N, 1, 28, 28) uint8, upright, 10 classes.

    Of the eight numbers that the files have for each image, the first is the class; the writer and the place in NIST's
    series, among the others, are not read.

    Args:
        root: a folder with the four published files, packed or unpacked; downloaded once where it is None.

    Raises:
        DataError: a file that is missing, damaged or out of range, or that cannot be downloaded.

    Source: Yadav, Bottou, "Cold Case: The Lost MNIST Digits", 2019.
    """
    return published(
        "qmnist", root, QMNIST, tuple("0123456789"), "BSD 3-clause, Facebook", preparation=DIGITS,
        read=_of_qmnist,
    )  # fmt: skip


def _of_qmnist(paths: Sequence[Path]) -> Iterator[Part]:
    for image_path, label_path in (paths[:2], paths[2:]):
        pixels, labels = read_idx(image_path, rank=3), read_idx(label_path, rank=2, element="int32")
        if labels.shape != (len(pixels), 8):
            raise DataError(f"{label_path}: expected labels ({len(pixels)}, 8), got {labels.shape}; is it QMNIST's?")
        yield Part(pixels[:, None], labels[:, 0], label_path)


def _of_numpy(paths: Sequence[Path]) -> Iterator[Part]:
    for image_path, label_path in (paths[:2], paths[2:]):
        pixels, labels = read_npy(image_path, "arr_0"), read_npy(label_path, "arr_0")
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (28, 28) or labels.shape != pixels.shape[:1]:
            raise DataError(
                f"{image_path}: expected uint8 images (N, 28, 28) and as many labels, got {pixels.dtype} "
                f"{pixels.shape} and {labels.shape}"
            )
        yield Part(pixels[:, None], labels, label_path)
