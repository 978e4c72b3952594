#!/usr/bin/env bash
# Client.get_executor() of dask.distributed gives an executor like those of concurrent.futures, whose submit(fn, *args,
# **kwargs) says that it calls fn(*args, **kwargs). It hands the keyword arguments to Client.submit, which keeps those
# that have its own parameters' names: a function never gets its retries, workers or priority, and computes with the
# defaults without a word. key is worse, because it names the result in the cluster: of two functions called with the
# same key the second is not called, and its future holds the result of the first. pure=False, by which the executor is
# told that each call is one of its own, does not help. A program that ran with ThreadPoolExecutor gets wrong results.
#
# Seen with distributed 2026.8.0 and Python 3.11. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet distributed==2026.8.0 dask==2026.8.0

cat > "$work/two_executors.py" <<'PYTHON'
import sys
from concurrent.futures import ThreadPoolExecutor

from distributed import Client, __version__

ROWS = [{"width": 1, "height": 20}, {"width": 3, "height": 10}]


def largest(rows, key="width", retries=0):
    return f"largest {key} after {retries} retries: {max(row[key] for row in rows)}"


def smallest(rows, key="width"):
    return f"smallest {key}: {min(row[key] for row in rows)}"


def results(executor):
    calls = [executor.submit(largest, ROWS, key="height", retries=3), executor.submit(smallest, ROWS, key="height")]
    return [call.result() for call in calls]


def main():
    with ThreadPoolExecutor(1) as threads:
        expected = results(threads)
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as client:
        seen = results(client.get_executor(pure=False))
    print(f"distributed {__version__}\nThreadPoolExecutor: {expected}\nClient.get_executor: {seen}")
    return expected != ["largest height after 3 retries: 20", "smallest height: 10"] or seen != [
        "largest width after 0 retries: 3",
        "largest width after 0 retries: 3",
    ]


if __name__ == "__main__":
    sys.exit(main())
PYTHON

"$work/venv/bin/python" "$work/two_executors.py" 2> "$work/log" || {
    cat "$work/log" >&2
    echo "distributed behaves otherwise than this file says" >&2
    exit 1
}
