"""``task=export run_id=... format=torch|onnx``: a trained model for other programs."""

import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from odyssey_core.backends import BACKENDS
from odyssey_core.checkpoint import save_weights
from odyssey_core.classifier import Classifier
from odyssey_core.data.dataset import listed
from odyssey_core.errors import ConfigError
from odyssey_core.files import write_atomic
from odyssey_core.ops.leaves import IMAGES
from odyssey_core.places import expanded
from odyssey_core.tensor import topological
from odyssey_run.config.request import Request
from odyssey_run.reports.outputs import MARK, writing
from odyssey_run.runs import recorded

OPSET, IR = 17, 9  # of ONNX, of 2022: what runtimes of the last years read


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
            write_atomic(path, as_onnx(classifier, run.about))
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


def as_onnx(classifier: Classifier, about: Mapping[str, str]) -> bytes:
    """The forward pass from upright pixels (N, C, H, W) uint8 to logits (N, classes) float32 as an ONNX file, with the
    metadata of the weights. Raises ConfigError: the package onnx is not installed, or
    an operation has no counterpart here."""
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError:
        raise ConfigError(
            "format: onnx needs a package that is not installed; pip install 'ml-odyssey[onnx]'"
        ) from None
    names = {node: name for name, node in classifier.module.state().items()}
    tensors = [numpy_helper.from_array(value, name) for name, value in classifier.parameters.items()]
    nodes: list[Any] = []

    def named(operand: Any) -> str:
        """The name of a result, or of a new constant."""
        if isinstance(operand, str):
            return operand
        value = np.asarray(operand, np.int64 if isinstance(operand, list) else np.float32)  # sizes, or a number
        tensors.append(numpy_helper.from_array(value, f"constant_{len(tensors)}"))
        return str(tensors[-1].name)

    def emit(kind: str, *operands: Any, **attributes: Any) -> str:
        """See `Op.onnx`."""
        result = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, [named(x) for x in operands], [result], **attributes))
        return result

    pixels = "pixels"
    if classifier.orientation == "transposed":
        pixels = emit("Transpose", pixels, perm=[0, 1, 3, 2])
    for node in topological([classifier.logits]):
        if node in names:
            continue
        if node.op.onnx is None:
            raise ConfigError(
                f"format: onnx has no counterpart here for the operation {node.op.name}; choose format=torch"
            )
        operands = [pixels] if node.op is IMAGES else [names[x] for x in node.inputs]
        names[node] = node.op.onnx(emit, node, *operands)
    nodes[-1].output[0] = "logits"
    taken = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", *classifier.input_shape])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(classifier.class_names)])
    graph = helper.make_graph(nodes, about["model"], [taken], [logits], tensors)
    opset = [helper.make_opsetid("", OPSET)]
    made_by = {"producer_name": "ml-odyssey", "doc_string": MARK}
    model = helper.make_model(graph, opset_imports=opset, ir_version=IR, **made_by)
    helper.set_model_props(model, dict(about))
    checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
