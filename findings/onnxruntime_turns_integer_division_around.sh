#!/usr/bin/env bash
# ONNX Runtime makes (1 / x) * y into y / x, of integers too. Their division drops the fraction in ONNX, so that 1 / x
# is 1 where x is 1 and 0 where x is larger: a model that keeps the values whose count is 1, and makes the others 0,
# returns quotients in their place. It happens by default and at the level of basic optimisations, which the
# documentation calls semantics-preserving. With the optimisations off, and with onnx's own evaluator, the model
# computes what it says.
#
# Seen with onnxruntime 1.32.0, onnx 1.23.2 and Python 3.11. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0

cat > "$work/mask.py" <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime import GraphOptimizationLevel as Level

COUNTS, VALUES = [1, 2, 5], [700, 800, 900]


def results(dtype) -> dict[str, list[float]]:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [
            helper.make_node("Div", ["one", "counts"], ["mask"]),
            helper.make_node("Mul", ["mask", "values"], ["kept"]),
        ],
        "mask",
        [helper.make_tensor_value_info(name, kind, [3]) for name in ("counts", "values")],
        [helper.make_tensor_value_info("kept", kind, [3])],
        [numpy_helper.from_array(np.array(1, dtype), "one")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    inputs = {"counts": np.array(COUNTS, dtype), "values": np.array(VALUES, dtype)}
    seen = {"onnx": ReferenceEvaluator(made).run(None, inputs)[0].tolist()}
    for name, level in {
        "not optimised": Level.ORT_DISABLE_ALL,
        "basic": Level.ORT_ENABLE_BASIC,
        "default": Level.ORT_ENABLE_ALL,
    }.items():
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
        seen[name] = session.run(None, inputs)[0].tolist()
    return seen


as_told = True
print(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}: (1 / {COUNTS}) * {VALUES}")
for dtype in (np.int32, np.int64):
    seen = results(dtype)
    print(f"{dtype.__name__}: {'; '.join(f'{name}: {kept}' for name, kept in seen.items())}")
    as_told &= list(seen.values()) == [[700, 0, 0], [700, 0, 0], [700, 400, 180], [700, 400, 180]]
sys.exit(not as_told)
PYTHON

"$work/venv/bin/python" "$work/mask.py" || { echo "ONNX Runtime behaves otherwise than this file says" >&2; exit 1; }
