#!/usr/bin/env bash
# Graph.fold_constants() of NVIDIA's ONNX GraphSurgeon says that it folds constants in the graph. It also folds three
# things that are none. Integers that are cast to float, multiplied or divided by a constant and cast back are computed
# as integers, with the fraction of the constant cut off: 1.5 times a size becomes 1 times it. A random tensor without
# inputs is drawn once and stored, so that the noise is the same in every run. And the attribute start of Shape is left
# aside, so that the height of a picture becomes the number of pictures. None of this gives a warning, and the first
# needs no known shape, only fold_shapes, which is on by default and said to fold Shape nodes.
#
# Seen with onnx-graphsurgeon 0.6.1, onnxruntime 1.32.0, onnx 1.23.2 and Python 3.11. The script fails where that is no
# longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnx-graphsurgeon==0.6.1 onnx==1.23.2 onnxruntime==1.32.0

cat > "$work/fold.py" <<'PYTHON'
import sys

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
SIZES = np.array([1, 2, 5, 10])
TIMES = """g (int64[4] x) => (int64[4] y) <float factor = {1.5}>
{ real = Cast <to = 1> (x)  larger = Mul (real, factor)  y = Cast <to = 7> (larger) }"""
OVER = """g (int64[4] x) => (int64[4] y) <float factor = {2.5}>
{ real = Cast <to = 1> (x)  smaller = Div (real, factor)  y = Cast <to = 7> (smaller) }"""
NOISE = "g (float[4] x) => (float[4] y) { noise = RandomNormal <shape = [4]> ()  y = Add (x, noise) }"
HEIGHT = """g (float[1, 3, 480, 640] x) => (int64 y) <int64 first = {0}>
{ size = Shape <start = 2> (x)  y = Gather (size, first) }"""


def session(model):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def folded(model):
    return gs.export_onnx(gs.import_onnx(model).fold_constants().cleanup())


def results(text, x) -> list:
    model = onnx.parser.parse_model(HEAD + text)
    onnx.checker.check_model(model, full_check=True)
    return [session(made).run(None, {"x": x})[0].tolist() for made in (model, folded(model))]


def varies(text) -> list[bool]:
    """Whether two runs give two results, before and after."""
    model = onnx.parser.parse_model(HEAD + text)
    onnx.checker.check_model(model, full_check=True)
    seen = []
    for made in (model, folded(model)):
        run = session(made)
        first, second = (run.run(None, {"x": np.zeros(4, dtype=np.float32)})[0] for _ in range(2))
        seen.append(not np.array_equal(first, second))
    return seen


seen = {
    f"{SIZES.tolist()} times 1.5": results(TIMES, SIZES),
    f"{SIZES.tolist()} over 2.5": results(OVER, SIZES),
    "noise differs from run to run": varies(NOISE),
    "height of a picture of 480 x 640": results(HEIGHT, np.zeros((1, 3, 480, 640), dtype=np.float32)),
}
expected = [
    ([1, 3, 7, 15], [1, 2, 5, 10]),
    ([0, 0, 2, 4], [0, 1, 2, 5]),
    (True, False),
    (480, 1),
]
print(f"onnx-graphsurgeon {gs.__version__}, onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}")
for what, (before, after) in seen.items():
    print(f"{what}: {before}; folded: {after}")
sys.exit([tuple(pair) for pair in seen.values()] != expected)
PYTHON

"$work/venv/bin/python" "$work/fold.py" 2> "$work/log" || {
    cat "$work/log" >&2
    echo "onnx-graphsurgeon behaves otherwise than this file says" >&2
    exit 1
}
