#!/usr/bin/env bash
# RNN, LSTM and GRU of ONNX have a direction. tract runs "bidirectional" rightly, but "reverse" as if "forward" stood
# there: it reads the sequence from its beginning, and the last state is the one after the last element. The backward
# layer of a network whose two directions are separate nodes, as converters from Keras write them (go_backwards), gives
# other numbers, without an error or a warning, and the shapes are the same.
#
# Seen with tract 0.23.9, onnx 1.23.2, onnxruntime 1.32.0 and Python 3.11. The cause is in onnx/src/ops/rec/common.rs:
# the attribute is not read, and the second of two directions is the only one that runs backward. It is known that the
# activations, clip and input_forget of these layers are ignored (issue 2751 of tract), the direction is not in it.
# The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet tract==0.23.9 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6

cat > "$work/run.py" <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tract
from onnx import TensorProto, helper, numpy_helper

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
X = np.arange(1, 5, dtype=np.float32).reshape(4, 1, 1)


def written(kind, direction) -> Path:
    """A layer with one unit, whose weights are 0.5, and its outputs: of each step, and of the last one."""
    count = 2 if direction == "bidirectional" else 1
    weights = np.full((count, GATES[kind], 1), 0.5, dtype=np.float32)
    node = helper.make_node(kind, ["x", "w", "r"], ["y", "last"], hidden_size=1, direction=direction)
    shapes = {"x": X.shape, "y": (4, count, 1, 1), "last": (count, 1, 1)}
    x, *outputs = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    constants = [numpy_helper.from_array(weights, name) for name in "wr"]
    graph = helper.make_graph([node], "g", [x], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path = Path(sys.argv[1]) / f"{kind}_{direction}.onnx"
    onnx.save(model, path)
    return path


def of_onnxruntime(path) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": X})


def of_tract(path) -> list[np.ndarray]:
    outputs = tract.onnx().load(str(path)).into_model().into_runnable().run([X])
    return [output.to_numpy() for output in outputs]


def same(first, second) -> bool:
    return all(a.shape == b.shape and np.allclose(a, b, atol=1e-5) for a, b in zip(first, second, strict=True))


def show(outputs) -> str:
    y, last = ([f"{value:.3f}" for value in output.ravel()] for output in outputs)
    return f"steps {' '.join(y)}, last {' '.join(last)}"


print(f"tract {version('tract')}, onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}")
told = []
for kind in GATES:
    paths = {direction: written(kind, direction) for direction in ("forward", "bidirectional", "reverse")}
    right = {direction: of_onnxruntime(path) for direction, path in paths.items()}
    got = {direction: of_tract(path) for direction, path in paths.items()}
    print(f"{kind} in reverse:\n  ONNX Runtime {show(right['reverse'])}\n  tract        {show(got['reverse'])}")
    told += [same(right[direction], got[direction]) for direction in ("forward", "bidirectional")]
    told += [same(right["forward"], got["reverse"]), not same(right["reverse"], got["reverse"])]
sys.exit(not all(told))
PYTHON

"$work/venv/bin/python" "$work/run.py" "$work" || { echo "tract behaves otherwise than this file says" >&2; exit 1; }
