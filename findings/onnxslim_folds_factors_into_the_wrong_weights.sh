#!/usr/bin/env bash
# OnnxSlim promises a smaller model with the same accuracy. It folds a multiplication by a constant into the weights of
# the layer before it, and does so where the result is another one. After Conv and ConvTranspose a constant of as many
# values as there are channels is taken for one factor a channel, along whichever axis it lies: a window over the
# columns of a picture, or over the samples of a signal, is applied to the channels. And the weights of Gemm are scaled
# although another node reads its result too, and so gets it scaled. Neither gives a warning.
#
# Seen with onnxslim 0.1.98, onnxruntime 1.32.0, onnx 1.23.2 and Python 3.11. The script fails where that is no longer
# so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnxslim==0.1.98 onnx==1.23.2 onnxruntime==1.32.0

cat > "$work/factors.py" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import onnxslim

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
WINDOW = """{head} g (float[1, 1, {size}] x) => (float[1, 3, {size}] y)
    <float[{weight}] weight = {{1, 1, 1}}, float[{window}] window = {{2, 3, 4}}>
    {{ plain = {layer} (x, weight)  y = Mul (plain, window) }}"""
SHARED = """{head} g (float[1, 2] x) => (float[1, 1, 2] y, float[1, 2] z)
    <float[2, 2] weight = {{1, 0, 0, 1}}, float[2] factor = {{10, 20}}, int64[3] shape = {{1, 1, 2}}>
    {{ a = Gemm <transA = 0, transB = 1> (x, weight)  b = Reshape (a, shape)  y = Mul (b, factor)  z = Neg (a) }}"""
CASES = {
    "channels": WINDOW.format(head=HEAD, size="1, 3", weight="3, 1, 1, 1", window="3, 1, 1", layer="Conv"),
    "columns": WINDOW.format(head=HEAD, size="1, 3", weight="3, 1, 1, 1", window="3", layer="Conv"),
    "rows": WINDOW.format(head=HEAD, size="3, 1", weight="3, 1, 1, 1", window="3, 1", layer="Conv"),
    "samples": WINDOW.format(head=HEAD, size="3", weight="3, 1, 1", window="3", layer="Conv"),
    "columns, transposed": WINDOW.format(
        head=HEAD, size="1, 3", weight="1, 3, 1, 1", window="3", layer="ConvTranspose"
    ),
    "Gemm read twice": SHARED.format(head=HEAD),
}


def results(model) -> list[list[float]]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    ones = np.ones(session.get_inputs()[0].shape, dtype=np.float32)
    return [result.ravel().tolist() for result in session.run(None, {"x": ones})]


window, channels = [[2.0, 3.0, 4.0] * 3], [[2.0] * 3 + [3.0] * 3 + [4.0] * 3]
expected = {
    "channels": (channels, channels),
    "columns": (window, channels),
    "rows": (window, channels),
    "samples": (window, channels),
    "columns, transposed": (window, channels),
    "Gemm read twice": ([[10.0, 20.0], [-1.0, -1.0]], [[10.0, 20.0], [-10.0, -20.0]]),
}
as_told = True
print(f"onnxslim {version('onnxslim')}, onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}")
for what, text in CASES.items():
    model = onnx.parser.parse_model(text)
    onnx.checker.check_model(model, full_check=True)
    before, after = results(model), results(onnxslim.slim(model))
    print(f"{what}: before {before}; after {after}")
    as_told &= (before, after) == expected[what]
sys.exit(not as_told)
PYTHON

"$work/venv/bin/python" "$work/factors.py" 2> "$work/log" || {
    cat "$work/log" >&2
    echo "OnnxSlim behaves otherwise than this file says" >&2
    exit 1
}
