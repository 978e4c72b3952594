"""A trained model as a folder that MLflow loads and serves: weights as safetensors, code by name, nothing pickled.

Written by hand, since importing MLflow to do so would hold a run up by two seconds; a test has MLflow read it.
"""

import hashlib
import json
import platform
import uuid
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from string import Template

import numpy as np

from odyssey_core.files import write_atomic
from odyssey_core.machine import installed_version

FOLDER, WEIGHTS = "model", "weights.safetensors"
REQUIREMENTS = ("mlflow", "ml-odyssey", "numpy", "numba", "safetensors")
PYTHON = platform.python_version()


def write(folder: Path, weights: Path, example: np.ndarray, images: str, classes: int, backend: str) -> Path:
    """Writes the model; returns its folder.

    Args:
        example: (n, C, H, W) uint8 images, upright.
        images: what images it takes, for people.
        backend: by name, what runs it where it is served; an own operation may be known to one backend alone.
    """
    model, content = folder / FOLDER, weights.read_bytes()
    served = example[:, 0] if example.shape[1] == 1 else example  # (n, H, W) where there is one channel
    inputs = json.dumps(served.tolist())
    description, environment = _shared()
    described = description.substitute(
        backend=backend,
        weights=hashlib.sha256(content).hexdigest(),
        sizes=", ".join(map(str, served.shape[1:])),
        classes=classes,
        images=json.dumps(f"{images}, whole numbers from 0 to 255", ensure_ascii=False),
        python=PYTHON,
        mlflow=installed_version("mlflow"),
        uuid=uuid.uuid4().hex,
        now=datetime.now(UTC).replace(tzinfo=None),
    )
    asked = f'{{"inputs": {inputs}}}'
    texts = {"input_example.json": inputs, "serving_input_example.json": asked, **environment, "MLmodel": described}
    for name, file in {WEIGHTS: content, **{name: text.encode() for name, text in texts.items()}}.items():
        # Nothing waits for the disk, seven times for each point of a sweep: the weights lie beside the folder, durably,
        # and whoever serves it checks them.
        write_atomic(model / name, file, durable=False)
    return model


@cache  # a sweep asks for every point
def _shared() -> tuple[Template, dict[str, str]]:
    """The template of MLmodel, and the files from which MLflow makes an environment that loads the model."""
    pins = [f"{name}=={found}" for name in REQUIREMENTS if (found := installed_version(name))]
    conda = f"channels: [conda-forge]\ndependencies: [python={PYTHON}, pip, pip: [{', '.join(pins)}]]\n"
    return Template(Path(__file__).with_name("MLmodel.yaml").read_text(encoding="utf-8")), {
        "requirements.txt": "".join(f"{pin}\n" for pin in pins),
        "python_env.yaml": f"python: {PYTHON}\nbuild_dependencies: [pip]\ndependencies: [-r requirements.txt]\n",
        "conda.yaml": conda,
    }
