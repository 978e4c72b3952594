"""What docs/ shows can be done as it is shown: its commands run, with the files that it lists."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from odyssey_core.models.layers import _options
from odyssey_core.nn import LAYERS
from odyssey_run import cli
from odyssey_run.tracking.records import NAMES

DOCS = Path(__file__).parents[2] / "docs"
MODELS = (DOCS / "models.md").read_text(encoding="utf-8")
FAST = ["backend=numpy", "tracking=none", "plots.enabled=false", "trainer.max_steps=3", "trainer.validation_size=100"]


def commands(text: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in re.findall(r"^    (odyssey-run .*)$", text, re.MULTILINE)]


def files(text: str) -> dict[str, str]:
    """The files that a text lists, by the name before each."""
    return dict(re.findall(r"`(\S+\.\w+)`:\n\n```\w+\n(.*?)```", text, re.DOTALL))


@pytest.mark.parametrize("command", commands(MODELS), ids=" ".join)
def test_the_commands_of_models_run(command, tmp_path, capsys):
    for name, content in files(MODELS).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    fast = FAST if "task=show" not in command else []
    assert cli.main([*command, *fast]) == 0, capsys.readouterr()


def test_models_shows_the_file_of_a_picture(tmp_path):
    (command,) = [command for command in commands(MODELS) if "out=model.png" in command]
    assert cli.main(command) == 0
    assert (tmp_path / "model.png").read_bytes().startswith(b"\x89PNG")


def test_models_lists_every_layer_with_its_options():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?)\|$", MODELS, re.MULTILINE))
    assert list(rows) == list(LAYERS)
    for name, target in LAYERS.items():
        options = []
        for option, parameter in _options(target).items():
            default = "" if parameter.default is parameter.empty else f" {parameter.default}"
            options.append(f"`{option}{default}`".replace("True", "true").replace("None", "null"))
        assert rows[name].strip() == ", ".join(options)


def test_the_lists_of_models_are_the_models_that_they_are_said_to_be():
    from odyssey_core.checkpoint import digest
    from odyssey_core.learner import initial_values
    from odyssey_core.models import MODELS as KNOWN

    def drawn(model):
        return digest(initial_values(model.state(), 0))

    (line,) = [x for x in commands(MODELS)[0] if x.startswith("model.layers=")]
    lenet5 = yaml.safe_load(line.removeprefix("model.layers="))
    assert drawn(KNOWN["layers"]((1, 28, 28), 47, layers=lenet5)) == drawn(KNOWN["lenet5"]((1, 28, 28), 47))
    resnet8 = yaml.safe_load(files(MODELS)["mine/model/small_resnet.yaml"])
    del resnet8["name"]
    assert drawn(KNOWN["layers"]((3, 32, 32), 10, **resnet8)) == drawn(KNOWN["resnet8"]((3, 32, 32), 10))


def test_the_command_of_speed_runs(tmp_path, monkeypatch):
    (command,) = commands((DOCS / "speed.md").read_text(encoding="utf-8"))
    monkeypatch.setattr("odyssey_run.tasks.benchmark.peers.find_spec", lambda name: None)
    short = ["benchmark.rounds=1", "benchmark.seconds=0.01", "benchmark.threads=[1]", "tracking=none"]
    assert cli.main([*command, *short]) == 0


def test_the_page_on_the_instruction_table_shows_a_real_one(capsys):
    text = (DOCS / "table.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^    \$ odyssey-run (.*)$", text, re.MULTILINE)
    assert cli.main(shlex.split(command)) == 0
    rows = re.findall(r"^    ((?: [ +]+\d+  |phase ).*)$", text, re.MULTILINE)
    assert len(rows) == 12 and set(rows) <= set(capsys.readouterr().out.splitlines())


def test_the_page_on_the_journal_describes_every_kind_of_record():
    text = (DOCS / "journal.md").read_text(encoding="utf-8")
    assert "<!-- kinds -->" in text  # docs/generate.py makes it of all that there are
    hidden = re.findall(r'"!(.*?)"', text[text.index("::: odyssey_run.tracking.records") :])
    assert hidden
    assert [made.__name__ for made in NAMES if any(re.search(each, made.__name__) for each in hidden)] == []
    assert all(made.__doc__ for made in NAMES)
