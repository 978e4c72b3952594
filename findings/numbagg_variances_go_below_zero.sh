#!/usr/bin/env bash
# numbagg's nanvar and nanstd take the mean away before they square. group_nanvar and group_nanstd, which do the same in
# groups, subtract the square of the sum from the sum of the squares, in the numbers' own type, and almost nothing is
# left when the spread is small beside the numbers: of temperatures around 290 K in float32, with a spread of 0.05 K,
# the variances of groups are several times too large or negative. In float64 the same happens with times in seconds
# since 1970, a thousandfold. Only the roots of negative variances, which are NaN, give a warning. nansum and
# group_nansum of int32 moreover add in 32 bits, where NumPy takes 64: the sum of four times 2 ** 30 is 0.
#
# Seen with numbagg 0.9.6, numba 0.68.1, numpy 2.4.6 and Python 3.11. The causes are in grouped.py and in the signatures
# of funcs.py. For the moving functions the first is known (pull request 770 of numbagg). The script fails where that is
# no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet numbagg==0.9.6 numba==0.68.1 numpy==2.4.6

cat > "$work/groups.py" <<'PYTHON'
import sys
import warnings

import numba
import numbagg
import numpy as np

warnings.simplefilter("error")
warnings.filterwarnings("ignore", message="invalid value encountered in group_nanstd")
GROUPS = np.repeat(np.arange(20), 100)
WAVE = np.sin(np.arange(2000.0)) * np.sqrt(2)  # with a spread of 1


def variances(values):
    """Of each group: the exact variance, nanvar's, group_nanvar's and group_nanstd's."""
    rows = values.reshape(20, 100)
    exact = rows.astype(np.longdouble).var(axis=1, ddof=1)
    of_groups = [function(values, GROUPS) for function in (numbagg.group_nanvar, numbagg.group_nanstd)]
    return [np.asarray(a, dtype=np.float64) for a in (exact, numbagg.nanvar(rows, axis=1, ddof=1), *of_groups)]


print(f"numbagg {numbagg.__version__}, numba {numba.__version__}, numpy {np.__version__}")
told = []
for what, values in {
    "kelvin in float32": (290 + 0.05 * WAVE).astype(np.float32),
    "seconds since 1970 in float64": 1_700_000_000 + WAVE,
}.items():
    exact, plain, variance, deviation = variances(values)
    print(f"{what}, the first groups:")
    for name, numbers in ("exact variance", exact), ("nanvar", plain), ("group_nanvar", variance):
        print(f"  {name:<15}{numbers[:5].round(5).tolist()}")
    print(f"  {'group_nanstd':<15}{deviation[:5].round(5).tolist()}")
    print(f"  {(variance < 0).sum()} of 20 variances are negative")
    told.append(np.allclose(plain, exact, rtol=0.01) and (variance < 0).any() and np.isnan(deviation).any())
    told.append((abs(variance - exact) > exact).sum() >= 10)

counts = np.full(4, 2**30, dtype=np.int32)
sums = int(numbagg.nansum(counts)), numbagg.group_nansum(counts, np.zeros(4, dtype=np.int64)).tolist()
print(f"four times 2 ** 30 in int32: NumPy {counts.sum()}, nansum {sums[0]}, group_nansum {sums[1]}")
told.append(sums == (0, [0]) and numbagg.nanmean(counts) == 2**30)
sys.exit(not all(told))
PYTHON

"$work/venv/bin/python" "$work/groups.py" || { echo "numbagg behaves otherwise than this file says" >&2; exit 1; }
