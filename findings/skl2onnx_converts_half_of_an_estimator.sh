#!/usr/bin/env bash
# skl2onnx converts these estimators of scikit-learn, without a warning, into models that do something else.
# OneVsOneClassifier answers the number of a class and not the class: of the digits 2, 5 and 9 it makes 0, 1 and 2.
# TunedThresholdClassifierCV answers as if the threshold that it has tuned were one half. BaggingClassifier, of
# classifiers without predict_proba, answers one row for each of its estimators and not for each sample. SimpleImputer
# leaves out the columns of add_indicator, and PowerTransformer, which keeps missing values missing, takes them for 0.
#
# Seen with skl2onnx 1.20.0, scikit-learn 1.9.1, onnxruntime 1.32.0 and Python 3.11. The causes are in the converters of
# the five, in skl2onnx/operator_converters. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet skl2onnx==1.20.0 scikit-learn==1.9.1 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6

cat > "$work/estimators.py" <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.ensemble import BaggingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.multiclass import OneVsOneClassifier
from sklearn.preprocessing import PowerTransformer

X = np.arange(9, dtype=np.float32)[:, None]
MISSING = np.where(X == 2, np.nan, X).astype(np.float32)
TWO = np.array([0, 0, 1, 0, 0, 1, 1, 1, 1])
DIGITS = np.repeat([2, 5, 9], 3)


def of_onnx(estimator, x):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = to_onnx(estimator, x[:1])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"X": x})[0]


def show(right, got):
    for name, numbers in ("scikit-learn", right), ("ONNX", got):
        rows = (" and ".join(f"{number:.4g}" for number in row) for row in np.reshape(numbers, (len(numbers), -1)))
        print(f"  {name}: {', '.join(rows)}")


print(", ".join(f"{name} {version(name)}" for name in ("skl2onnx", "scikit-learn", "onnxruntime")))
told = []

print("OneVsOneClassifier:")
pairs = OneVsOneClassifier(LogisticRegression()).fit(X, DIGITS)
right, got = pairs.predict(X), of_onnx(pairs, X)
show(right, got)
told.append(np.array_equal(pairs.classes_[got.ravel()], right))

print("TunedThresholdClassifierCV for recall:")
tuned = TunedThresholdClassifierCV(LogisticRegression(), cv=2, scoring="recall").fit(X, TWO)
right, got = tuned.predict(X), of_onnx(tuned, X)
show(right, got)
told.append(np.array_equal(got, tuned.predict_proba(X)[:, 1] > 0.5) and not np.array_equal(got, right))

print("BaggingClassifier of three RidgeClassifiers:")
bag = BaggingClassifier(RidgeClassifier(), n_estimators=3, random_state=0).fit(X, TWO)
right, got = bag.predict(X), of_onnx(bag, X)
show(right, got)
told.append(got.shape == (3,) and right.shape == (9,))

print("SimpleImputer with add_indicator:")
imputer = SimpleImputer(add_indicator=True).fit(MISSING)
right, got = imputer.transform(MISSING), of_onnx(imputer, MISSING)
show(right, got)
told.append(right.shape == (9, 2) and got.shape == (9, 1) and np.allclose(right[:, :1], got))

print("PowerTransformer:")
power = PowerTransformer().fit(MISSING)
right, got = power.transform(MISSING), of_onnx(power, MISSING)
show(right, got)
told.append(np.isnan(right[2, 0]) and np.isclose(got[2], power.transform([[0.0]])[0, 0], atol=1e-5)[0])
sys.exit(not all(told))
PYTHON

"$work/venv/bin/python" "$work/estimators.py" || { echo "skl2onnx behaves otherwise than this file says" >&2; exit 1; }
