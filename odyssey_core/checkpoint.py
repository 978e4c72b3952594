"""Arrays on disk: safetensors, written whole or not at all, and with a digest of all that they hold."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from odyssey_core.errors import DataError
from odyssey_core.files import write_atomic

CONTENT = "content_sha256"  # the key in the metadata; it covers the rest of them and every array


def artifact_names(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays under the names of the project's first version: conv1_kernel, fc1_weights, conv1_bias."""
    word = {4: "kernel", 2: "weights"}
    renamed = {}
    for path, value in weights.items():
        layer, _, leaf = path.rpartition(".")
        renamed[f"{layer}_{word.get(value.ndim, leaf) if leaf == 'weight' else leaf}"] = value
    return renamed


def model_names(weights: dict[str, np.ndarray], artifact: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inverse of ``artifact_names`` for a model whose parameters are ``weights``; takes PyTorch's names as well.

    Raises:
        DataError: the file lacks one of the model's tensors.
    """
    if weights.keys() <= artifact.keys():
        return {path: artifact[path] for path in weights}
    back = dict(zip(artifact_names(weights), weights, strict=True))
    missing = sorted(path for name, path in back.items() if name not in artifact)
    if missing:
        raise DataError(f"weights file: missing {missing}; it holds {sorted(artifact)}")
    return {path: artifact[name] for name, path in back.items()}


def save_weights(path: Path, weights: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes arrays with string metadata as safetensors, atomically; the metadata get a digest of all of it."""
    # safetensors 0.8.0 writes arrays that are not in C order scrambled.
    arrays = {name: np.ascontiguousarray(value) for name, value in weights.items()}
    write_atomic(path, save(arrays, {**metadata, CONTENT: content_digest(arrays, metadata)}))


def load_weights(path: Path, foreign: bool = False) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads what ``save_weights`` wrote.

    Args:
        path: of the file.
        foreign: whether a file that another program wrote, which has no digest, will do.

    Raises:
        DataError: the file is missing, is not whole safetensors, or is not what was written.
    """
    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = file.metadata() or {}
    except (OSError, SafetensorError, ValueError, AttributeError, KeyError) as error:
        raise DataError(f"cannot read weights from {path}: {error}{_foreign(Path(path))}") from None
    except TypeError as error:  # a number format that NumPy does not have
        raise DataError(f"cannot read weights from {path}: {error}; save them as float32") from None
    # Once some package has taught NumPy such a format, it comes through.
    if strange := [f"{name} is {value.dtype}" for name, value in arrays.items() if value.dtype.kind not in "iufb"]:
        raise DataError(f"cannot read weights from {path}: {strange[0]}; save them as float32")
    if foreign and CONTENT not in about and "class_names" not in about:  # which no other program writes
        return arrays, about
    if about.get(CONTENT) != content_digest(arrays, about):
        stated = about.get(CONTENT, "none")[:12]
        raise DataError(
            f"cannot use {path}: SHA-256 of its content is {content_digest(arrays, about)[:12]}, it states {stated}; "
            "it is damaged, or was changed, or is not of this version of the program"
        )
    return arrays, about


def _foreign(path: Path) -> str:
    """What to do about a file of another program's kind, known by its first bytes."""
    try:
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError:
        return ""
    if head[:2] in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"):  # a zip archive, or a pickle
        return (
            "; it is pickled, as torch.save and NumPy write it, and pickles are not opened here: in PyTorch, "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors') keeps the same without code"
        )
    if head == b"\x89HDF\r\n\x1a\n":
        return "; it is HDF5, as Keras writes it: convert it to safetensors with the names conv1.weight, conv1.bias"
    return ""


def content_digest(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """SHA-256 over names, types, shapes and bytes, in order of name, and the metadata but for the digest itself."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {value.dtype.str} {value.shape}\n".encode())
        sha.update(value.tobytes())
    told = {key: value for key, value in metadata.items() if key != CONTENT}
    sha.update(json.dumps(told, sort_keys=True).encode())
    return sha.hexdigest()


def digest(weights: dict[str, np.ndarray]) -> str:
    """SHA-256 over names, shapes and float32 bytes, in order of name: hexadecimal."""
    sha = hashlib.sha256()
    for name in sorted(weights):
        value = np.ascontiguousarray(weights[name], np.float32)
        sha.update(f"{name} {value.shape}\n".encode())
        sha.update(value.tobytes())
    return sha.hexdigest()
