#!/usr/bin/env bash
# MLflow's log_table says that data for a table that exists already is appended to it. It reads the file of the table,
# which is JSON in all its examples, adds the rows and writes all of them again, and pandas.read_json guesses types:
# texts that look like numbers become numbers. The answers 007 and 1.10 of a model are stored as 7.0 and 1.1 after a
# second call, where one call with all rows keeps them. Numbers in a column whose name ends in _time become dates of
# 1971, as soon as load_table reads them, and what is behind the tenth decimal is never written: a p-value of 3e-12 is
# a zero. None of this gives a warning. With a file name in .parquet the same calls keep every value.
#
# Seen with mlflow 3.17.2, pandas 3.1.1, pyarrow 25.0.1 and Python 3.11. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet mlflow==3.17.2 pandas==3.1.1 pyarrow==25.0.1

cat > "$work/rows.py" <<'PYTHON'
import sys
from importlib.metadata import version

import mlflow
from mlflow import MlflowClient

ROWS = {
    "answer": ["007", "1.10", "unknown"],
    "p": [3e-12, 0.04, 0.5],
    "step_time": [45_000_000, 52_000_000, 50_000_000],
}

mlflow.set_tracking_uri(f"sqlite:///{sys.argv[1]}/mlflow.db")
client = MlflowClient()
experiment = client.create_experiment("example", artifact_location=f"file://{sys.argv[1]}/artifacts")


def stored(parts, kind) -> dict[str, list[str]]:
    """What load_table gives after log_table was called with each part of the rows."""
    run = client.create_run(experiment).info.run_id
    for part in parts:
        client.log_table(run, {column: values[part] for column, values in ROWS.items()}, f"rows.{kind}")
    table = client.load_table(experiment, f"rows.{kind}", [run])
    return {column: [str(value) for value in table[column]] for column in table}


kept = {column: [str(value) for value in values] for column, values in ROWS.items()}
dates = ["1971-06-05 20:00:00", "1971-08-25 20:26:40", "1971-08-02 16:53:20"]
changed = {"p": ["0.0", "0.04", "0.5"], "step_time": dates}
expected = {
    ("parquet", "one call"): kept,
    ("parquet", "two calls"): kept,
    ("json", "one call"): kept | changed,
    ("json", "two calls"): kept | changed | {"answer": ["7.0", "1.1", "unknown"]},
}
calls = {"one call": [slice(3)], "two calls": [slice(2), slice(2, 3)]}
as_told = True
print(f"mlflow {version('mlflow')}, pandas {version('pandas')}, pyarrow {version('pyarrow')}")
for (kind, what), values in expected.items():
    seen = stored(calls[what], kind)
    print(f"{kind}, {what}: {seen}")
    as_told &= seen == values
sys.exit(not as_told)
PYTHON

MLFLOW_DISABLE_TELEMETRY=true "$work/venv/bin/python" -W ignore "$work/rows.py" "$work" 2> "$work/log" || {
    cat "$work/log" >&2
    echo "MLflow behaves otherwise than this file says" >&2
    exit 1
}
