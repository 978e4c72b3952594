"""The tutorial can be followed word by word, and every figure in it comes out."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from stored import command

TEXT = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
CODES = {"run.name=third": 3}  # that misses its claim

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """What each command said, less that which serves pages until it is interrupted."""
    folder, said = tmp_path_factory.mktemp("tutorial"), {}
    (script,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (folder / "save.py").write_text(script)
    for line in re.findall(r"^    ((?:odyssey-run|python) .*)$", TEXT, re.MULTILINE):
        program, *words = shlex.split(line)
        if program == "python":
            done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=True)
            said[line] = done.stdout
        elif "task=ui" not in words:
            code = next((code for word, code in CODES.items() if word in words), 0)
            said[line] = command(folder, *words, code=code)
    return said


def test_every_figure_of_a_run_comes_out(followed):
    (first,) = [text for line, text in followed.items() if "run.name=first" in line]
    rows = re.findall(r"^ +(\d/5 +[\d.]+ +[\d.]+ +[\d.]+% +[\d.]+%)", TEXT, re.MULTILINE)
    assert len(rows) == 5 and all(row in first for row in rows)
    (score,) = re.findall(r"^ +(test     accuracy .*)$", TEXT, re.MULTILINE)
    assert score in first
    (second,) = [text for line, text in followed.items() if "run.name=second" in line]
    assert re.search(r"reaches ([\d.]+%)", TEXT)[1] in second


def test_every_figure_of_the_sweep_comes_out(followed):
    (sweep,) = [text for line, text in followed.items() if " -m " in line]
    rows = re.findall(r"^ +\d +([\d.]+% +[\d.]+%) +[\d.]+  (optim=.*)$", TEXT, re.MULTILINE)
    assert len(rows) == 6
    for figures, point in rows:
        assert re.search(rf"{re.escape(figures)} +[\d.]+  {re.escape(point)}$", sweep, re.MULTILINE)
    assert "2 done before" in sweep


def test_what_is_said_of_the_pictures_is_so(followed):
    assert followed["python save.py"].strip() == "[0 5 1]"
    (reading,) = [text for line, text in followed.items() if "task=predict" in line]
    assert re.findall(r"^  (\d) +([\d.]+%)", reading, re.MULTILINE)[:2] == [("0", "100.0%"), ("9", "94.5%")]
    assert re.findall(r"digit2.*\n  (\d)", reading) == ["1"]


def test_verdicts(followed):
    (claimed,) = [text for line, text in followed.items() if "run.name=third" in line]
    assert "missed" in claimed
    assert followed["odyssey-run task=verify run_id=second"].startswith("REPRODUCED")
