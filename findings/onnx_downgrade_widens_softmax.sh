#!/usr/bin/env bash
# Up to opset 12 Softmax and LogSoftmax normalise over an axis and all that follow it, since opset 13 over the axis
# alone. onnx.version_converter minds that on the way up, and not on the way down: Softmax over the classes of each
# pixel, axis 1 of (N, classes, height, width), comes out as one over classes, height and width. The checker finds the
# model valid and its result has the shape it had, but the probabilities of a pixel no longer add up to 1.
#
# Seen with onnx 1.23.2, onnxruntime 1.32.0 and Python 3.11. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0

cat > "$work/up_and_down.py" <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, version_converter

PIXELS = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2) / 4  # three classes, two by two pixels


def model(kind: str, opset: int):
    shape = helper.make_tensor_value_info("logits", TensorProto.FLOAT, PIXELS.shape)
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, PIXELS.shape)
    node = helper.make_node(kind, ["logits"], ["result"], axis=1)
    graph = helper.make_graph([node], "segmentation", [shape], [result])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def totals(kind: str, made) -> str:
    """Of the probabilities of each pixel, by ONNX Runtime."""
    onnx.checker.check_model(made, full_check=True)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"logits": PIXELS})
    probabilities = np.exp(result) if kind == "LogSoftmax" else result
    return np.array2string(probabilities.sum(axis=1).ravel(), precision=2, floatmode="fixed")


each, wide = "[1.00 1.00 1.00 1.00]", "[0.17 0.21 0.27 0.35]"
as_told = True
print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}")
for kind in ("Softmax", "LogSoftmax"):
    for opset, target, expected in ((12, 13, (wide, wide)), (13, 12, (each, wide))):
        made = model(kind, opset)
        seen = totals(kind, made), totals(kind, version_converter.convert_version(made, target))
        print(f"{kind}: sums over the classes with opset {opset}: {seen[0]}, converted to {target}: {seen[1]}")
        as_told &= seen == expected
sys.exit(not as_told)
PYTHON

"$work/venv/bin/python" "$work/up_and_down.py" || { echo "onnx behaves otherwise than this file says" >&2; exit 1; }
