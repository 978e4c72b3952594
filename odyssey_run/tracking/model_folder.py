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
from typing import Any

import numpy as np

from odyssey_core.files import write_atomic
from odyssey_core.machine import installed_version
from odyssey_run.config.yaml_text import yaml_text

FOLDER, WEIGHTS = "model", "weights.safetensors"
EXAMPLE, SERVING_EXAMPLE = "input_example.json", "serving_input_example.json"
REQUIREMENTS = ("mlflow", "ml-odyssey", "numpy", "numba", "safetensors")
_version = cache(installed_version)


def write(folder: Path, weights: Path, example: np.ndarray, images: str, classes: int, backend: str) -> Path:
    """Writes the model; returns its folder.

    Args:
        example: (n, C, H, W) uint8 images, upright.
        images: what images it takes, for people.
        backend: by name, what runs it where it is served; an own operation may be known to one backend alone.
    """
    model = folder / FOLDER
    served = example[:, 0] if example.shape[1] == 1 else example  # (n, H, W) where there is one channel
    inputs = json.dumps(served.tolist()).encode()
    contents = {
        WEIGHTS: weights.read_bytes(),
        **_environment(),
        EXAMPLE: inputs,
        SERVING_EXAMPLE: b'{"inputs": ' + inputs + b"}",
    }
    description = _description(
        example.shape[1:], images, classes, backend, hashlib.sha256(contents[WEIGHTS]).hexdigest()
    )
    contents["MLmodel"] = yaml_text(description).encode()
    for name, content in contents.items():
        # Nothing waits for the disk, seven times for each point of a sweep: the weights lie beside the folder, durably,
        # and whoever serves it checks them.
        write_atomic(model / name, content, durable=False)
    return model


@cache  # a sweep asks for every point
def _environment() -> dict[str, bytes]:
    """The files from which MLflow makes an environment that the model can be loaded in."""
    pins = [f"{name}=={found}" for name in REQUIREMENTS if (found := _version(name))]
    dependencies = [f"python={platform.python_version()}", "pip", {"pip": pins}]
    python = {
        "python": platform.python_version(),
        "build_dependencies": ["pip"],
        "dependencies": ["-r requirements.txt"],
    }
    return {
        "requirements.txt": "".join(f"{pin}\n" for pin in pins).encode(),
        "python_env.yaml": yaml_text(python).encode(),
        "conda.yaml": yaml_text({"channels": ["conda-forge"], "dependencies": dependencies}).encode(),
    }


def _description(shape: tuple[int, ...], images: str, classes: int, backend: str, weights: str) -> dict[str, Any]:
    sizes = list(shape[1:] if shape[0] == 1 else shape)
    inputs = [{"type": "tensor", "tensor-spec": {"dtype": "uint8", "shape": [-1, *sizes]}}]
    outputs = [
        {"type": "tensor", "name": "labels", "tensor-spec": {"dtype": "str", "shape": [-1]}},
        {"type": "tensor", "name": "probabilities", "tensor-spec": {"dtype": "float64", "shape": [-1, classes]}},
    ]
    return {
        "flavors": {
            "python_function": {
                "loader_module": "odyssey_run.tracking.serving",
                "data": WEIGHTS,
                "config": {"backend": backend, "weights_sha256": weights},
                "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                "python_version": platform.python_version(),
                "streamable": False,
            }
        },
        # The model checks its input itself: MLflow's own way from JSON to uint8 would cut fractions off in silence.
        "is_signature_from_type_hint": True,
        "type_hint_from_example": False,
        "signature": {"inputs": json.dumps(inputs), "outputs": json.dumps(outputs), "params": None},
        "saved_input_example_info": {
            "artifact_path": EXAMPLE,
            "serving_input_path": SERVING_EXAMPLE,
            "type": "ndarray",
        },
        "metadata": {"images": f"{images}, whole numbers from 0 to 255"},
        "mlflow_version": _version("mlflow"),
        "model_uuid": uuid.uuid4().hex,
        "utc_time_created": f"{datetime.now(UTC).replace(tzinfo=None)}",
    }
