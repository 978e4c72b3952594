#!/usr/bin/env bash
# onnx brings an evaluator that is meant to say what its operators compute, and to which runtimes and converters are
# compared. Its MaxPool computes something else. The specification lists the pads of all axes at their beginnings, then
# those at their ends, and the evaluator takes them axis by axis: a column at the left and one at the right become a
# row below and a column at the right. Where they add up otherwise for an axis, the result has another shape than onnx's
# own shape inference gives it. And the indices, a second output, point at other values than the largest even without
# pads, and before the start of the tensor with them. Neither gives a warning. ONNX Runtime and shape inference agree.
#
# Seen with onnx 1.23.2, onnxruntime 1.32.0 and Python 3.11. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0

cat > "$work/pools.py" <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx.reference import ReferenceEvaluator

PICTURE = np.arange(1, 13, dtype=np.float32).reshape(1, 1, 3, 4)
MODEL = """<ir_version: 8, opset_import: ["" : 12]>
g (float[1, 1, 3, 4] x) => (float[N, C, H, W] y, int64[N, C, H, W] at)
{{ y, at = MaxPool <kernel_shape = [2, 2], pads = {pads}> (x) }}"""


def inferred(model) -> tuple[int, ...]:
    shapes = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.output[0].type.tensor_type.shape
    return tuple(dimension.dim_value for dimension in shapes.dim)


def described(results) -> tuple[tuple[int, ...], str]:
    """The shape, and whether the largest values are at the indices."""
    largest, at = results
    if at.min() < 0 or at.max() >= PICTURE.size:
        return largest.shape, "outside"
    return largest.shape, "right" if np.array_equal(PICTURE.ravel()[at], largest) else "wrong"


expected = {
    (0, 0, 0, 0): ((1, 1, 2, 3), ((1, 1, 2, 3), "right"), ((1, 1, 2, 3), "wrong")),
    (1, 1, 1, 1): ((1, 1, 4, 5), ((1, 1, 4, 5), "right"), ((1, 1, 4, 5), "outside")),
    (0, 1, 0, 1): ((1, 1, 2, 5), ((1, 1, 2, 5), "right"), ((1, 1, 3, 4), "wrong")),
    (1, 0, 1, 0): ((1, 1, 4, 3), ((1, 1, 4, 3), "right"), ((1, 1, 3, 4), "outside")),
}
as_told = True
print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}")
for pads, answers in expected.items():
    model = onnx.parser.parse_model(MODEL.format(pads=list(pads)))
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    runtime, reference = (described(run(None, {"x": PICTURE})) for run in (session.run, ReferenceEvaluator(model).run))
    seen = (inferred(model), runtime, reference)
    print(f"pads {pads}: inferred {seen[0]}; ONNX Runtime: {runtime}; onnx.reference: {reference}")
    as_told &= seen == answers
sys.exit(not as_told)
PYTHON

"$work/venv/bin/python" "$work/pools.py" || { echo "onnx behaves otherwise than this file says" >&2; exit 1; }
