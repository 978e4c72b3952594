#!/usr/bin/env bash
# dask.array.from_array names an array by a hash of it, by which dask recognises an array that it has already. Two
# kinds of arrays are hashed so that different ones get one name, and then the data of one stand in the place of both.
# Texts in an array of objects are joined by hyphens first: (Anna-Maria, Lee) and (Anna, Maria-Lee) become one array.
# Of a memory-mapped array only the bytes are hashed, without dtype and shape: a file mapped as big-endian numbers and
# the same file mapped as little-endian ones become one array. dask finds such arrays equal where it compares them,
# stacks one of them twice, and a delayed function that is pure gives both the same result. With NumPy's own type of
# text, and with the file read instead of mapped, everything is right.
#
# Seen with dask 2026.8.0, numpy 2.4.6 and Python 3.11. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet dask==2026.8.0 numpy==2.4.6

cat > "$work/two_arrays.py" <<'PYTHON'
import sys
from pathlib import Path

import dask
import dask.array as da
import numpy as np

people = [np.array(names, dtype=object) for names in (["Anna-Maria", "Lee"], ["Anna", "Maria-Lee"])]
file = Path(sys.argv[1]) / "numbers.bin"
np.array([1, 256], dtype=">u2").tofile(file)
pairs = {
    "texts as objects": people,
    "texts as str": [names.astype(str) for names in people],
    "file mapped": [np.memmap(file, dtype=order, mode="r") for order in (">u2", "<u2")],
    "file read": [np.fromfile(file, dtype=order) for order in (">u2", "<u2")],
}
as_told = True
print(f"dask {dask.__version__}, numpy {np.__version__}")
for what, arrays in pairs.items():
    one, other = (da.from_array(array, chunks=-1) for array in arrays)
    stacked, equal = dask.compute(da.stack([one, other]), (one == other).all())
    listed = dask.compute(*(dask.delayed(np.ndarray.tolist, pure=True)(array) for array in arrays))
    right = np.stack(arrays).tolist()
    print(f"{what}: {right} stacked by dask: {stacked.tolist()}; equal: {equal}; as lists: {list(listed)}")
    confused = what in ("texts as objects", "file mapped")
    signs = [one.name == other.name, bool(equal), listed[0] == listed[1], stacked.tolist() != right]
    as_told &= signs == [confused] * 4
sys.exit(not as_told)
PYTHON

"$work/venv/bin/python" "$work/two_arrays.py" "$work" || {
    echo "dask behaves otherwise than this file says" >&2
    exit 1
}
