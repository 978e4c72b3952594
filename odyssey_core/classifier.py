"""A trained model made ready to say what images show; it needs nothing but its weights file."""

import json
import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from odyssey_core import stored
from odyssey_core.backends import BACKENDS
from odyssey_core.backends.base import Backend
from odyssey_core.checkpoint import model_names
from odyssey_core.data.dataset import Images, upright
from odyssey_core.data.preparation import of_metadata
from odyssey_core.errors import DataError
from odyssey_core.inference import Inference
from odyssey_core.losses import LOSSES
from odyssey_core.models import MODELS
from odyssey_core.views import VIEWS, TestViews

LARGEST = 4096  # pixels of a side


class Classifier:
    """The forward pass of a model with its trained weights. It takes upright images.

    Args:
        weights: arrays as the weights file names them.
        about: the file's metadata: model, model_config, class_names, input_shape, mean, std, orientation, preparation,
            tta; where plug-ins made the model, graph: what `stored.encode` gives.
        backend: what runs it; by default the fast one.

    Attributes:
        class_names: one a class, in the order of the columns.
        input_shape: (C, H, W).
        orientation: how the model's training images were stored: ``upright``, or ``transposed``, in which case images
            are turned here.
        preparation: how a person's picture is made into an image for it.
        module: the architecture.
        tta: views whose mean the answer is, see `views.averaged`; None for the image as it is.
        loss: what it was trained by; cross-entropy where the metadata name none.
        parameters: parameters and buffers by their path in it, float32.
        logits: the node of the graph that says it all, for one image.

    Raises:
        DataError: metadata or tensors that are missing or do not fit the model.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], about: Mapping[str, str], backend: Backend | None = None):
        try:
            self.class_names = tuple(json.loads(about["class_names"]))
            self.input_shape = tuple(json.loads(about["input_shape"]))
            self.orientation = about["orientation"]
            arguments, self.preparation = json.loads(about["model_config"]), of_metadata(about)
            _check(self.class_names, self.input_shape, self.orientation)
            mean, std = (_per_channel(about[key], self.input_shape[0]) for key in ("mean", "std"))
            if min(std) <= 0:
                raise ValueError(f"std: expected numbers above 0, got {std}")
            self.tta = cast("TestViews | None", about.get("tta"))
            if self.tta is not None and self.tta not in VIEWS:
                raise ValueError(f"tta: expected one of {', '.join(VIEWS)}, got {self.tta}")
            arguments = {key: tuple(v) if isinstance(v, list) else v for key, v in arguments.items()}
            if "graph" in about:
                self.module, self.loss = stored.decode(about["graph"])
            else:
                self.module = MODELS[about["model"]](self.input_shape, len(self.class_names), **arguments)
                self.loss = LOSSES[about.get("loss", "cross_entropy")](**json.loads(about.get("loss_config", "{}")))
        except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise DataError(
                f"weights file: metadata do not say how to use it ({error!r}); is it of this program?"
            ) from None
        one = self.input_shape[0] == 1
        self._shapes = self.input_shape[1:] if one else self.input_shape, self.input_shape  # that an image may have
        nodes = self.module.state()
        self.parameters = model_names({name: np.empty(p.shape) for name, p in nodes.items()}, dict(weights))
        for name, p in nodes.items():
            if self.parameters[name].shape != p.shape:
                raise DataError(f"weights {name}: the model needs shape {p.shape}, got {self.parameters[name].shape}")
            if not np.isfinite(self.parameters[name]).all():
                raise DataError(f"weights {name}: not all are finite numbers")
        backend = backend or BACKENDS["numba"]()
        self._inference = Inference(
            self.module, backend, self.input_shape, mean, std, lambda: self.parameters, self.loss, self.tta
        )
        self.logits = self._inference.graph(1)[0]

    def evaluate(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Logits (N, classes) and losses (N,), both float32, of upright images.

        Raises:
            DataError: images of another size, or labels beyond the model's classes.
        """
        self._check_shape(images.pixels)
        stored = Images(np.ascontiguousarray(upright(images.pixels, self.orientation)), images.labels)
        return self._inference.evaluate(stored, np.arange(len(images)))

    def _check_shape(self, pixels: np.ndarray) -> None:
        if pixels.shape[1:] != self.input_shape or not len(pixels):
            raise DataError(
                f"images: the model takes (N, C, H, W) = (N, {str(self.input_shape)[1:]}, got {pixels.shape}"
            )

    def pixels(self, given: Any) -> np.ndarray:
        """What somebody takes for images as (N, C, H, W) uint8.

        Args:
            given: (N, H, W) where C is 1, (N, C, H, W) or (N, H, W, C): whole numbers from 0 to 255, as an array or
                nested lists.

        Raises:
            DataError: anything else; floating-point numbers that are all from 0 to 1 too, since they would be black.
        """
        short, shape = self._shapes
        if getattr(given, "dtype", None) == np.uint8 and given.shape[1:] in self._shapes and len(given):
            return np.ascontiguousarray(given).reshape(-1, *shape)  # to look on would take longer than an answer

        def fault(got: str) -> DataError:
            whole = f"(N, {', '.join(map(str, short))})"
            return DataError(f"images: expected whole numbers from 0 to 255 of shape {whole}{got}")

        try:
            values = np.asarray(given)
        except ValueError:
            raise fault(", got lists of different lengths") from None
        if values.dtype.kind not in "iuf":
            raise fault(f", got {values.dtype} of shape {values.shape}")
        if values.shape[1:] == (*shape[1:], shape[0]) != shape:
            values = np.moveaxis(values, 3, 1)
        if values.ndim == 0 or not len(values) or values.shape[1:] not in self._shapes:
            raise fault(f", N at least 1, got shape {values.shape}")
        if not ((values >= 0) & (values <= 255)).all():
            raise fault(f", got values from {values.min()} to {values.max()}")
        if values.dtype.kind == "f":
            if (values != np.floor(values)).any():
                raise fault(", got fractions; multiply pixels in [0, 1] by 255 and round them")
            if values.max() == 1:
                raise fault(f", got {values.dtype} from 0 to 1; multiply by 255, or give uint8")
        return np.ascontiguousarray(values.astype(np.uint8).reshape(-1, *shape))

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """(N, classes) float64, each row summing to 1 within float32, for upright pixels (N, C, H, W) uint8."""
        self._check_shape(pixels)
        return self._inference.probabilities(upright(pixels, self.orientation))


def _per_channel(text: str, channels: int) -> tuple[float, ...]:
    """Numbers of the metadata, one for all channels or one for each; raises ValueError for anything else."""
    values = json.loads(text)
    values = tuple(map(float, values if isinstance(values, list) else [values]))
    if len(values) not in (1, channels) or not all(map(math.isfinite, values)):
        raise ValueError(f"mean and std: expected one number or {channels}, got {text}")
    return values


def _check(names: tuple[Any, ...], shape: tuple[int, ...], orientation: str) -> None:
    """Raises ValueError for metadata that no data set has."""
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("class_names: expected a list of texts")
    if len(shape) != 3 or not all(isinstance(n, int) and 0 < n <= LARGEST for n in shape):
        raise ValueError(f"input_shape: expected (C, H, W), each from 1 to {LARGEST}, got {shape}")
    if orientation not in ("upright", "transposed"):
        raise ValueError(f"orientation: expected upright or transposed, got {orientation}")
