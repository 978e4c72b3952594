"""Every command and every piece of Python in docs/extending.md runs."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stored import command

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def commands(text: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in re.findall(r"^    (odyssey-run .*)$", text, re.M)]


def write_pieces(folder: Path) -> None:
    for name, text in re.findall(r"```python\n# (\S+)\n(.*?)```", DOCS, re.S):
        (folder / name).write_text(text)


def test_the_commands_of_the_docs(tmp_path):
    write_pieces(tmp_path)
    shutil.copy(ROOT / "docs" / "own_parts.py", tmp_path)
    said = [command(tmp_path, *words) for words in commands(DOCS)]
    assert len(said) == 7
    assert "test     accuracy" in said[0]
    assert "    width: 64" in said[1]
    assert "2 finished" in said[2]
    assert said[3].startswith("REPRODUCED")
    assert said[5].startswith("REPRODUCED")
    assert "2 finished" in said[6]
    (refused,) = re.findall(r"^    \$ odyssey-run (.*)\n    (odyssey-run: .*)$", DOCS, re.M)
    assert command(tmp_path, *shlex.split(refused[0]), code=2).strip() == refused[1]


def test_the_pieces_of_python_in_the_docs(tmp_path):
    write_pieces(tmp_path)
    subprocess.run([sys.executable, "cube_kernel.py"], cwd=tmp_path, check=True, timeout=300)
    subprocess.run([sys.executable, "-m", "pytest", "-q", "test_mine.py"], cwd=tmp_path, check=True, timeout=300)
