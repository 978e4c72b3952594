"""The package is a plug-in like others: found by its entry points, and a part of the code of runs that use it."""

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pages
import pytest
from picture_files import picture
from PIL import Image

import odyssey_characters
from odyssey_core.data import DATASETS
from odyssey_core.data.preparation import READERS, Preparation
from odyssey_core.errors import DataError
from odyssey_run import api, cli
from odyssey_run.config import plugins, sources


def test_its_data_sets_and_readers_are_found_by_their_names():
    for name in ("digits", "emnist", "glyphs"):
        assert DATASETS[name].__module__ == f"odyssey_characters.{name}"
        assert DATASETS.added[name] == "odyssey_characters"
    assert READERS["handwriting"].__module__ == "odyssey_characters.handwriting"


@pytest.mark.parametrize(("data", "uses"), [("digits", True), ("glyphs", True), ("emnist", True), ("mnist", False)])
def test_it_is_a_part_of_the_code_of_runs_that_use_it(data, uses):
    request = api.compose(f"data={data}", "tracking=none")
    assert [plugin.name for plugin in request.plugins] == ["odyssey_characters"] * uses
    assert (sources.digest(request.plugins) != sources.digest()) == uses
    for plugin in request.plugins:
        assert "glyphs.py" in plugin.files
        changed = replace(plugin, files=plugin.files | {"glyphs.py": b"SIZE = 29"})
        assert sources.digest((changed,)) != sources.digest((plugin,))


def test_a_preparation_that_nobody_defines_is_told():
    says = r"unknown preparation 'handwritten'; known: .*did you mean 'handwriting'\?; a plug-in .* --plugin FILE.py"
    with pytest.raises(DataError, match=says):
        Preparation("handwritten").reader()


@pytest.mark.parametrize("value", [Path("x"), float("nan"), {1}])
def test_options_that_no_weights_file_can_hold_are_refused_before_anything_is_trained(value):
    with pytest.raises(DataError, match="preparation 'resize': expected numbers, texts and lists as options"):
        Preparation("resize", {"mode": value})


DOCS = (Path(__file__).parents[2] / "docs" / "characters.md").read_text(encoding="utf-8")


def test_the_entry_points_that_the_documentation_shows_are_its_own():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (shown,) = re.findall(r"```toml\n(.*?)```", DOCS, re.DOTALL)
    assert tomllib.loads(shown)["project"]["entry-points"] == project["entry-points"]


def test_the_documentation_names_every_file_of_the_package():
    named = {
        name for row in re.findall(r"^\| (`.*?) \|", DOCS, re.MULTILINE) for name in re.findall(r"`(\w+\.py)`", row)
    }
    assert named | {"__init__.py"} == {path.name for path in Path(odyssey_characters.__file__).parent.glob("*.py")}


@pytest.fixture
def no_plugin_left_over():
    """A plug-in file stays loaded in a process."""
    yield
    plugins._withdraw("photographs.py")


def test_the_commands_of_the_documentation_run(tmp_path, monkeypatch, capsys, no_plugin_left_over):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    Image.fromarray(pages.page("ruled", 4, seed=1)).save(tmp_path / "photos" / "four.jpg")
    for colour in ("red", "green"):
        for number in range(10):
            picture(tmp_path / "albums" / colour / f"{number}.png", colour, (40, 32))
    picture(tmp_path / "new" / "wide.png", "red", (400, 100))
    (plugin,) = re.findall(r"```python\n(from dataclasses.*?)```", DOCS, re.DOTALL)
    (tmp_path / "photographs.py").write_text(plugin)
    commands = re.findall(r"^    odyssey-run (.*)$", DOCS, re.MULTILINE)
    assert len(commands) == 5
    for command in commands:
        small = (
            ["trainer.validation_size=0", "trainer.batch_size=8", "model.width=2"]
            if "data=my_photographs" in command
            else []
        )
        assert cli.main([*command.split(), *small, "backend=numpy", "tracking=none"]) == 0, capsys.readouterr().err
    assert "answers.csv: 1 character in 1 picture" in capsys.readouterr().out
    assert (tmp_path / "predictions" / "wide.png").exists()
