"""docs/python.md as a notebook: its cells run in a kernel, one after the other, and leave what the text says."""

import json
import re
import shlex
from pathlib import Path

import pytest
from stored import command

from odyssey_run.runs.recorded import open_folder

TEXT = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
CELLS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """The folder in which the cells ran, and the outputs of each."""
    import nbformat
    from nbclient import NotebookClient

    folder = tmp_path_factory.mktemp("notebook")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return folder, [cell.outputs for cell in book.cells]


def _printed(outputs) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


def _shown(outputs, kind: str) -> list[str]:
    return [output.data[kind] for output in outputs if "data" in output and kind in output.data]


@pytest.mark.slow
def test_the_cells_train_plot_and_predict(notebook):
    _, outputs = notebook
    training, history, prediction, shapes, early = outputs[1:6]
    table = re.findall(r"^ +(\d)/6 ", _printed(training), re.MULTILINE)
    assert table == list("123456")
    assert len(_printed(training).splitlines()) < 40
    (page,) = _shown(training, "text/html")
    assert "FINISHED" in page
    assert "data:image/png;base64," in page
    assert _shown(history, "image/png")
    assert "val/accuracy" in _shown(history, "text/html")[-1]
    share = float(_printed(prediction).split()[-1])
    assert share > 0.5
    (accuracy,) = re.findall(r"\[\(\d+, ([\d.]+)\)\]", _shown(shapes, "text/plain")[-1])
    assert float(accuracy) > 0.8
    assert re.search(r"ended by a hook after epoch \d+: \d+\.\d% of the validation images are right", _printed(early))
    said = [o.text for cell in outputs for o in cell if o.get("name") == "stderr"]
    assert all(text.startswith("compiling kernels for this CPU, once") for text in said)


@pytest.mark.slow
def test_a_command_verifies_what_the_notebook_trained(notebook):
    folder, _ = notebook
    (line,) = re.findall(r"^    odyssey-run (task=verify .*)$", TEXT, re.MULTILINE)
    hooked = [path.parent for path in sorted(folder.glob("runs/*/plugins")) if (path / "Reached.py").exists()]
    (run,) = hooked
    said = command(folder, *shlex.split(line.replace("NAME", run.name)))
    assert "REPRODUCED" in said
    plain = next(path for path in folder.glob("runs/*") if path.name != run.name and (path / "plugins").exists())
    said = command(folder, "task=verify", f"run_id={plain.name}", code=4)
    assert re.search(r"CANNOT .*\n +the plug-in MyNet\.py \(SHA-256 \w+\) is missing; give --plugin FILE", said)


@pytest.mark.slow
def test_rows_of_the_history_are_plain(notebook):
    folder, _ = notebook
    run = open_folder(next(folder.glob("runs/*")))
    rows = json.loads(json.dumps(run.history))
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert {"step", "train/epoch_loss", "val/loss", "val/accuracy"} <= rows[0].keys()
    assert {"train/loss", "train/lr"} <= rows[-1].keys()
