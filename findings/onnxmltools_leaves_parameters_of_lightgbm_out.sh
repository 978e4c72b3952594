#!/usr/bin/env bash
# onnxmltools.convert_lightgbm refuses objectives that it does not know. Of those that it knows it reads the name and
# leaves out what stands behind it, so that models are converted into others, without a warning. With reg_sqrt, which
# learns roots, the square is missing: the prices come out as their roots. sigmoid, the steepness of the probabilities,
# counts as 1 whatever it is. multiclassova becomes a softmax over the classes. zero_as_missing is forgotten: a zero is
# compared as a number, where LightGBM sends it the way of the missing values. The sum over a forest (boosting_type is
# rf) is divided by 100, the default of n_estimators, and not by the number of its trees, and as a Booster by nothing.
#
# Seen with onnxmltools 1.16.0, lightgbm 4.7.0, onnxruntime 1.32.0 and Python 3.11. The cause is in LightGbm.py, which
# looks at the beginning of the objective alone, as at "binary" of "binary sigmoid:3", and has the 100 as a constant.
# The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet onnxmltools==1.16.0 skl2onnx==1.20.0 onnx==1.23.2 onnxruntime==1.32.0 \
    lightgbm==4.7.0 scikit-learn==1.9.1 numpy==2.4.6

cat > "$work/convert.py" <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

import numpy as np
import onnxruntime
from lightgbm import LGBMClassifier, LGBMRegressor
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

warnings.simplefilter("ignore")
TINY = dict(min_child_samples=1, min_child_weight=0, min_data_in_bin=1)
SMALL = dict(n_estimators=5, num_leaves=4, learning_rate=0.5, n_jobs=1, verbosity=-1, **TINY)
FOREST = dict(boosting_type="rf", subsample=0.7, subsample_freq=1)
x = np.arange(1, 10.0)[:, None]
price = x[:, 0] ** 2
large = (price > 20).astype(int)
size = np.digitize(price, [15, 50])
with_zeros = np.where(np.arange(9)[:, None] % 3 == 0, 0, x)


def of_lightgbm(model, data):
    return model.predict_proba(data) if isinstance(model, LGBMClassifier) else model.predict(data)


def of_onnx(model, data):
    onnx = convert_lightgbm(model, initial_types=[("x", FloatTensorType([None, 1]))], zipmap=False)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(onnx.SerializeToString(), options)
    return session.run(None, {"x": data.astype(np.float32)})[-1].squeeze().astype(np.float64)


def logit(probability):
    return np.log(probability / (1 - probability))


def softmax(scores):
    powers = np.exp(scores)
    return powers / powers.sum(axis=1, keepdims=True)


def show(what, model, data, goal):
    model.fit(data, goal)
    right, converted = of_lightgbm(model, data), of_onnx(model, data)
    print(f"{what}:\n  LightGBM {right[:6].round(3).tolist()}\n  ONNX     {converted[:6].round(3).tolist()}")
    return right, converted


def same(first, second):
    return np.allclose(first, second, rtol=1e-4, atol=1e-5)


print(f"onnxmltools {version('onnxmltools')}, lightgbm {version('lightgbm')}, onnxruntime {version('onnxruntime')}")
right, converted = show("as it should be", LGBMRegressor(**SMALL), x, price)
told = [same(right, converted)]
right, converted = show("reg_sqrt", LGBMRegressor(reg_sqrt=True, **SMALL), x, price)
told.append(same(right, converted**2))
right, converted = show("sigmoid=3", LGBMClassifier(sigmoid=3.0, **SMALL), x, large)
told.append(same(logit(right), 3 * logit(converted)))
right, converted = show("multiclassova", LGBMClassifier(objective="multiclassova", **SMALL), x, size)
told.append(same(converted, softmax(logit(right))) and not same(converted, right))
right, converted = show("zero_as_missing", LGBMRegressor(zero_as_missing=True, **SMALL), with_zeros, price)
told.append(np.isclose(right, converted, rtol=1e-4).tolist() == (with_zeros[:, 0] != 0).tolist())
forest = LGBMRegressor(**FOREST, **SMALL)
right, converted = show("forest of 5 trees", forest, x, price)
told.append(same(right, converted * 100 / 5) and same(right, of_onnx(forest.booster_, x) / 5))
sys.exit(not all(told))
PYTHON

"$work/venv/bin/python" "$work/convert.py" || { echo "onnxmltools behaves otherwise than this file says" >&2; exit 1; }
