"""MNIST: 60,000 + 10,000 handwritten digits, 28×28."""

from odyssey_core.data.dataset import Dataset, of_shape
from odyssey_core.data.files import Source, published
from odyssey_core.data.options import pixel_options
from odyssey_core.data.preparation import DIGITS

MNIST = Source(
    {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    digest="1181f68a4abdeb7a95c490660bfad715f80ad9de90bb6d412a959a9d559ad2be",
)


@pixel_options
@of_shape((1, 28, 28))
def mnist(root: str | None = None) -> Dataset:
    """The MNIST digits: pixels (N, 1, 28, 28) uint8, upright, 10 classes.

    Args:
        root: a folder with the four published files, packed or unpacked; downloaded once where it is None.

    Raises:
        DataError: a file that is missing, damaged or out of range, or that cannot be downloaded.

    Source: LeCun, Bottou, Bengio, Haffner 1998, section III-A.
    """
    return published("mnist", root, MNIST, tuple("0123456789"), preparation=DIGITS)
