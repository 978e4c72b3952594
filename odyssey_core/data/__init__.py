"""Datasets: uint8 images and int64 labels, checked once when they are loaded.

``DATASETS[name](...)`` gives a ``Dataset``; nothing past it opens a data file or checks a label.
"""

from odyssey_core.data.dataset import Dataset, Images, PerChannel, of_shape
from odyssey_core.data.options import pixel_options
from odyssey_core.data.split import epoch_order, stratified_split
from odyssey_core.registry import Registry

DATASETS = Registry(
    "dataset",
    {
        "cifar10": "odyssey_core.data.cifar:cifar10",
        "cifar100": "odyssey_core.data.cifar:cifar100",
        "fashion_mnist": "odyssey_core.data.mnist_like:fashion_mnist",
        "folder": "odyssey_core.data.folder:folder",
        "kmnist": "odyssey_core.data.mnist_like:kmnist",
        "kuzushiji49": "odyssey_core.data.mnist_like:kuzushiji49",
        "mnist": "odyssey_core.data.mnist:mnist",
        "noise": "odyssey_core.data.noise:noise",
        "npz": "odyssey_core.data.npz:npz",
        "qmnist": "odyssey_core.data.mnist_like:qmnist",
        "svhn": "odyssey_core.data.svhn:svhn",
        "table": "odyssey_core.data.table:table",
        "usps": "odyssey_core.data.usps:usps",
    },
    "datasets",
    makes="odyssey_core.data:Dataset",
)

__all__ = [
    "DATASETS", "Dataset", "Images", "PerChannel", "epoch_order", "of_shape", "pixel_options", "stratified_split",
]  # fmt: skip
