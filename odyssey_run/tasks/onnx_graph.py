"""The forward pass as an ONNX model, from upright pixels (N, C, H, W) uint8 to logits (N, classes) float32."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from odyssey_core.classifier import Classifier
from odyssey_core.errors import ConfigError
from odyssey_core.ops.leaves import IMAGES
from odyssey_core.tensor import topological
from odyssey_run.reports.outputs import MARK

OPSET, IR = 17, 9  # of 2022: what runtimes of the last years read


def serialized(classifier: Classifier, about: Mapping[str, str]) -> bytes:
    """The model's file, with the metadata of its weights. Raises ConfigError: the package onnx is not installed, or
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
