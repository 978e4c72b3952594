#!/usr/bin/env bash
# A TreeEnsembleClassifier of ONNX returns the class with the highest score. With two classes whose scores are both in
# the leaves, ONNX Runtime looks at the second one alone and asks whether it is positive: of probabilities, which always
# are, every row gets the second class, although the scores that it returns beside the label are right. The label is
# moreover 1 or 0 and none of classlabels_int64s: a model of the classes 5 and 3 answers 1. As texts the labels are
# those of the model, and as wrong. With a third class that has no votes the same leaves give the right labels, as does
# one score alone, which is what the converters of scikit-learn and XGBoost write.
#
# Seen with onnxruntime 1.32.0, onnx 1.23.2 and Python 3.11. The cause is in tree_ensemble_aggregator.h, where
# _set_score_binary compares the second score with 0. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6

cat > "$work/labels.py" <<'PYTHON'
import sys

import numpy as np
import onnx
import onnxruntime
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
    post_transform="NONE",
)
ONE_SCORE = dict(class_treeids=[0, 0], class_nodeids=[1, 2], class_ids=[0, 0], class_weights=[0.2, 0.7])
BOTH = dict(
    class_treeids=[0] * 4,
    class_nodeids=[1, 1, 2, 2],
    class_ids=[0, 1, 0, 1],
    class_weights=[0.8, 0.2, 0.3, 0.7],
)
CASES = {
    "both scores, classes 0 and 1": (BOTH, [0, 1]),
    "both scores, classes 5 and 3": (BOTH, [5, 3]),
    "both scores, classes no and yes": (BOTH, ["no", "yes"]),
    "both scores, a third class without votes": (BOTH, [5, 3, 4]),
    "one score, classes 5 and 3": (ONE_SCORE, [5, 3]),
}


def made(leaves, classes) -> onnx.ModelProto:
    kind = "classlabels_strings" if isinstance(classes[0], str) else "classlabels_int64s"
    attributes = {**TREE, **leaves, kind: classes}
    node = helper.make_node("TreeEnsembleClassifier", ["x"], ["label", "score"], domain="ai.onnx.ml", **attributes)
    label = TensorProto.STRING if isinstance(classes[0], str) else TensorProto.INT64
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4, 1])]
    outputs = [
        helper.make_tensor_value_info("label", label, [4]),
        helper.make_tensor_value_info("score", TensorProto.FLOAT, [4, len(classes)]),
    ]
    opsets = [helper.make_opsetid("", 14), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(helper.make_graph([node], "g", inputs, outputs), opset_imports=opsets, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


print(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}")
told, answers = [], []
for what, (leaves, classes) in CASES.items():
    model = made(leaves, classes)
    right, scores = ReferenceEvaluator(model).run(None, {"x": X})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    got, of_session = session.run(None, {"x": X})
    first, second = classes[:2]
    told += [right.tolist() == [first, first, second, second], np.allclose(scores, of_session, atol=1e-6)]
    answers.append(got.tolist())
    print(f"{what}: onnx.reference {right.tolist()}, ONNX Runtime {answers[-1]}")
print("the second scores are", " ".join(f"{score:.2f}" for score in of_session[:, 1]))
told.append(answers == [[1] * 4, [1] * 4, ["yes"] * 4, [5, 5, 3, 3], [5, 5, 3, 3]])
sys.exit(not all(told))
PYTHON

"$work/venv/bin/python" "$work/labels.py" || { echo "onnxruntime behaves otherwise than this file says" >&2; exit 1; }
