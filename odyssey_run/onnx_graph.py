"""The forward pass as an ONNX model, from upright pixels (N, C, H, W) uint8 to logits (N, classes) float32."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from odyssey_core.classifier import Classifier
from odyssey_core.errors import ConfigError
from odyssey_core.tensor import Tensor, topological

OPSET, IR = 17, 9  # of 2022: what runtimes of the last years read
PLAIN = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "add": "Add", "multiply": "Mul"}


def serialized(classifier: Classifier, about: Mapping[str, str]) -> bytes:
    """The model's file.

    Args:
        classifier: trained.
        about: the weights file's metadata, kept in the model's.

    Raises:
        ConfigError: the package onnx is not installed, or an operation has no counterpart here.
    """
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError:
        raise ConfigError(
            "format: onnx needs a package that is not installed; pip install 'ml-odyssey[onnx]'"
        ) from None
    names = {node: name for name, node in classifier.module.parameters().items()}
    tensors = [numpy_helper.from_array(value, name) for name, value in classifier.parameters.items()]
    nodes = []
    for node in topological([classifier.logits]):
        if node in names:
            continue
        names[node] = "logits" if node is classifier.logits else f"{node.op.name}_{len(nodes)}"
        inputs = [names[x] for x in node.inputs]
        if node.op.name == "images":
            stored = "pixels"
            if classifier.orientation == "transposed":
                stored = "stored"
                nodes.append(helper.make_node("Transpose", ["pixels"], [stored], perm=[0, 1, 3, 2]))
            nodes.append(helper.make_node("Cast", [stored], ["raw"], to=TensorProto.FLOAT))
            for op, constant, source, result in (
                ("Div", 255.0, "raw", "unit"),
                ("Sub", node.attrs["mean"], "unit", "centred"),
                ("Div", node.attrs["std"], "centred", names[node]),
            ):
                tensors.append(numpy_helper.from_array(np.float32(constant), f"{result}_by"))
                nodes.append(helper.make_node(op, [source, f"{result}_by"], [result]))
        else:
            kind, attributes = _counterpart(node)
            nodes.append(helper.make_node(kind, inputs, [names[node]], **attributes))
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", *classifier.input_shape])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(classifier.class_names)])
    graph = helper.make_graph(nodes, about["model"], [pixels], [logits], tensors)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, producer_name="ml-odyssey", opset_imports=opset, ir_version=IR)
    helper.set_model_props(model, dict(about))
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _counterpart(node: Tensor) -> tuple[str, dict[str, Any]]:
    """ONNX's operation for one of ours, and its attributes."""
    op, attrs = node.op.name, node.attrs
    if op in PLAIN:
        return PLAIN[op], {}
    if op == "reshape" and len(node.shape) == 2:
        return "Flatten", {}
    if op == "conv2d":
        return "Conv", {"strides": [attrs["stride"]] * 2, "pads": [attrs["padding"]] * 4}
    if op == "linear":
        return "Gemm", {"transB": 1}
    if op in ("max_pool2d", "avg_pool2d"):
        kind = "MaxPool" if op == "max_pool2d" else "AveragePool"
        return kind, {"kernel_shape": [attrs["kernel_size"]] * 2, "strides": [attrs["stride"]] * 2}
    raise ConfigError(f"format: onnx has no counterpart here for the operation {op}; choose format=torch")
