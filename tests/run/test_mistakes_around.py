"""Mistakes that rest on what is around a command: variables, stores, folders, data. One line each, nothing written."""

import os
import subprocess
import sys

import pytest
from quick import QUICK

from odyssey_run import cli


@pytest.mark.parametrize("name", ["MLFLOW_RUN_NAME", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"])
def test_a_variable_of_mlflows_that_is_not_used_is_told(mistake, monkeypatch, name):
    monkeypatch.setenv(name, "1234")
    quick = [text for text in QUICK if not text.startswith("tracking=")]
    (line,) = mistake(*quick)
    assert line.startswith(f"{name}: is set and not used here; unset it, and set ")
    assert cli.main([*QUICK, "--cfg", "job"]) == 0  # with tracking=none it would say nothing to anybody
    if name != "MLFLOW_RUN_ID":
        assert cli.main([*quick, "--cfg", "job", "run.name=a", "tracking.experiment=b"]) == 0


def test_hydra_full_error_shows_where_a_mistake_was_found(monkeypatch, capsys):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert cli.main(["optim.lr=x"]) == cli.MISTAKE
    assert capsys.readouterr().err.startswith("Traceback")


@pytest.mark.parametrize(
    ("setting", "told"),
    [("uri=3", "tracking.uri: expected sqlite:///FILE"), ("bogus=1", "run_id: no run 'x'"),
     ("experiment=3", "run_id: no run 'x'")],
)  # fmt: skip
def test_a_store_that_is_none_is_told_where_the_data_of_a_run_are_looked_for(mistake, setting, told):
    (line,) = mistake("task=evaluate", "run_id=x", "data.root=y", f"tracking.{setting}")
    assert line.startswith(told)


@pytest.mark.parametrize(
    "arguments",
    [("--help", "model={}"), (*QUICK, "run.dir={}"), (*QUICK, "run.dir=a/{}/b"),
     (*QUICK, "resume={}"), (*QUICK, "model.weights={}"), ("task=predict", "run_id={}", "inputs={}"),
     ("--config-dir", "{}"), ("task=export", "run_id={}"), ("task=verify", "run_id={}"),
     ("task=evaluate", "run_id={}", "data.root=x")],
    ids=" ".join,
)  # fmt: skip
def test_a_name_too_long_for_any_file_gets_one_line(mistake, arguments):
    (line,) = mistake(*(each.replace("{}", "x" * 300) for each in arguments))
    assert "x" * 10 in line and len(line) < 500


def test_missing_data_names_the_folder(mistake, tmp_path):
    (line,) = mistake("data=emnist", f"data.root={tmp_path / 'nowhere'}", "backend=numpy", "tracking=none")
    assert str(tmp_path / "nowhere") in line


def test_a_mistake_that_shows_when_data_are_read_leaves_nothing_behind(mistake, tmp_path):
    mistake("data=emnist", f"data.root={tmp_path}", "backend=numpy")  # MLflow is being imported by then
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder that even root cannot write")
def test_unwritable_folder(mistake):
    (line,) = mistake(*QUICK, "run.dir=/proc/self/run")
    assert line.startswith("run.dir: cannot write to /proc/")


def test_a_file_in_the_way(mistake, tmp_path):
    (tmp_path / "file").write_text("x")
    (line,) = mistake(*QUICK, "run.dir=file/run")
    assert line.startswith(f"run.dir: cannot write to {tmp_path / 'file'}: ")


def test_a_folder_that_holds_a_run_is_not_overwritten(mistake, tmp_path):
    assert cli.main([*QUICK, "run.dir=here"]) == 0
    before = (tmp_path / "here" / "journal.jsonl").read_bytes()
    assert mistake(*QUICK, "run.dir=here") == ["run.dir: here already holds a run; choose another"]
    assert (tmp_path / "here" / "journal.jsonl").read_bytes() == before


def test_images_a_model_cannot_take(mistake, monkeypatch):
    import numpy as np

    from odyssey_core.data import DATASETS, Dataset, Images
    from odyssey_core.data.options import pixel_options

    @pixel_options
    def tiny() -> Dataset:
        images = Images(np.zeros((200, 1, 12, 12), np.uint8), np.arange(200) % 2)
        return Dataset("tiny", images, images, ("a", "b"), "upright", 0.0, 1.0, "0" * 64, False)

    monkeypatch.setitem(DATASETS._table, "digits", tiny)
    (line,) = mistake(*QUICK)
    assert line == "lenet5: images must be at least 16x16 pixels, got 12x12; choose model=mlp or model=linear"


def test_a_model_is_tried_on_the_data_s_own_shape_before_anything_is_loaded(mistake, monkeypatch):
    from odyssey_core.data import DATASETS, of_shape
    from odyssey_core.data.options import pixel_options

    @pixel_options
    @of_shape(lambda side=12, **options: (3, side, side))
    def tiny(side: int = 12) -> None:
        raise AssertionError("loaded")

    monkeypatch.setitem(DATASETS._table, "digits", tiny)
    small = "lenet5: images must be at least 16x16 pixels, got 12x12; choose model=mlp or model=linear"
    assert mistake(*QUICK) == [small]
    assert mistake(*QUICK, "data.side=8") == [small.replace("12x12", "8x8")]
    assert mistake("task=predict", "run_id=none", "inputs=none.png", "data=digits", "tracking=none") != [small]
    assert sorted(mistake(*QUICK, "data.mean=x", "optim.lr=-1")) == [
        "data.mean: expected a number or a list of a number each, got the text 'x'",
        small,
        "optim.lr: expected a number from 0 to 1e+38, got -1",
    ]


def test_cfg_job_is_checked_too(mistake, capsys):
    assert cli.main([*QUICK, "--cfg", "job", "optim.lr=0.5"]) == 0
    assert "lr: 0.5" in capsys.readouterr().out
    (line,) = mistake(*QUICK, "--cfg", "job", "optim.lrr=0.5")
    assert line.startswith("unknown key optim.lrr")


LOADED = """
import sys
from odyssey_run.cli import main
code = main(sys.argv[1:])
print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
sys.exit(code)
"""
HEAVY = {"numpy", "mlflow", "numba", "rich", "matplotlib", "PIL"}
COMPOSING = {"hydra", "omegaconf", "antlr4"}


ANSWERS = {
    ("--help",): 0,
    ("optim.lrr=1",): 2,
    ("optim.lr=abc",): 2,
    ("model=lenet6",): 2,
    ("data=emnist", "model=mlp", "model.hiden=1", "trainer.epochs=0"): 2,
    ("data=emnits", "seed=-1"): 2,
    ("backend.x=1",): 2,
    ("backend.threads=two", "optim=adam"): 2,
}


@pytest.mark.parametrize(("arguments", "code"), ANSWERS.items())
def test_answers_import_nothing_heavy(arguments, code, tmp_path):
    environment = {**os.environ, "ODYSSEY_CACHE": str(tmp_path / "cache")}
    for unwanted in (HEAVY, HEAVY | COMPOSING):  # Hydra composes once
        command = [sys.executable, "-c", LOADED, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == code, done.stderr
        assert not unwanted & set(done.stderr.splitlines()[-1].split())
