"""Datasets: uint8 images and int64 labels, checked once when they are loaded.

``DATASETS[name](..., mean, std)`` gives a ``Dataset``; nothing past it opens a data file or checks a label.
"""

from odyssey_core.data.dataset import Dataset, Images, PerChannel, of_shape
from odyssey_core.data.split import epoch_order, stratified_split
from odyssey_core.registry import Registry

DATASETS = Registry(
    "dataset",
    {
        "folder": "odyssey_core.data.folder:folder",
        "mnist": "odyssey_core.data.mnist:mnist",
    },
    "datasets",
)

__all__ = ["DATASETS", "Dataset", "Images", "PerChannel", "epoch_order", "of_shape", "stratified_split"]
