#!/usr/bin/env bash
# Arrays that come from IDX, FITS and other files of the network's byte order are big-endian, and NumPy counts with them
# as with any others. Two serializers write them so that other numbers are read, without an error or a warning: 1 as a
# 64-bit integer becomes 2 ** 56. json_tricks, with ndarray_compact, notes the byte order twice, in the dtype and as
# that of the machine, and turns the bytes around accordingly when it reads them. Asking for a byte order by
# ndarray_store_byteorder does not help, and its default form, in plain digits, is right. ormsgpack's
# OPT_SERIALIZE_NUMPY takes the bytes for the machine's: lists of wrong numbers are written, for every reader. Its model
# orjson had the same fault (issue 472 of orjson) and refuses such arrays since.
#
# Seen with json-tricks 3.17.3, ormsgpack 1.13.1, orjson 3.13.0, numpy 2.4.6 and Python 3.11, on a little-endian
# machine. The cause is in json_tricks/encoders.py and decoders.py, and in ormsgpack, which does not look at the byte
# order of the array. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet json-tricks==3.17.3 ormsgpack==1.13.1 orjson==3.13.0 numpy==2.4.6

cat > "$work/orders.py" <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

import json_tricks
import numpy as np
import orjson
import ormsgpack

warnings.simplefilter("error")


def by_json_tricks(array, **properties):
    return json_tricks.loads(json_tricks.dumps(array, properties=properties)).tolist()


def by_ormsgpack(array):
    return ormsgpack.unpackb(ormsgpack.packb(array, option=ormsgpack.OPT_SERIALIZE_NUMPY))


def by_orjson(array):
    try:
        return orjson.loads(orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY))
    except TypeError:
        return "refused"


WAYS = {
    "json_tricks": by_json_tricks,
    "json_tricks, compact": lambda array: by_json_tricks(array, ndarray_compact=True),
    "json_tricks, compact, stored as big": lambda array: by_json_tricks(
        array, ndarray_compact=True, ndarray_store_byteorder="big"
    ),
    "ormsgpack": by_ormsgpack,
    "orjson": by_orjson,
}
libraries = ", ".join(f"{name} {version(name)}" for name in ("json-tricks", "ormsgpack", "orjson", "numpy"))
print(f"{libraries}, {sys.byteorder}-endian")
told = [sys.byteorder == "little"]
for kind in ("i2", "i8", "f4"):
    numbers = np.array([1, 2, 3], dtype=f">{kind}")
    right = numbers.tolist()
    turned = numbers.view(f"<{kind}").tolist()
    expected = dict(zip(WAYS, [right, turned, turned, turned, "refused"], strict=True))
    print(f"{right} as >{kind}:")
    for way, through in WAYS.items():
        got = through(numbers)
        print(f"  {way}: {got}")
        told += [got == expected[way], through(numbers.astype(kind)) == right]
sys.exit(not all(told))
PYTHON

"$work/venv/bin/python" "$work/orders.py" || { echo "they behave otherwise than this file says" >&2; exit 1; }
