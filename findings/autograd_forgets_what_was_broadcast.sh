#!/usr/bin/env bash
# A gradient has the shape of what one differentiates by. Where autograd's functions broadcast an argument they sum its
# gradient, but where() does not: the gradient of where(mask, number, 0) by the number is an array like mask. Nothing
# refuses it, since it can be broadcast itself. A step of gradient descent makes the number an array, which is fitted to
# each element instead of to all, and where the number is used twice the other part of its gradient is added to each
# element. full(shape, row) errs the other way: the gradient by a row is one number, the sum over everything, which
# counts for each of the row's elements. The same written as a product has the right gradients.
#
# Seen with autograd 1.9.1, numpy 2.4.6 and Python 3.11. The cause is in numpy/numpy_vjps.py, where these two stand
# without the unbroadcast_f of the others. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet autograd==1.9.1 numpy==2.4.6

cat > "$work/gradients.py" <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

import autograd.numpy as np
from autograd import grad

warnings.simplefilter("error")
DATA = np.array([1.0, 2.0, 6.0, 0.0])
MASK = np.array([True, True, True, False])
ROW = np.array([1.0, 2.0, 3.0])


def by_where(level):
    """How far a level is from the data that are there, and from 1."""
    return np.sum((np.where(MASK, level, 0) - MASK * DATA) ** 2) + np.sum((level - 1) ** 2)


def by_product(level):
    return np.sum((MASK * level - MASK * DATA) ** 2) + np.sum((level - 1) ** 2)


def fitted(loss, level=0.0):
    for _ in range(200):
        level = level - 0.05 * grad(loss)(level)
    return np.round(level, 3).tolist()


def of_full(row):
    return np.sum(np.full((2, 3), row) ** 2)


def of_product(row):
    return np.sum((np.ones((2, 3)) * row) ** 2)


print(f"autograd {version('autograd')}, numpy {version('numpy')}")
losses = {"mask * level": by_product, "where(mask, level, 0)": by_where}
gradients = [np.asarray(grad(loss)(0.0)).tolist() for loss in losses.values()]
levels = [fitted(loss) for loss in losses.values()]
for name, gradient, level in zip(losses, gradients, levels, strict=True):
    print(f"{name}: gradient at 0 {gradient}, level after 200 steps {level}")
rows = [np.asarray(grad(function)(ROW)).tolist() for function in (of_product, of_full)]
print(f"gradient by a row: of a product {rows[0]}, of full {rows[1]}")
told = [
    by_product(0.7) == by_where(0.7) and gradients == [-20, [-4, -6, -14, -2]] and levels == [2.5, [1, 1.5, 3.5, 1]],
    of_full(ROW) == of_product(ROW) and rows == [[4, 8, 12], 24],
]
sys.exit(not all(told))
PYTHON

"$work/venv/bin/python" "$work/gradients.py" || { echo "autograd behaves otherwise than this file says" >&2; exit 1; }
