"""EMNIST: handwritten digits and letters from NIST Special Database 19, 28×28, in six splits."""

from odyssey_characters.lookalikes import LOOKALIKES
from odyssey_characters.preparations import PREPARATIONS
from odyssey_core.data.dataset import Dataset, of_shape
from odyssey_core.data.files import Source, load_files, located
from odyssey_core.data.options import pixel_options
from odyssey_core.errors import ConfigError
from odyssey_core.registry import unknown

URLS = (
    "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
    "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip",
)
ARCHIVE_SHA256 = "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e"
OFFICIAL = {
    "emnist-balanced-train-images-idx3-ubyte.gz": "74295e75e4e9fa2c102147460ee7eb763653d5132d883a84fb88932bfb8d2db4",
    "emnist-balanced-train-labels-idx1-ubyte.gz": "b46d41e5156a0a8aaaa4d18979fdd1588850fa8571018acffd5d93b325a7d6ed",
    "emnist-balanced-test-images-idx3-ubyte.gz": "117fc12b015e37ea98bfb2cbba3f77c3782c056cdbd219b87abfc8661d7135db",
    "emnist-balanced-test-labels-idx1-ubyte.gz": "a67cac948379b67270b9a4d0a01c8ec661598accf2f2b1964340b7c83cb175cd",
}

DIGITS = "0123456789"
CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
# The 15 lower-case letters that look like their capitals are merged with them.
MERGED = DIGITS + CAPITALS + "abdefghnqrt"
SPLITS = {
    "byclass": DIGITS + CAPITALS + CAPITALS.lower(),
    "bymerge": MERGED,
    "balanced": MERGED,
    "letters": CAPITALS,
    "digits": DIGITS,
    "mnist": DIGITS,
}


@pixel_options
@of_shape((1, 28, 28))
def emnist(split: str = "balanced", root: str | None = None) -> Dataset:
    """One EMNIST split: pixels (N, 1, 28, 28) uint8, stored transposed.

    ``official`` is certain for ``balanced``, whose four digests are known here, and for any split that was unpacked
    from the published archive by this function; files that came another way or were unpacked count as unofficial.

    Args:
        split: ``byclass`` (62 classes), ``bymerge`` (47), ``balanced`` (47), ``letters`` (26: both cases of a letter
            are one class; labels 1 to 26 in the files, 0 to 25 here), ``digits`` (10) or ``mnist`` (10).
        root: a folder with the split's four published files, packed or unpacked; downloaded once where it is None.

    Raises:
        ConfigError: an unknown split.
        DataError: a file that is missing, damaged or out of range, or that cannot be downloaded.

    Source: Cohen, Afshar, Tapson, van Schaik, "EMNIST: an extension of MNIST to handwritten letters", 2017, table II.
    """
    if split not in SPLITS:
        raise ConfigError(f"data.split: {unknown('EMNIST split', split, SPLITS)}")
    kinds = ("images-idx3", "labels-idx1")
    names = [f"emnist-{split}-{part}-{kind}-ubyte.gz" for part in ("train", "test") for kind in kinds]
    # The archive, which holds all splits, stays: another split needs no second download.
    source = Source({each: OFFICIAL.get(each, "") for each in names}, archive=(URLS, ARCHIVE_SHA256, "gzip"))
    paths, official = located("emnist", root, source)
    loaded = load_files(f"emnist-{split}", paths, official, tuple(SPLITS[split]), first_label=int(split == "letters"))
    return Dataset(
        **loaded,
        orientation="transposed",
        preparation=PREPARATIONS["emnist"],
        alike=None if SPLITS[split] == DIGITS else LOOKALIKES,
    )
