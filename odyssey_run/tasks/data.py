"""``task=data``: gets a data set, checks it, counts its classes and draws some of each."""

import numpy as np

from odyssey_core.data.dataset import listed
from odyssey_core.places import expanded
from odyssey_run.config.request import Request
from odyssey_run.reports import summary
from odyssey_run.reports.outputs import writing
from odyssey_run.reports.tables import columns


def data(request: Request, out: str | None) -> int:
    """Prints what the data are and writes the picture. Raises OdysseyError where they cannot be had or read."""
    from odyssey_run.reports import style  # beside Matplotlib's import
    from odyssey_run.reports.images import samples

    dataset = request.data.build()
    shape = "×".join(map(str, dataset.input_shape))
    sizes = f"{len(dataset.train):,} train, {len(dataset.test):,} test, {shape}"
    print(f"{dataset.name}: {sizes}{summary.official(str(dataset.official), ', ')}")
    print(f"SHA-256 {dataset.digest}")
    counts = [np.bincount(part.labels, minlength=dataset.classes) for part in (dataset.train, dataset.test)]
    rows = [(name, f"{train:,}", f"{test:,}") for name, train, test in zip(dataset.class_names, *counts, strict=True)]
    print("", *columns([("class", "train", "test"), *rows], between=" " * 5), sep="\n")
    if empty := [name for name, *parts in zip(dataset.class_names, *counts, strict=True) if not all(parts)]:
        print(f"\nwithout an image in one part or both: {listed(empty)}")
    if dataset.licence:
        print(f"\nlicence: {dataset.licence}")
    if dataset.left_out:
        print("\nleft out:", *dataset.left_out, sep="\n  ")
    path = expanded(out or f"{dataset.name}.png")
    with style.styled(), writing(path):
        print(f"\n{style.save(samples(dataset, counts[0]), path)}")
    return 0
