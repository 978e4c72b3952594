#!/usr/bin/env bash
# onnxruntime.transformers.optimizer rewrites graphs in Python before ONNX Runtime loads them. Four of its rewrites give
# another model, without a warning. For the model type sam2 a layer normalisation over channels gets its weights for
# its bias too. For bert, the default, and the types that are made like it, a normalisation over another axis than the
# last becomes one over the last, two equal transposes in a row are removed, though (1, 2, 0) twice is not the identity,
# and where LayerNormalization names no epsilon, which in ONNX means 1e-5, a sum and the normalisation of it become one
# operator with 1e-12.
#
# Seen with onnxruntime 1.32.0, onnx 1.23.2, sympy 1.14.0 and Python 3.11. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0 sympy==1.14.0

cat > "$work/rewrites.py" <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnxruntime import GraphOptimizationLevel as Level
from onnxruntime.transformers.optimizer import optimize_model

NORMALISE = """
mean = ReduceMean <axes = [1]> (x)  centred = Sub (x, mean)  square = Pow (centred, two)
variance = ReduceMean <axes = [1]> (square)  sum = Add (variance, epsilon)  deviation = Sqrt (sum)
normalised = Div (centred, deviation)  scaled = Mul (normalised, weight)  y = Add (scaled, bias)"""
CONSTANTS = "float two = {{2}}, float epsilon = {{1e-6}}, float[{0}] weight = {{3, 4}}, float[{0}] bias = {{10, 20}}"
TRANSPOSE = "a = Transpose <perm = [1, 2, 0]> (x)  b = Transpose <perm = [1, 2, 0]> (a)  y = Neg (b)"
SUM = "sum = Add (x, z)  y = LayerNormalization (sum, weight, bias)"
CUBE = np.arange(8).reshape(2, 2, 2)
CASES = {
    "normalised over channels": ("sam2", NORMALISE, CONSTANTS.format("2, 1, 1"), {"x": [[[[1]], [[5]]]]}),
    "normalised over axis 1": ("bert", NORMALISE, CONSTANTS.format("2"), {"x": [[[1, 2], [5, 10]]]}),
    "transposed twice": ("bert", TRANSPOSE, "", {"x": CUBE}),
    "sum normalised": (
        "bert",
        SUM,
        "float[2] weight = {1, 1}, float[2] bias = {0, 0}",
        {"x": [[[1, 1.002]]], "z": [[[-1, -1]]]},
    ),
}


def made(steps, constants, inputs) -> onnx.ModelProto:
    shape = list(inputs["x"].shape)
    declared = ", ".join(f"float{shape} {name}" for name in inputs)
    head = f'<ir_version: 8, opset_import: ["" : 17]> g ({declared}) => (float{shape} y)'
    model = onnx.parser.parse_model(f"{head} {constants and f'<{constants}>'} {{ {steps} }}")
    onnx.checker.check_model(model, full_check=True)
    return model


def answer(model, inputs) -> list[float]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = Level.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [round(value, 1) + 0.0 for value in session.run(None, inputs)[0].ravel().tolist()]


expected = {
    "normalised over channels": ([7.0, 24.0], [0.0, 8.0]),
    "normalised over axis 1": ([7.0, 16.0, 13.0, 24.0], [7.0, 24.0, 7.0, 24.0]),
    "transposed twice": ((-CUBE.transpose(2, 0, 1)).ravel().tolist(), (-CUBE).ravel().tolist()),
    "sum normalised": ([-0.3, 0.3], [-1.0, 1.0]),
}
as_told = True
print(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}")
for what, (model_type, steps, constants, inputs) in CASES.items():
    inputs = {name: np.array(values, dtype=np.float32) for name, values in inputs.items()}
    model = made(steps, constants, inputs)
    before = answer(model, inputs)
    after = answer(optimize_model(model, model_type, opt_level=0).model, inputs)
    print(f"{what}, model type {model_type}: before {before}; after {after}")
    as_told &= (before, after) == expected[what]
sys.exit(not as_told)
PYTHON

"$work/venv/bin/python" "$work/rewrites.py" 2> "$work/log" || {
    cat "$work/log" >&2
    echo "ONNX Runtime behaves otherwise than this file says" >&2
    exit 1
}
