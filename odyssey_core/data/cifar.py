"""CIFAR-10 and CIFAR-100: 50,000 + 10,000 colour photographs, 32×32, from the binary files.

A record is one label byte in CIFAR-10, two in CIFAR-100, coarse before fine; then 1,024 bytes of red, of green and of
blue, row by row. The "Python version" of these sets is a pickle, which may run anything, and is not read.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from odyssey_core import lazy_numpy as np
from odyssey_core.data.cache import room
from odyssey_core.data.dataset import Dataset, of_shape
from odyssey_core.data.files import Part, Source, published
from odyssey_core.data.options import pixel_options
from odyssey_core.errors import DataError

SHAPE, PIXELS = (3, 32, 32), 3 * 32 * 32
READ = 1000  # records at once
HOST = "https://www.cs.toronto.edu/~kriz/"
LICENCE = "no licence is stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009"
CIFAR10 = Source(
    {
        "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
        "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
        "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
        "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
        "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
        "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
    },
    archive=(
        (HOST + "cifar-10-binary.tar.gz",),
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        "cifar-10-batches-bin",
    ),
)
CIFAR100 = Source(  # of the archive alone a checksum is known: what was unpacked from it counts as official
    {"train.bin": "", "test.bin": ""},
    archive=(
        (HOST + "cifar-100-binary.tar.gz",),
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        "cifar-100-binary",
    ),
)
TEN = """
airplane automobile bird cat deer dog frog horse ship truck
"""
COARSE = """
aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture
insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores
medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2
"""
FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale
willow_tree wolf woman worm
"""


@pixel_options
@of_shape(SHAPE)
def cifar10(root: str | None = None) -> Dataset:
    """CIFAR-10: pixels (N, 3, 32, 32) uint8, upright, 10 classes.

    Args:
        root: a folder with data_batch_1.bin to data_batch_5.bin and test_batch.bin; downloaded once where it is None.

    Raises:
        DataError: a file that is missing, damaged or out of range, or that cannot be downloaded.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, chapter 3.
    """
    return published("cifar10", root, CIFAR10, tuple(TEN.split()), LICENCE, read=partial(_parts, labels=1, use=0))


@pixel_options
@of_shape(SHAPE)
def cifar100(
    labels: Literal["fine", "coarse"] = "fine",
    root: str | None = None,
) -> Dataset:
    """CIFAR-100: pixels (N, 3, 32, 32) uint8, upright, 100 classes in 20 groups.

    Args:
        labels: ``fine``, the 100 classes; ``coarse``, the 20 groups. The files have both, coarse first.
        root: a folder with train.bin and test.bin; downloaded once where it is None.

    Raises:
        DataError: a file that is missing, damaged or out of range, or that cannot be downloaded.

    Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, chapter 3.
    """
    names, use = (FINE, 1) if labels == "fine" else (COARSE, 0)
    read = partial(_parts, labels=2, use=use)
    return published(f"cifar100-{labels}", root, CIFAR100, tuple(names.split()), LICENCE, read=read)


def _parts(paths: Sequence[Path], labels: int, use: int) -> Iterator[Part]:
    """Training images from all files but the last, test images from that."""
    for files in (paths[:-1], paths[-1:]):
        counts = [_records(path, PIXELS + labels) for path in files]
        pixels, found, start = room((sum(counts), *SHAPE)), np.empty(sum(counts), np.uint8), 0
        for path, count in zip(files, counts, strict=True):
            with open(path, "rb") as file:
                for first in range(start, start + count, READ):
                    size = min(READ, start + count - first)
                    records = np.fromfile(file, np.uint8, size * (PIXELS + labels)).reshape(size, -1)
                    found[first : first + size] = records[:, use]
                    pixels[first : first + size] = records[:, labels:].reshape(size, *SHAPE)
            start += count
        yield Part(pixels, found, files[0])


def _records(path: Path, size: int) -> int:
    got = path.stat().st_size
    if not got or got % size:
        raise DataError(
            f"{path}: expected records of {size:,} bytes, got {got:,} bytes, which is no multiple; is it the binary "
            "version, and whole?"
        )
    return got // size
