#!/usr/bin/env bash
# llvmlite writes a function's alignstack only beside another attribute. FunctionAttributes is a set, which does not
# hold the alignment, and Function.descr asks whether it is empty: alone, the alignment is dropped without a word, and
# vectors that a function spills lie across two cache lines each.
#
# Seen with llvmlite 0.50.0 and Python 3.11. The script fails where that is no longer so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet llvmlite==0.50.0

"$work/venv/bin/python" - <<'PYTHON' || { echo "llvmlite behaves otherwise than this file says" >&2; exit 1; }
import sys

from llvmlite import __version__, ir

function = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), []), "f")
ir.IRBuilder(function.append_basic_block()).ret_void()
function.attributes.alignstack = 64
alone = str(function).splitlines()[0]
function.attributes.add("nounwind")
beside = str(function).splitlines()[0]
print(f"llvmlite {__version__}\nalone: {alone}\nbeside nounwind: {beside}")
sys.exit("alignstack" in alone or "alignstack(64)" not in beside)
PYTHON
