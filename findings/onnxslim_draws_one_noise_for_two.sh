#!/usr/bin/env bash
# OnnxSlim keeps one of two nodes that have the same operator, attributes and inputs. It does so with random operators
# too, of which each node without a seed is a draw of its own: of two noises that are shaped like the same tensor one is
# left, and what was the difference of two samples is zero in every run. A random tensor of a known shape is drawn once
# while the model is made smaller and stored in it. Neither gives a warning.
#
# Seen with onnxslim 0.1.98, onnxruntime 1.32.0, onnx 1.23.2 and Python 3.11. The script fails where that is no longer
# so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnxslim==0.1.98 onnx==1.23.2 onnxruntime==1.32.0

cat > "$work/noise.py" <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
import onnxslim

HEAD = '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y)'
TWO = "{{ a = {0} (x)  b = {0} (x)  y = Sub (a, b) }}"
CASES = {
    "difference of two RandomNormalLike": TWO.format("RandomNormalLike"),
    "difference of two RandomUniformLike": TWO.format("RandomUniformLike"),
    "RandomNormal": "{ noise = RandomNormal <shape = [1000]> ()  y = Add (x, noise) }",
}


def behaviour(model) -> str:
    """What two runs of a session make of a thousand equal numbers."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    halves = np.full(1000, 0.5, dtype=np.float32)
    first, second = (session.run(None, {"x": halves})[0] for _ in range(2))
    if not first.any() and not second.any():
        return "always zero"
    return "always the same" if np.array_equal(first, second) else "random"


print(f"onnxslim {version('onnxslim')}, onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}")
seen = []
for what, body in CASES.items():
    model = onnx.parser.parse_model(HEAD + body)
    onnx.checker.check_model(model, full_check=True)
    seen.append((behaviour(model), behaviour(onnxslim.slim(model))))
    print(f"{what}: before {seen[-1][0]}; after {seen[-1][1]}")
sys.exit(seen != [("random", "always zero")] * 2 + [("random", "always the same")])
PYTHON

"$work/venv/bin/python" "$work/noise.py" 2> "$work/log" || {
    cat "$work/log" >&2
    echo "OnnxSlim behaves otherwise than this file says" >&2
    exit 1
}
