"""Datasets: uint8 images and int64 labels, checked once when they are loaded.

``DATASETS[name](..., mean, std)`` gives a ``Dataset``; nothing past it opens a data file or checks a label.
"""

from odyssey_core.data.dataset import Dataset, Images
from odyssey_core.data.split import epoch_order, stratified_split
from odyssey_core.registry import Registry

DATASETS = Registry(
    "dataset",
    {
        "emnist": "odyssey_core.data.emnist:emnist",
        "mnist": "odyssey_core.data.mnist:mnist",
        "digits": "odyssey_core.data.digits:digits",
        "glyphs": "odyssey_core.data.glyphs:glyphs",
    },
)

INPUT_SHAPE = (1, 28, 28)  # (C, H, W) of them all: a model can be tried before anything is loaded

__all__ = ["DATASETS", "INPUT_SHAPE", "Dataset", "Images", "epoch_order", "stratified_split"]
