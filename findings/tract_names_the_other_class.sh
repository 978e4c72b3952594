#!/usr/bin/env bash
# A TreeEnsembleClassifier of ONNX for two classes may have one score alone, that of the second class, as boosted trees
# have it; onnxmltools writes them so for XGBoost and skl2onnx the trees and forests of scikit-learn, which then have
# the probability itself. tract computes the two probabilities rightly, but takes the label from before: it looks for
# the larger one of the score, in the first column, and of the empty second column, which counts as 0.5 after LOGISTIC
# and as 0 without it. So every label is the other one after LOGISTIC, and without it the first class wins wherever the
# second has any probability. Labels and probabilities of one answer contradict each other. With both scores written the
# labels are right.
#
# Seen with tract 0.23.9, onnx 1.23.2 and Python 3.11. The cause is in tree_ensemble_classifier.rs, where the winner is
# that of processed_scores. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet tract==0.23.9 onnx==1.23.2 numpy==2.4.6

cat > "$work/labels.py" <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import tract
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

X = np.array([[-2.0], [-1.0], [1.0], [2.0]], dtype=np.float32)
TREE = dict(
    nodes_treeids=[0, 0, 0],
    nodes_nodeids=[0, 1, 2],
    nodes_featureids=[0, 0, 0],
    nodes_values=[0.0, 0.0, 0.0],
    nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
    nodes_truenodeids=[1, 0, 0],
    nodes_falsenodeids=[2, 0, 0],
    nodes_missing_value_tracks_true=[0, 0, 0],
    classlabels_int64s=[0, 1],
)
ONE_SCORE = dict(class_treeids=[0, 0], class_nodeids=[1, 2], class_ids=[0, 0])
TWO_SCORES = dict(class_treeids=[0] * 4, class_nodeids=[1, 1, 2, 2], class_ids=[0, 1, 0, 1])
CASES = {
    "log-odds": dict(ONE_SCORE, class_weights=[-1.5, 0.8], post_transform="LOGISTIC"),
    "probabilities": dict(ONE_SCORE, class_weights=[0.2, 0.7], post_transform="NONE"),
    "probabilities of both": dict(TWO_SCORES, class_weights=[0.8, 0.2, 0.3, 0.7], post_transform="NONE"),
}


def written(number, leaves) -> Path:
    node = helper.make_node("TreeEnsembleClassifier", ["x"], ["label", "p"], domain="ai.onnx.ml", **TREE, **leaves)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 1])
    label = helper.make_tensor_value_info("label", TensorProto.INT64, [4])
    p = helper.make_tensor_value_info("p", TensorProto.FLOAT, [4, 2])
    opsets = [helper.make_opsetid("", 14), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(helper.make_graph([node], "g", [x], [label, p]), opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    path = Path(sys.argv[1]) / f"{number}.onnx"
    onnx.save(model, path)
    return path


def of_reference(path) -> list[np.ndarray]:
    return ReferenceEvaluator(onnx.load(path)).run(None, {"x": X})


def of_tract(path) -> list[np.ndarray]:
    outputs = tract.onnx().load(str(path)).into_model().into_runnable().run([X])
    return [output.to_numpy() for output in outputs]


print(f"tract {version('tract')}, onnx {onnx.__version__}")
told, labels = [], []
for number, (what, leaves) in enumerate(CASES.items()):
    path = written(number, leaves)
    right, got = of_reference(path), of_tract(path)
    of_second = " ".join(f"{p:.2f}" for p in got[1][:, 1])
    print(f"{what}: of class 1 {of_second}, onnx.reference {right[0].tolist()}, tract {got[0].tolist()}")
    told += [np.allclose(right[1], got[1], atol=1e-6), right[0].tolist() == [0, 0, 1, 1]]
    labels.append(got[0].tolist())
told.append(labels == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 1]])
sys.exit(not all(told))
PYTHON

"$work/venv/bin/python" "$work/labels.py" "$work" || { echo "tract behaves otherwise than this file says" >&2; exit 1; }
