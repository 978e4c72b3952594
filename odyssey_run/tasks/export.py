"""``task=export run_id=... format=torch|onnx``: a trained model for other programs."""

import json
from collections.abc import Mapping
from typing import Literal

from odyssey_core.backends import BACKENDS
from odyssey_core.checkpoint import save_weights
from odyssey_core.classifier import Classifier
from odyssey_core.data.dataset import listed
from odyssey_core.files import write_atomic
from odyssey_core.places import expanded
from odyssey_run.config.request import Request
from odyssey_run.reports.outputs import MARK, writing
from odyssey_run.runs import recorded
from odyssey_run.tasks import onnx_graph


def export(request: Request, run_id: str, format: Literal["torch", "onnx"], out: str | None) -> int:
    """Writes the file and says how to use it.

    For PyTorch these are the weights, with the names and shapes that ``load_state_dict`` of the same module takes; for
    ONNX the whole forward pass, from uint8 pixels to logits.
    """
    run = recorded.find(run_id, request.tracking)
    classifier = run.classifier(BACKENDS["numpy"]())
    shape, names = ", ".join(map(str, classifier.input_shape)), listed(classifier.class_names)
    if format == "torch":
        path = expanded(out or f"{run.name}.safetensors")
        with writing(path):
            save_weights(path, classifier.parameters, run.about | {"made_by": MARK})
        print(f"{path}: model.load_state_dict(safetensors.torch.load_file({str(path)!r}))")
        print(f"it takes {_normalisation(run.about, classifier)}, float32 (N, {shape})")
        if classifier.tta:
            print(f"it answers to an image alone; the run was tested with trainer.tta={classifier.tta}")
    else:
        path = expanded(out or f"{run.name}.onnx")
        with writing(path):
            write_atomic(path, onnx_graph.serialized(classifier, run.about))
        print(f"{path}: input 'pixels' (N, {shape}) uint8, output 'logits'")
        if classifier.tta:
            print(f"the logits are a mean over views of the image, as in the run: trainer.tta={classifier.tta}")
    images = classifier.preparation.images(classifier.input_shape[0])
    print(f"images are {images}; {len(classifier.class_names)} classes: {names}")
    return 0


def _normalisation(about: Mapping[str, str], classifier: Classifier) -> str:
    """What the net itself must be given, as an expression of the pixels: the file for PyTorch holds weights alone."""
    turned = ".transpose(-1, -2)" if classifier.orientation == "transposed" else ""
    mean, std = (_of_channels(json.loads(about[key])) for key in ("mean", "std"))
    return f"(pixels{turned} / 255 - {mean}) / {std}"


def _of_channels(values: float | list[float]) -> str:
    """A number for people, or those of the channels in a shape that multiplies (N, C, H, W)."""
    if not isinstance(values, list):
        return f"{values:g}"
    return f"torch.tensor([{', '.join(f'{x:g}' for x in values)}]).view(-1, 1, 1)"
