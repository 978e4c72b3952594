#!/usr/bin/env bash
# ndonnx has NumPy's interface, as the array API standard has it, and computes by ONNX operators. cumulative_prod takes
# the logarithms, adds them up and takes the powers: from a negative number on the products are NaN and, of integers,
# what a NaN is cast to. Products of positive integers, cut off to integers in the end, come out too small by one here
# and there, although they are far below 2 ** 53: among the factorials 24 becomes 23. logaddexp in its turn is the plain
# formula, log(exp(x) + exp(y)), and so infinite for the numbers for which one uses it, such as log-likelihoods below
# -745 and, in float32, all numbers above 88. None of this gives a warning.
#
# Seen with ndonnx 0.23.0, onnxruntime 1.32.0, numpy 2.4.6 and Python 3.11. The cause is in _typed_array/onnx.py; a note
# there says that ONNX has no cumulative product. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet ndonnx==0.23.0 spox==0.18.2 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6

cat > "$work/products.py" <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

import ndonnx
import numpy as np

warnings.simplefilter("error")


def computed(function, *arrays) -> list:
    return getattr(ndonnx, function)(*map(ndonnx.asarray, arrays)).unwrap_numpy().tolist()


def show(what, right, got):
    print(f"{what}:\n  NumPy  {right}\n  ndonnx {got}")


print(f"ndonnx {version('ndonnx')}, onnxruntime {version('onnxruntime')}, numpy {np.__version__}")
told = []
signs = np.array([2.0, -3.0, 4.0])
got = computed("cumulative_prod", signs)
show("products with a sign", signs.cumprod().tolist(), got)
told.append(got[0] == 2 and np.isnan(got[1:]).all())

right, got = signs.astype(np.int64).cumprod().tolist(), computed("cumulative_prod", signs.astype(np.int64))
show("the same of integers", right, got)
told.append(got[0] == 2 and not np.equal(right, got)[1:].any())

numbers = np.arange(1, 13)
right, got = numbers.cumprod(), np.array(computed("cumulative_prod", numbers))
show("factorials", right.tolist(), got.tolist())
told.append((got != right).any() and (abs(got - right) <= 1e-12 * right + 1).all())

for x in (np.array([-1000.0, 2.0]), np.array([100.0, 2.0], dtype=np.float32)):
    right, got = np.logaddexp(x, x).tolist(), computed("logaddexp", x, x)
    show(f"logaddexp of {x.tolist()} and itself, {x.dtype}", right, got)
    told.append(np.isinf(got[0]) and np.isclose(right[1], got[1]))
sys.exit(not all(told))
PYTHON

"$work/venv/bin/python" "$work/products.py" || { echo "ndonnx behaves otherwise than this file says" >&2; exit 1; }
