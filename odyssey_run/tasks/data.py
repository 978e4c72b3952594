"""``task=data``: gets a data set, checks it, counts its classes and draws some of each."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from odyssey_run.assemble import Request


def data(request: "Request", out: str | None) -> int:
    """Prints what the data are and writes the picture.

    Raises:
        OdysseyError: data that cannot be had or read.
    """
    from odyssey_run.plots import style
    from odyssey_run.plots.images import samples

    dataset = request.data.build()
    official = "the official files" if dataset.official else "not the official files"
    shape = "×".join(map(str, dataset.input_shape))
    print(f"{dataset.name}: {len(dataset.train):,} train, {len(dataset.test):,} test, {shape}, {official}")
    print(f"SHA-256 {dataset.digest}")
    counts = [np.bincount(part.labels, minlength=dataset.classes) for part in (dataset.train, dataset.test)]
    print(f"\n{'class':<6}{'train':>9}{'test':>9}")
    for name, train, test in zip(dataset.class_names, *counts, strict=True):
        print(f"{name:<6}{train:>9,}{test:>9,}")
    with style.styled():
        print(f"\n{style.save(samples(dataset, counts[0]), Path(out or f'{dataset.name}.png'))}")
    return 0
