#!/usr/bin/env bash
# Since opset 18 Pad has an input axes, which lists the axes that its pads are for. ONNX Runtime moves transposes
# through Pad and reorders the pads as if that input were not there. The picture here is transposed to channels-last,
# padded by a row above and a column at the right, and transposed back. Where all axes are listed, in another order
# than 0, 1, 2, 3, it gets a second channel or becomes a batch of two pictures, without a warning. Where height and
# width are listed alone, the model is loaded and cannot be run. Both happen by default and at the level of basic
# optimisations, which the documentation calls semantics-preserving. With the optimisations off each answer is right.
#
# Seen with onnxruntime 1.32.0, onnx 1.23.2 and Python 3.11. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0

cat > "$work/pads.py" <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import GraphOptimizationLevel as Level

PICTURE = np.arange(1, 13, dtype=np.float32).reshape(1, 1, 3, 4)
PADDED = np.pad(PICTURE, [(0, 0), (0, 0), (1, 0), (0, 1)])
BEFORE, AFTER = {0: 0, 1: 1, 2: 0, 3: 0}, {0: 0, 1: 0, 2: 1, 3: 0}  # of batch, height, width, channels


def model(axes) -> bytes:
    nodes = [
        helper.make_node("Transpose", ["picture"], ["channels_last"], perm=[0, 2, 3, 1]),
        helper.make_node("Pad", ["channels_last", "pads", "", "axes"], ["wider"]),
        helper.make_node("Transpose", ["wider"], ["padded"], perm=[0, 3, 1, 2]),
    ]
    pads = [BEFORE[axis] for axis in axes] + [AFTER[axis] for axis in axes]
    constants = [numpy_helper.from_array(np.array(v), name) for v, name in ((pads, "pads"), (axes, "axes"))]
    graph = helper.make_graph(
        nodes,
        "pad",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, PICTURE.shape)],
        [helper.make_tensor_value_info("padded", TensorProto.FLOAT, [None] * 4)],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString()


def outcome(axes, level) -> str:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model(axes), options, providers=["CPUExecutionProvider"])
        (padded,) = session.run(None, {"picture": PICTURE})
    except Exception as error:
        return f"refused: {str(error).split('Status Message: ')[1].split(',')[0]}"
    return "right" if np.array_equal(padded, PADDED) else f"wrong, of shape {padded.shape}"


expected = {
    (0, 1, 2, 3): "right",
    (0, 2, 1, 3): "wrong, of shape (1, 2, 3, 5)",
    (1, 2, 0, 3): "wrong, of shape (2, 2, 3, 4)",
    (1, 2): "refused: indices element out of data bounds",
}
as_told = True
print(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}, the right shape is {PADDED.shape}")
for axes, wrong in expected.items():
    levels = [Level.ORT_DISABLE_ALL, Level.ORT_ENABLE_BASIC, Level.ORT_ENABLE_ALL]
    seen = [outcome(axes, level) for level in levels]
    print(f"axes {axes}: not optimised: {seen[0]}; basic: {seen[1]}; default: {seen[2]}")
    as_told &= seen == ["right", wrong, wrong]
sys.exit(not as_told)
PYTHON

"$work/venv/bin/python" "$work/pads.py" || { echo "ONNX Runtime behaves otherwise than this file says" >&2; exit 1; }
