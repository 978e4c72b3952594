#!/usr/bin/env bash
# Hydra's grammar has str() so that what looks like a number arrives as text, and quotes for the same purpose. In a
# single run both work. In a sweep the values go to the jobs as text that is parsed once more, and after str(), sort()
# and shuffle() it is written without quotes: str(1,2) sweeps over numbers as if str() were not there, and a version
# '1.10' among shuffled ones becomes 1.1, another version. Quotes alone, without a function around them, are kept.
#
# Seen with hydra-core 1.3.8, omegaconf 2.3.1 and Python 3.11. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet hydra-core==1.3.8 omegaconf==2.3.1

cat > "$work/program.py" <<'PYTHON'
import hydra


@hydra.main(version_base="1.3", config_path=None)
def main(config):
    print(repr(config.version))


main()
PYTHON

# The values that the jobs of a command line get, sorted, since shuffle() orders them at random.
values() {
    "$work/venv/bin/python" "$work/program.py" "$@" hydra.output_subdir=null hydra.run.dir="$work/run" \
        hydra.sweep.dir="$work/sweep" hydra/hydra_logging=none hydra/job_logging=none | LC_ALL=C sort | paste -sd ' '
}

as_told=true
expect() {
    local wanted=$1
    shift
    local got
    got=$(values "$@")
    echo "$*: $got"
    [ "$got" = "$wanted" ] || as_told=false
}

"$work/venv/bin/pip" list 2> "$work/log" | grep -E '^(hydra-core|omegaconf) '
expect "'2'" "+version=str(2)"
expect "'1' '2'" -m "+version='1','2'"
expect "1 2" -m "+version=str(1,2)"
expect "1 2" -m "+version=str(choice(1,2))"
expect "'1.10' '1.9'" -m "+version='1.9','1.10'"
expect "1.1 1.9" -m "+version=sort('1.9','1.10')"
expect "1.1 1.9" -m "+version=shuffle('1.9','1.10')"
$as_told || { echo "Hydra behaves otherwise than this file says" >&2; exit 1; }
