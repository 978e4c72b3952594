#!/usr/bin/env bash
# BitRound of numcodecs drops bits of the mantissa of floats so that arrays compress better. It rounds what is kept by
# an addition to the bits as to those of an integer, and does so with NaN too, which differs from infinity in nothing
# but its mantissa. NumPy's NaN stays NaN, others do not: the one that CUDA computes, 0x7fffffff, becomes minus zero,
# bytes of ones, as of memory that was filled with them, become zero, and NA of R becomes infinity. zarr stores these
# numbers without a warning, and what was missing counts in every mean from then on.
#
# Seen with numcodecs 0.16.6, zarr 3.1.6, numpy 2.4.6 and Python 3.11. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet numcodecs==0.16.6 zarr==3.1.6 numpy==2.4.6

cat > "$work/missing.py" <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

import numpy as np
import zarr
from numcodecs import BitRound

warnings.simplefilter("error")
MISSING = {
    "NumPy": np.array(np.nan, dtype=np.float32),
    "CUDA": np.array(0x7FFFFFFF, dtype=np.uint32).view(np.float32),
    "bytes of ones": np.array(0xFFFFFFFF, dtype=np.uint32).view(np.float32),
    "R": np.array(0x7FF00000000007A2, dtype=np.uint64).view(np.float64),
}


def stored(value) -> float:
    """What zarr gives back of an array of two such values and a 2, with ten bits of the mantissa kept."""
    data = np.stack([value, value, value.dtype.type(2)])
    array = zarr.create_array({}, data=data, filters=[BitRound(keepbits=10)], zarr_format=2)
    first, second, two = array[:].tolist()
    assert np.array_equal(first, second, equal_nan=True) and two == 2
    return first


print(f"numcodecs {version('numcodecs')}, zarr {version('zarr')}, numpy {np.__version__}")
seen = {}
for origin, value in MISSING.items():
    assert np.isnan(value)
    seen[origin] = str(stored(value))
    print(f"NaN of {origin}, {value.dtype}, {value.tobytes()[::-1].hex()}: {seen[origin]}")
sys.exit(list(seen.values()) != ["nan", "-0.0", "0.0", "inf"])
PYTHON

"$work/venv/bin/python" "$work/missing.py" || { echo "numcodecs behaves otherwise than this file says" >&2; exit 1; }
