"""A trained model made ready to say what images show; it needs nothing but its weights file."""

import json
from collections.abc import Mapping

import numpy as np

from odyssey_core.backends import BACKENDS
from odyssey_core.backends.base import Backend
from odyssey_core.checkpoint import model_names
from odyssey_core.data.dataset import Images
from odyssey_core.errors import DataError
from odyssey_core.inference import Inference
from odyssey_core.models import MODELS


class Classifier:
    """The forward pass of a model with its trained weights.

    Args:
        weights: arrays as the weights file names them.
        about: the file's metadata: model, model_config, class_names, input_shape, mean, std, orientation.
        backend: what runs it; by default the fast one.

    Attributes:
        class_names: one a class, in the order of the columns.
        input_shape: (C, H, W).
        orientation: how images must be stored: ``upright`` or ``transposed``.
        module: the architecture.
        parameters: the weights by their path in it, float32.
        logits: the node of the graph that says it all, for one image.

    Raises:
        DataError: metadata or tensors that are missing or do not fit the model.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], about: Mapping[str, str], backend: Backend | None = None):
        try:
            self.class_names = tuple(json.loads(about["class_names"]))
            self.input_shape = tuple(json.loads(about["input_shape"]))
            self.orientation = about["orientation"]
            arguments, mean, std = json.loads(about["model_config"]), float(about["mean"]), float(about["std"])
            model = about["model"]
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(
                f"weights file: metadata do not say how to use it ({error!r}); is it of this program?"
            ) from None
        arguments = {key: tuple(v) if isinstance(v, list) else v for key, v in arguments.items()}
        self.module = MODELS[model](self.input_shape, len(self.class_names), **arguments)
        nodes = self.module.parameters()
        self.parameters = model_names({name: np.empty(p.shape) for name, p in nodes.items()}, dict(weights))
        for name, p in nodes.items():
            if self.parameters[name].shape != p.shape:
                raise DataError(f"weights {name}: the model needs shape {p.shape}, got {self.parameters[name].shape}")
        self._inference = Inference(
            self.module, backend or BACKENDS["numba"](), self.input_shape, mean, std, lambda: self.parameters
        )
        self.logits = self._inference.graph(1)[0]

    def evaluate(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Logits (N, classes) and cross-entropy (N,), both float32.

        Raises:
            DataError: images of another size, or labels beyond the model's classes.
        """
        if images.pixels.shape[1:] != self.input_shape:
            raise DataError(f"images: the model takes (C, H, W) = {self.input_shape}, got {images.pixels.shape[1:]}")
        return self._inference.evaluate(images, np.arange(len(images)))

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """(N, classes) float64, each row summing to 1, for pixels (N, C, H, W) uint8."""
        return softmax(self.evaluate(Images(pixels, np.zeros(len(pixels), np.int64)))[0])


def softmax(logits: np.ndarray) -> np.ndarray:
    """exp(x) / sum exp(x) along the last axis, in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def upright(pixels: np.ndarray, orientation: str) -> np.ndarray:
    """Images (..., H, W) as a person reads them; applied to upright ones, as they are stored."""
    return np.swapaxes(pixels, -1, -2) if orientation == "transposed" else pixels
