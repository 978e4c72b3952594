#!/usr/bin/env bash
# pandas counts times in seconds, milliseconds, microseconds or nanoseconds, and microseconds have become its default.
# fastparquet takes some of them for others. With times="int96", the form for Spark and Hive, it takes all dates for
# nanoseconds: those that pandas 3 makes of texts are written as dates of January 1970, whoever reads the file.
# Durations in seconds, as from the difference of two dates in seconds, are written as so many microseconds, and come
# back as durations of 0 seconds. There is no error and no warning. Dates without times="int96" come back or raise an
# error, and durations in the other units come back, down to microseconds.
#
# Seen with fastparquet 2026.9.0, pandas 3.1.1, pyarrow 26.0.1, numpy 2.4.6 and Python 3.11. The cause is convert() in
# fastparquet/writer.py, where the unit of the column is not asked for in these two cases. The script fails where that
# is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet fastparquet==2026.9.0 pandas==3.1.1 pyarrow==26.0.1 numpy==2.4.6

cat > "$work/times.py" <<'PYTHON'
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import fastparquet
import pandas as pd
import pyarrow.parquet

warnings.simplefilter("error")
warnings.simplefilter("ignore", ResourceWarning)
PATH = str(Path(sys.argv[1]) / "times.parquet")
DATES = pd.Series(pd.to_datetime(["2026-03-01 08:00:00", "2026-03-02 09:30:00"]))
DURATIONS = pd.Series(pd.to_timedelta(["90s", "1h"]))
UNITS = ("s", "ms", "us", "ns")


def stored(column, times="int64"):
    fastparquet.write(PATH, column.to_frame("x"), times=times)
    return fastparquet.ParquetFile(PATH).to_pandas()["x"]


def same(first, second) -> bool:
    return first.astype(second.dtype).tolist() == second.tolist()


print(", ".join(f"{name} {version(name)}" for name in ("fastparquet", "pandas", "pyarrow", "numpy")))
print(f"written: dates {DATES.astype(str).tolist()} as {DATES.dtype}, durations {DURATIONS.tolist()}")
told = [str(DATES.dtype) == "datetime64[us]"]
for unit in UNITS:
    column = DATES.astype(f"datetime64[{unit}]")
    got = stored(column, times="int96")
    by_pyarrow = pyarrow.parquet.read_table(PATH).column("x").to_pandas()
    print(f"dates in {unit} as int96: {got.astype(str).tolist()}, read by pyarrow {by_pyarrow.astype(str).tolist()}")
    as_counted = pd.Series(pd.to_datetime(column.astype("int64"), unit="ns"))
    told += [same(got, as_counted), same(by_pyarrow, as_counted), same(got, column) == (unit == "ns")]
told += [same(stored(DATES.astype(f"datetime64[{unit}]")), DATES) for unit in UNITS[1:]]
for unit in UNITS:
    column = DURATIONS.astype(f"timedelta64[{unit}]")
    got = stored(column)
    print(f"durations in {unit}: {got.dt.total_seconds().tolist()} seconds")
    told.append(got.tolist() == [pd.Timedelta(0)] * 2 if unit == "s" else same(got, column))
sys.exit(not all(told))
PYTHON

"$work/venv/bin/python" "$work/times.py" "$work" ||
    { echo "fastparquet behaves otherwise than this file says" >&2; exit 1; }
