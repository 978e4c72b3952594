"""A folder with configuration files of a user's own: found, used, and its mistakes told with the file's name."""

import os
import sys
import threading
import warnings

import hydra
import pytest
import yaml
from hydra import version
from hydra.core.global_hydra import GlobalHydra
from quick import QUICK

import odyssey_run
from odyssey_run import cli
from odyssey_run.config.composition import ConfigFiles
from odyssey_run.runs.recorded import open_folder


@pytest.fixture
def own(tmp_path):
    """Writes ``own/GROUP/NAME.yaml``; returns the flag and the folder."""

    def write(file: str, content: str | bytes) -> tuple[str, str]:
        path = tmp_path / "own" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return "--config-dir", "own"

    return write


def test_it_is_used_and_recorded_with_the_command(own, tmp_path):
    flags = own("experiment/mine.yaml", "# @package _global_\noptim: {lr: 0.5}\n")
    assert cli.main([*QUICK, *flags, "experiment=mine", "run.dir=run"]) == 0
    run = open_folder(tmp_path / "run")
    assert run.config["optim"]["lr"] == 0.5
    assert run.tags["odyssey.command"].startswith("odyssey-run --config-dir own data=digits ")
    assert odyssey_run.compose("experiment=mine", config_dir="own").config["optim"]["lr"] == 0.5


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            "trainer: {batch_size: 064}",
            "line 2: YAML reads 064 as 52; write the number without a zero in front, or text",
        ),
        ("seed: 010", "line 2: YAML reads 010 as 8; write the number without a zero in front, or text in quotes"),
        (
            "trainer:\n  epochs: 1:30",
            "line 3: YAML reads 1:30 as 90; write the number without a zero in front, or text",
        ),
        ("optim: {lr: 0.1", "while parsing a flow mapping"),
        ("- a\n- b", "expected keys with values, got a list or text"),
        (b"run: {name: \xff}", "'utf-8' codec can't decode byte 0xff"),
        ("seed: 1\nseed: 2", "found duplicate key seed"),
        ("a: &a [*a]", "a part of it contains itself (&name, *name)"),
        ("defaults: [mine]", "a file's defaults name the file itself"),
        ("seed: " + "[" * 3000, "is nested too deeply"),
        ("optim: !!python/object/apply:os.system [ls]", "could not determine a constructor for the tag"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(own, mistake, content, line):
    head = b"# @package _global_\n"
    flags = own("experiment/mine.yaml", head + (content if isinstance(content, bytes) else content.encode()))
    (found,) = mistake(*QUICK, *flags, "experiment=mine")
    assert "experiment/mine" in found or line.startswith("a file's defaults")
    assert line in found


@pytest.mark.parametrize("content", ["", "trainer: {epochs: 2}", "# a comment\ntrainer: {epochs: 2}"])
def test_an_experiment_without_its_first_line_is_told(own, mistake, content):
    flags = own("experiment/mine.yaml", content)
    (found,) = mistake(*QUICK, *flags, "experiment=mine")
    assert found == (
        "own/experiment/mine.yaml: expected the first line # @package _global_, without which it sets no key"
    )


def test_a_byte_order_mark_is_let_pass(own, tmp_path):
    flags = own("experiment/mine.yaml", "\ufeff# @package _global_\ntrainer: {log_every: 7}\n".encode())
    assert odyssey_run.compose("experiment=mine", config_dir=flags[1]).config["trainer"]["log_every"] == 7


@pytest.mark.parametrize("value", ["3", "null", "[]"])
def test_a_task_that_is_no_mapping_is_told(own, mistake, value):
    flags = own("experiment/mine.yaml", f"# @package _global_\ntask: {value}\n")
    (found,) = mistake(*QUICK, *flags, "experiment=mine")
    assert found.startswith("own: ")
    assert "task" in found or "merge" in found


@pytest.mark.parametrize(
    "group", ["data", "model", "optim", "loss", "scheduler", "backend", "trainer", "tracking", "run", "plots", "expect"]
)
def test_any_group_that_is_no_mapping_is_told(own, mistake, group):
    flags = own("experiment/mine.yaml", f"# @package _global_\n{group}: 3\n")
    lines = mistake("task=evaluate", "run_id=x", *flags, "experiment=mine")
    told = [line.partition(", got ") for line in lines if line.startswith(f"{group}: expected a mapping")]
    assert [end for *_, end in told] == ["3 (set in own/experiment/mine.yaml)"]


def test_a_folder_or_a_link_to_nothing_is_no_file(own, mistake, tmp_path):
    flags = own("experiment/mine.yaml", "seed: 1\n")
    for make, name in ((os.mkdir, "folder.yaml"), (lambda place: os.symlink("nowhere", place), "link.yaml")):
        place = tmp_path / "own" / "experiment" / name
        make(place)
        (found,) = mistake(*QUICK, *flags, "experiment=mine")
        assert found.startswith(f"--config-dir own: cannot read experiment/{name} (")
        place.rename(tmp_path / name)


@pytest.mark.parametrize("text", ["'010'", '"1:30"', "0.07", "007.5", "a010"])
def test_what_looks_like_such_a_number_is_let_pass(own, text):
    flags = own(
        "experiment/mine.yaml", f"# @package _global_\ntracking: {{experiment: x{text[0]}}}\nrun: {{name: {text}}}\n"
    )
    code = cli.main([*QUICK, *flags, "experiment=mine", "--cfg", "job"])
    assert code == (0 if text[0] in "'\"a" else 2)


def test_a_number_where_text_is_expected_says_how_to_quote_it(own, mistake):
    flags = own("experiment/mine.yaml", "# @package _global_\nrun: {name: 1.10}\n")
    assert mistake(*QUICK, *flags, "experiment=mine") == [
        "run.name: expected text or null, got the number 1.1; in quotes it is text: '\"1.1\"' (set in "
        "own/experiment/mine.yaml)"
    ]


@pytest.mark.parametrize("flags", [(), ("-m", "optim.lr=0.1,0.2")])
@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("hydra: {sweeper: {params: {optim.lr: '0.1,0.2'}}}", "hydra.sweeper"),
        ("hydra: {run: {dir: x}}", "hydra.run"),
        ("hydra: {verbose: true}", "hydra.verbose"),
        ("hydra: {mode: MULTIRUN}", "hydra.mode"),
        ("hydra: {job: {name: x}}", "hydra.job"),
    ],
)
def test_hydras_own_settings_in_a_file_are_refused(own, mistake, content, key, flags):
    where = own("experiment/mine.yaml", f"# @package _global_\n{content}\n")
    (line,) = mistake(*QUICK, *where, *flags, "experiment=mine")
    assert line.startswith(f"own: {key}: Hydra's own settings are not used here; ")


