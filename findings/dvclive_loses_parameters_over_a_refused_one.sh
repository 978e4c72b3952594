#!/usr/bin/env bash
# DVCLive's log_param writes a parameter into params.yaml, and is said to raise an error for a value whose type it does
# not support. NumPy's numbers are such values, although log_metric takes them. It remembers the parameter before it
# looks, and opens the file before it knows that it can write: with the error the file is empty, the parameters that it
# had are gone, and each later call fails with the same error, for the sake of the value that was refused. Whether a
# program catches the error or ends with it, its run is recorded without parameters, and cannot be resumed.
#
# Seen with dvclive 3.49.1, dvc 3.67.1, numpy 2.4.6 and Python 3.11. The cause is log_params in dvclive/live.py and
# dump_yaml in dvclive/serialize.py. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet dvclive==3.49.1 dvc==3.67.1 numpy==2.4.6

cat > "$work/parameters.py" <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from dvclive import Live
from dvclive.error import InvalidParameterTypeError

FOLDER = Path(sys.argv[1]) / "dvclive"
FILE = FOLDER / "params.yaml"
ALONE = dict(save_dvc_exp=False, dvcyaml=None, report=None)


def answer(call, *arguments) -> str:
    try:
        call(*arguments)
    except InvalidParameterTypeError as error:
        return f"{type(error).__name__}: {error}"
    return "taken"


def resumed() -> str:
    try:
        with Live(str(FOLDER), resume=True, **ALONE):
            return "resumed"
    except TypeError as error:
        return f"{type(error).__name__}: {error}"


print(", ".join(f"{name} {version(name)}" for name in ("dvclive", "dvc", "numpy")))
seen = {}
with Live(str(FOLDER), **ALONE) as live:
    seen["rate, layers"] = answer(live.log_params, {"rate": 0.1, "layers": 3}), FILE.read_text()
    seen["decay, a float32"] = answer(live.log_param, "decay", np.float32(0.5)), FILE.read_text()
    seen["momentum"] = answer(live.log_param, "momentum", 0.9), FILE.read_text()
    seen["decay as a metric"] = answer(live.log_metric, "decay", np.float32(0.5)), FILE.read_text()
seen["resumed"] = resumed(), FILE.read_text()
for what, (said, text) in seen.items():
    print(f"{what}: {said}; params.yaml is {text!r}")
refused = "InvalidParameterTypeError: cannot represent an object: np.float32(0.5)"
expected = [
    ("taken", "rate: 0.1\nlayers: 3\n"),
    (refused, ""),
    (refused, ""),
    ("taken", ""),
    ("TypeError: 'NoneType' object is not iterable", ""),
]
told = [a == b for a, b in zip(seen.values(), expected, strict=True)]
sys.exit(not all(told))
PYTHON

cd "$work"  # DVCLive makes a repository of DVC where it is called
"$work/venv/bin/python" "$work/parameters.py" "$work" ||
    { echo "DVCLive behaves otherwise than this file says" >&2; exit 1; }
