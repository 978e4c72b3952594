"""Beside the decoded pixels next to nothing is needed."""

import numpy as np
import pytest
from PIL import Image

SCRIPT = """
import resource, sys
from odyssey_core.data import DATASETS, npz, picture_set
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begin = peak()
data = DATASETS[sys.argv[1]](sys.argv[2])
print(1024 * (peak() - begin) / (data.train.pixels.nbytes + data.test.pixels.nbytes))
"""


@pytest.mark.slow
def test_a_folder_takes_its_pixels_memory_and_little_more(tmp_path, cache, run_python):
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    for i in range(800):  # 150 MiB
        (tmp_path / "x" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(noise, i)).save(tmp_path / "x" / "ab"[i % 2] / f"{i}.bmp")
    for _ in range(2):  # decoded, and from the copy
        assert float(run_python(SCRIPT, "folder", str(tmp_path / "x"))) < 1.3


@pytest.mark.slow
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_file_takes_its_pixels_memory_and_little_more(tmp_path, cache, run_python, save):
    few = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    images = np.tile(few, (6250, 1, 1, 1))  # 146 MiB, channels last, soon packed
    save(tmp_path / "x.npz", images, np.arange(50_000) % 10)
    for _ in range(2):
        assert float(run_python(SCRIPT, "npz", str(tmp_path / "x.npz"))) < 1.3
