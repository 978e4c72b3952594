"""What MLflow calls to load and ask a model that `model_folder` wrote: its loader module."""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException

from odyssey_core.backends import BACKENDS
from odyssey_core.checkpoint import load_weights
from odyssey_core.classifier import Classifier


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> "ServedModel":
    """MLflow's entry: the model in a weights file; ``model_config={"backend": "numpy"}`` chooses the reference."""
    backend = (model_config or {}).get("backend", "numba")
    options = {"threads": 1} if backend == "numba" else {}  # a server answers many requests, each on its own thread
    return ServedModel(Classifier(*load_weights(path), BACKENDS[backend](**options)))


class ServedModel:
    """Answers one batch at a time.

    Args:
        classifier: trained.
    """

    def __init__(self, classifier: Classifier):
        self.classifier = classifier
        self._lock = threading.Lock()

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Labels and probabilities.

        Args:
            model_input: (N, H, W) or (N, C, H, W) whole numbers from 0 to 255, as an array or nested lists, oriented
                as the training data are stored.
            params: none are known.

        Returns:
            ``labels``, N class names, and ``probabilities`` (N, classes) float64.

        Raises:
            MlflowException: anything else; a server answers 400.
        """
        pixels = self._pixels(model_input)
        with self._lock:
            probabilities = self.classifier.probabilities(pixels)
        names = self.classifier.class_names
        return {"labels": [names[i] for i in probabilities.argmax(axis=1)], "probabilities": probabilities}

    def _pixels(self, given: Any) -> np.ndarray:
        shape = self.classifier.input_shape
        short = shape[1:] if shape[0] == 1 else shape
        expected = f"images: expected whole numbers from 0 to 255 of shape (N, {', '.join(map(str, short))})"
        try:
            values = np.asarray(given)
        except ValueError:
            raise _refused(f"{expected}, got lists of different lengths") from None
        if values.dtype.kind not in "iuf":
            raise _refused(f"{expected}, got {values.dtype} of shape {values.shape}")
        if values.ndim == 0 or not len(values) or values.shape[1:] not in (short, shape):
            raise _refused(f"{expected}, N at least 1, got shape {values.shape}")
        if not ((values >= 0) & (values <= 255)).all():
            raise _refused(f"{expected}, got values from {values.min()} to {values.max()}")
        if values.dtype.kind == "f" and (values != np.floor(values)).any():
            raise _refused(f"{expected}, got fractions; multiply pixels in [0, 1] by 255 and round them")
        return np.ascontiguousarray(values.astype(np.uint8).reshape(-1, *shape))


def _refused(message: str) -> MlflowException:
    return MlflowException.invalid_parameter_value(message)