def test_a_file_that_would_not_be_used_is_told(own, mistake, tmp_path):
    flags = own("optim/sgd.yaml", "name: sgd\nlr: 5\n")
    assert mistake(*QUICK, *flags) == [
        "--config-dir own: optim/sgd.yaml would not be used, since odyssey-run has a file of that name; rename it"
    ]
    own("optim/sgd.yaml", (ConfigFiles().folders[0] / "optim" / "sgd.yaml").read_bytes())
    assert cli.main([*QUICK, *flags, "--cfg", "job"]) == 0


def test_a_folder_that_was_not_asked_for_is_named(own, mistake, tmp_path):
    own("experiment/mine.yaml", "seed: 1\n")
    (tmp_path / "own").rename(tmp_path / "conf")
    (line,) = mistake(*QUICK, "experiment=mine")
    assert line.startswith("unknown experiment 'mine'; known: ")
    assert line.endswith("; conf/experiment/mine.yaml is used with --config-dir conf")


def test_files_that_do_not_fit_together_are_one_line(own, mistake):
    flags = own("experiment/mine.yaml", "# @package _global_\ndefaults:\n  - override /optim: nosuch\n")
    (line,) = mistake(*QUICK, *flags, "experiment=mine")
    assert line.startswith("own: ")
    assert "nosuch" in line


def test_inside_a_program_that_uses_hydra_itself(own, tmp_path):
    own("config.yaml", "mine: 1\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        version.setbase("1.1")
    with hydra.initialize_config_dir(str(tmp_path / "own"), version_base="1.2"):
        assert odyssey_run.compose("optim.lr=0.5").config["optim"]["lr"] == 0.5
        assert GlobalHydra.instance().is_initialized()
        assert str(version.getbase()) == "1.2"
        assert hydra.compose("config") == {"mine": 1}
    assert odyssey_run.compose("optim.lr=0.5").config["optim"]["lr"] == 0.5


def test_threads_compose_at_once():
    found, rates = {}, [0.1 * i for i in range(1, 9)]

    def compose(lr: float) -> None:
        found[lr] = odyssey_run.compose(f"optim.lr={lr}").config["optim"]["lr"]

    threads = [threading.Thread(target=compose, args=(lr,)) for lr in rates]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {lr: lr for lr in rates}


def test_the_printed_configuration_is_the_composed_one(capsys):
    assert cli.main(["--cfg", "job", "optim.lr=0.5", "debug=overfit"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["optim"]["lr"] == 0.5
    assert printed["trainer"]["train_size"] == "${trainer.batch_size}"
    assert cli.main(["--cfg", "job", "--resolve", "-p", "trainer", "debug=overfit"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# @package trainer\n")
    assert yaml.safe_load(out)["train_size"] == 32
    assert cli.main(["--cfg", "job", "-p", "trainre"]) == cli.MISTAKE
    assert "did you mean 'trainer'?" in capsys.readouterr().err


def test_a_composition_of_shipped_files_is_kept(tmp_path, monkeypatch, own):
    monkeypatch.setenv("ODYSSEY_CACHE", str(tmp_path / "cache"))
    choices = ["model=mlp", "experiment=lenet5_emnist"], ["model=lenet5", "optim=adam"], ["debug=overfit"]
    made = [ConfigFiles().compose(each) for each in choices]
    kept = sorted((tmp_path / "cache" / "configurations").iterdir())
    assert len(kept) == 3
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "odyssey_run.config.hydra_composition", None)  # its import fails
        assert [ConfigFiles().compose(each) for each in choices] == made
    kept[0].write_bytes(b"{")
    assert [ConfigFiles().compose(each) for each in choices] == made
    own("experiment/mine.yaml", "# @package _global_\nseed: 3\n")
    assert ConfigFiles(str(tmp_path / "own")).compose(["experiment=mine"])["seed"] == 3
    assert sorted((tmp_path / "cache" / "configurations").iterdir()) == kept


def test_where_nothing_can_be_kept_hydra_composes_each_time(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    monkeypatch.setenv("ODYSSEY_CACHE", str(tmp_path / "cache"))
    assert ConfigFiles().compose([])["model"]["name"] == "lenet5"
