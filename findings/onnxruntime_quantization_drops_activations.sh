#!/usr/bin/env bash
# The quantization tool of ONNX Runtime removes Relu and Clip where the 8-bit range of what they are computed from does
# their work. It also removes them in two cases in which that range does not. A range always holds zero, so that where
# Clip raises all to 0.5 at least, values from 0 on are let through: a number that was kept away from zero because it
# is divided by becomes zero, and the quotient infinite. And in the QOperator format a Relu is removed although
# something else reads its input, as the skip connection of a residual block does: the range is then that of all
# values, negative ones too, and relu(a) becomes a. Neither gives a warning. With its option
# QDQKeepRemovableActivations the QDQ format, the default, is right.
#
# Seen with onnxruntime 1.32.0, onnx 1.23.2 and Python 3.11. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0

cat > "$work/activations.py" <<'PYTHON'
import logging
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

logging.disable(logging.WARNING)  # only the advice to prepare the model first, which changes nothing here
WORK = Path(sys.argv[1])
MODEL = """<ir_version: 8, opset_import: ["" : 17]>
model (float[1, 1] x) => (float[1, 1] y) <float[1, 1] one = {{1}}, float least = {{0.5}}>
{{ a = MatMul (x, one)  b = {activation}  y = {last} }}"""
KEEP = {"QDQKeepRemovableActivations": True}


class Samples(CalibrationDataReader):
    def __init__(self):
        self.rows = iter(np.linspace(-1, 1, 9, dtype=np.float32).reshape(-1, 1, 1))

    def get_next(self):
        return next(({"x": row} for row in self.rows), None)


def answer(path) -> float:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return round(session.run(None, {"x": np.array([[-0.5]], dtype=np.float32)})[0].item(), 1)


def seen(activation, last) -> list[float]:
    model = onnx.parser.parse_model(MODEL.format(activation=activation, last=last))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, WORK / "float.onnx")
    answers = [answer(WORK / "float.onnx")]
    for form, options in ((QuantFormat.QDQ, KEEP), (QuantFormat.QDQ, {}), (QuantFormat.QOperator, {})):
        quantize_static(
            WORK / "float.onnx", WORK / "quantized.onnx", Samples(), quant_format=form, extra_options=options
        )
        answers.append(answer(WORK / "quantized.onnx"))
    return answers


expected = {
    ("Relu (a)", "Identity (b)"): [0.0, 0.0, 0.0, 0.0],
    ("Relu (a)", "Add (a, b)"): [-0.5, -0.5, -0.5, -1.0],
    ("Clip (a, least)", "Identity (b)"): [0.5, 0.5, 0.0, 0.0],
    ("Clip (a, least)", "Div (one, b)"): [2.0, 2.0, np.inf, np.inf],
}
as_told = True
print(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}: y where a is -0.5, with least = 0.5")
for (activation, last), values in expected.items():
    real, kept, qdq, operators = answers = seen(activation, last)
    print(f"b = {activation}, y = {last}: float {real}; QDQ kept {kept}, by default {qdq}; QOperator {operators}")
    as_told &= answers == values
sys.exit(not as_told)
PYTHON

"$work/venv/bin/python" "$work/activations.py" "$work" 2> "$work/log" || {
    cat "$work/log" >&2
    echo "ONNX Runtime behaves otherwise than this file says" >&2
    exit 1
}
