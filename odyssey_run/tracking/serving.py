"""What MLflow calls to load and ask a model that `model_folder` wrote: its loader module."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from odyssey_core.backends import BACKENDS
from odyssey_core.checkpoint import load_weights
from odyssey_core.classifier import Classifier
from odyssey_core.errors import DataError
from odyssey_run.config import plugins


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> "ServedModel":
    """MLflow's entry: the model in a weights file; ``model_config={"backend": "numpy"}`` chooses the reference.

    Raises:
        ConfigError: a plug-in is missing that the model cannot do without; the variable ODYSSEY_PLUGINS names it.
        DataError: the file is not the one that the folder's MLmodel was written for.
    """
    config = {"backend": "numba", **(model_config or {})}
    found, backend = hashlib.sha256(Path(path).read_bytes()).hexdigest(), config["backend"]
    if found != config.get("weights_sha256", found):
        raise DataError(f"{path}: SHA-256 is {found[:12]}, MLmodel has {config['weights_sha256'][:12]}; it was changed")
    options = {"threads": 1} if backend == "numba" else {}  # a server answers many requests, each on its own thread
    weights, about = load_weights(Path(path))
    plugins.load(plugins.of_environment())
    plugins.require(plugins.needed(about), f"{path}: {plugins.VARIABLE} names no plug-in with the model's operations")
    return ServedModel(Classifier(weights, about, BACKENDS[backend](**options)))


class ServedModel:
    """Answers batches, whichever thread asks."""

    def __init__(self, classifier: Classifier):
        self.classifier = classifier

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Labels and probabilities.

        Args:
            model_input: (N, H, W), (N, C, H, W) or (N, H, W, C) whole numbers from 0 to 255, as an array or nested
                lists: images as the model folder's metadata state them.

        Returns:
            ``labels``, N class names, and ``probabilities`` (N, classes) float64.

        Raises:
            MlflowException: anything else; a server answers 400.
        """
        try:
            pixels = self.classifier.pixels(model_input)
        except DataError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        probabilities = self.classifier.probabilities(pixels)
        names = self.classifier.class_names
        return {"labels": [names[i] for i in probabilities.argmax(axis=1).tolist()], "probabilities": probabilities}
