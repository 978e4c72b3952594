"""Small IDX files for the tests."""

import gzip
import struct

import numpy as np


def idx_bytes(array):
    """An array as the bytes of an IDX file."""
    array = np.asarray(array, np.uint8)
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def small_files(folder, prefix, labels=(0, 1, 2, 3, 4, 5, 6, 7), size=28, pack=gzip.compress):
    """Four IDX files with EMNIST's names, of a few random images, and the names."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), size, size), np.uint8)
    names = []
    for part in ("train", "test"):
        for kind, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            names.append(f"{prefix}-{part}-{kind}-ubyte{'.gz' if pack is gzip.compress else ''}")
            (folder / names[-1]).write_bytes(pack(idx_bytes(array)))
    return names, pixels
