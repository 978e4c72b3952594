#!/usr/bin/env bash
# Gemm computes alpha A B + beta C. Where C is a constant, as a bias is, the quantization tool of ONNX Runtime loses
# these factors. In the QDQ format, the default, it sets beta to 1 and leaves C as it is, and the optimiser makes of
# that a layer in which C counts 1 / beta times. In the QOperator format C counts alpha / beta times. So a layer with
# beta 0.5 gets four times its bias, and in the QOperator format one with alpha 2 gets twice its bias, without a
# warning and far beyond the error of 8 bits. The layers here get zeros as A, so that only beta C is left. With both
# factors 1, and with beta 0, all is right.
#
# Seen with onnxruntime 1.32.0, onnx 1.23.2 and Python 3.11. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0

cat > "$work/factors.py" <<'PYTHON'
import logging
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime import GraphOptimizationLevel as Level
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

logging.disable(logging.WARNING)  # only the advice to prepare the model first, which changes nothing here
WORK = Path(sys.argv[1])
MODEL = """<ir_version: 8, opset_import: ["" : 17]>
layer (float[1, 2] a) => (float[1, 2] y) <float[2, 2] b = {{1, 0, 0, 1}}, float[2] c = {{8, -4}}>
{{ y = Gemm <alpha = {alpha}, beta = {beta}> (a, b, c) }}"""


class Samples(CalibrationDataReader):
    def __init__(self):
        self.rows = iter(np.array([[[20, 20]], [[-20, -20]], [[0, 0]]], dtype=np.float32))

    def get_next(self):
        return next(({"a": row} for row in self.rows), None)


def times_of_bias(path, level=Level.ORT_ENABLE_ALL) -> float:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    ((first, second),) = session.run(None, {"a": np.zeros((1, 2), dtype=np.float32)})[0]
    assert abs(first / 8 - second / -4) < 0.1
    return round(float(first) / 8, 1) + 0.0


def seen(alpha, beta) -> list[float]:
    model = onnx.parser.parse_model(MODEL.format(alpha=alpha, beta=beta))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, WORK / "float.onnx")
    for form in QuantFormat:
        quantize_static(WORK / "float.onnx", WORK / f"{form.name}.onnx", Samples(), quant_format=form)
    qdq = WORK / "QDQ.onnx"
    paths = [(WORK / "float.onnx",), (qdq, Level.ORT_DISABLE_ALL), (qdq,), (WORK / "QOperator.onnx",)]
    return [times_of_bias(*path) for path in paths]


expected = {
    (1.0, 1.0): [1.0, 1.0, 1.0, 1.0],
    (1.0, 0.0): [0.0, 0.0, 0.0, 0.0],
    (1.0, 0.5): [0.5, 1.0, 2.0, 2.0],
    (1.0, 2.0): [2.0, 1.0, 0.5, 0.5],
    (2.0, 1.0): [1.0, 1.0, 1.0, 2.0],
}
as_told = True
print(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}: how many times C counts")
for factors, times in expected.items():
    real, plain, fused, operators = answer = seen(*factors)
    print(f"alpha, beta {factors}: float {real}; QDQ not optimised {plain}, by default {fused}; QOperator {operators}")
    as_told &= answer == times
sys.exit(not as_told)
PYTHON

"$work/venv/bin/python" "$work/factors.py" "$work" 2> "$work/log" || {
    cat "$work/log" >&2
    echo "ONNX Runtime behaves otherwise than this file says" >&2
    exit 1
}
