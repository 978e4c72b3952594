"""What bad input gets: one line a fault, exit code 2, nothing written, no traceback."""

import os
import subprocess
import sys

import pytest
from quick import QUICK

from odyssey_run import cli
from odyssey_run.tasks import TASKS

ONE_FAULT = {
    (
        "model=lenet6",
    ): "unknown model 'lenet6'; known: lenet5, lenet5_1998, linear, mlp, resnet8; did you mean 'lenet5'?",
    ("model=null",): "unknown model 'null'; known: lenet5, lenet5_1998, linear, mlp, resnet8",
    ("data=emnits",): "unknown data 'emnits'; known: digits, emnist, glyphs, mnist; did you mean 'emnist'?",
    ("model.name=lenet6",): "model.name: unknown model 'lenet6'; known: lenet5, lenet5_1998, linear, mlp, resnet8; "
    "did you mean 'lenet5'?",
    ("optim.lrr=1",): "unknown key optim.lrr; optim has lr, momentum, nesterov, weight_decay; did you mean optim.lr?",
    ("+optim.lrr=1",): "unknown key optim.lrr; optim has lr, momentum, nesterov, weight_decay; did you mean optim.lr?",
    ("++trainer.epoch=1",): "unknown key trainer.epoch; trainer has epochs, batch_size, max_steps, log_every, "
    "validation_size, train_size, clip_norm, ema, monitor, keep, patience, time_budget_s, "
    "checkpoint_s; did you mean trainer.epochs?",
    (
        "modle=mlp",
    ): "unknown key modle; the configuration has seed, seeds, resume, expect, run, plots, trainer, tracking, "
    "model, data, loss, optim, scheduler, backend, task; did you mean model?",
    ("seeds=0",): "seeds: expected an integer at least 1, got 0",
    ("expect={test/accuracy: 0.9}",): "expect.test/accuracy: expected a relation (>=, <=, >, <) and a number, such as "
    '">= 0.86", got 0.9',
    ("expect={test/accuracy: '> high'}",): "expect.test/accuracy: expected a relation (>=, <=, >, <) and a number, "
    "such as \">= 0.86\", got '> high'",
    ("scheduler=cosin",): "unknown scheduler 'cosin'; known: constant, cosine, exponential, multistep, onecycle, "
    "plateau, polynomial, step; did you mean 'cosine'?",
    ("scheduler=multistep", "trainer.epochs=8"): "scheduler.milestones: must lie below the run's 8 epochs, got [5, 8]",
    ("trainer.keep=best", "trainer.validation_size=0"): "trainer.keep: needs a validation set, got "
    "trainer.validation_size 0",
    ("trainer.monitor=test/accuracy",): "trainer.monitor: expected one of val/accuracy, val/loss, got the text "
    "'test/accuracy'",
    ("model=mlp", "model.hidden=[0]"): "model.hidden: expected a list of an integer at least 1 each, got [0]",
    ("trainer.train_size=1338",): "trainer.train_size: expected at most 1337 (the training images left by validation), "
    "got 1338",
    ("trainer.train_size=16",): "trainer.batch_size: expected at most 16 (trainer.train_size), got 32",
    ("model.weights=3",): "model.weights: expected a safetensors file, a run or null, got 3",
    ("model.weights=none",): "run_id: no run 'none' in runs/, nor is there an MLflow store; the last runs: none",
    ("trainer.ema=1",): "trainer.ema: expected a number from 0 to below 1 or null, got 1",
    ("trainer.time_budget_s=0",): "trainer.time_budget_s: expected a number at least 0.001 or null, got 0",
    ("resume=nothing",): "resume: no run 'nothing' in runs/; there are: none; or use resume=auto",
    ("task=trian",): "unknown task 'trian'; known: TASKS; did you mean 'train'?",
    (
        "run_id=abc",
    ): "unknown key run_id; the configuration has seed, seeds, resume, expect, run, plots, trainer, tracking, "
    "model, data, loss, optim, scheduler, backend, task; did you mean run?",
    ("optim.lr=abc",): "optim.lr: expected a number from 0 to 1e+38, got the text 'abc'",
    ("optim.lr=true",): "optim.lr: expected a number from 0 to 1e+38, got True",
    ("optim.lr=nan",): "optim.lr: expected a number from 0 to 1e+38, got nan",
    ("optim.lr=null",): "optim.lr: expected a number from 0 to 1e+38, got null",
    ("optim.nesterov=1",): "optim.nesterov: expected true or false, got 1",
    ("optim.lr=-0.1",): "optim.lr: expected a number from 0 to 1e+38, got -0.1",
    ("trainer.batch_size=0",): "trainer.batch_size: expected an integer at least 1, got 0",
    ("trainer.batch_size=1.5",): "trainer.batch_size: expected an integer at least 1, got 1.5",
    ("trainer.max_steps=0",): "trainer.max_steps: expected an integer at least 1 or null, got 0",
    ("trainer.label_smoothing=0.1",): "unknown key trainer.label_smoothing; trainer has epochs, batch_size, max_steps, "
    "log_every, validation_size, train_size, clip_norm, ema, monitor, keep, patience, time_budget_s, checkpoint_s; "
    "did you mean loss.label_smoothing?",
    ("optim.warmup=0.1", "scheduler=cosine"): "unknown key optim.warmup; optim has lr, momentum, nesterov, "
    "weight_decay; did you mean scheduler.warmup?",
    ("loss=crossentropy",): "unknown loss 'crossentropy'; known: cross_entropy, mse; did you mean 'cross_entropy'?",
    ("loss=mse", "+loss.label_smoothing=0.1"): "unknown key loss.label_smoothing; loss has no keys",
    ("loss.label_smoothing=1",): "loss.label_smoothing: expected a number from 0 to below 1, got 1",
    ("seed=-1",): "seed: expected an integer from 0 to 9223372036854775807, got -1",
    ("model=mlp", "model.hidden=[32,a]"): "model.hidden: expected a list of an integer at least 1 each, got [32, 'a']",
    (
        "optim=adam",
        "optim.betas=[0.9]",
    ): "optim.betas: expected a list of 2: a number from 0 to below 1, a number from 0 to below 1, got [0.9]",
    ("optim={lr: 1}",): "optim: expected the name of an option (adam, adamw, rmsprop, sgd), got values; "
    "set them as optim.KEY=VALUE",
    ("lenet5",): "cannot read 'lenet5': expected name=value, for example optim.lr=0.01 or model=lenet5",
    ("--epochs=3",): "unrecognized arguments: --epochs=3; odyssey-run --help shows what there is",
    ("tracking=mlflow", "tracking.uri=htp://host"): "tracking.uri: expected sqlite:///FILE, http://HOST:PORT or a "
    "database URI, got 'htp://host'; or run with tracking=none",
    ("tracking=mlflow", "tracking.uri=http://"): "tracking.uri: expected sqlite:///FILE, http://HOST:PORT or a "
    "database URI, got 'http://'; or run with tracking=none",
    ("tracking=mlflow", "tracking.uri=mlruns"): "tracking.uri: expected sqlite:///FILE, http://HOST:PORT or a database "
    "URI, got 'mlruns' (MLflow no longer writes to folders); or run with tracking=none",
    ("run.name=a/b",): "run.name: expected letters, digits and ._+- only, got 'a/b'",
    ("trainer.batch_size=1338",): "trainer.batch_size: expected at most 1337 (the training images left by validation), "
    "got 1338",
    ("trainer.validation_size=1437",): "trainer.validation_size: expected 0, or 10 (the classes) to 1436 "
    "(of the 1437 training images), got 1437",
    ("seed=${sede}",): "seed: Interpolation key 'sede' not found",
}


@pytest.mark.parametrize("arguments", list(ONE_FAULT), ids=" ".join)
def test_one_fault_gets_one_line(mistake, arguments):
    groups = {a.partition("=")[0] for a in arguments}
    quick = [a for a in QUICK if a.partition("=")[0] not in groups]
    assert mistake(*quick, *arguments) == [ONE_FAULT[arguments].replace("TASKS", ", ".join(sorted(TASKS)))]


def test_all_faults_are_told_at_once(mistake):
    lines = mistake(
        *QUICK[1:],
        "model=lenet6",
        "model.depth=3",
        "optim.lrr=1",
        "trainer.epochs=abc",
        "seeed=1",
        "oops",
        "backend.x=1",
    )
    assert [line.split(";")[0].split(":")[0] for line in lines] == [
        "unknown model 'lenet6'",
        "cannot read 'oops'",
        "unknown key seeed",
        "trainer.epochs",
        "unknown key optim.lrr",
        "unknown key backend.x",
    ]


def test_ranges_types_and_combinations_are_told_together(mistake):
    lines = mistake(
        *QUICK[:-2],
        "model=mlp",
        "model.hidden=[64,0]",
        "optim.momentum=1.5",
        "optim.lr=-1",
        "optim.nesterov=2",
        "scheduler=multistep",
        "trainer.epochs=8",
        "trainer.batch_size=0",
        "trainer.ema=1",
        "trainer.clip_norm=0",
        "data.augment={rotation: 60}",
        "expect={test/accuracy: high}",
        "seed=-1",
    )
    assert sorted(line.split(":")[0] for line in lines) == [
        "data.augment.rotation",
        "expect.test/accuracy",
        "model.hidden",
        "optim.lr",
        "optim.momentum",
        "optim.nesterov",
        "seed",
        "trainer.batch_size",
        "trainer.clip_norm",
        "trainer.ema",
    ]
    assert sorted(mistake(*QUICK, "scheduler=multistep", "trainer.epochs=8", "optim.lr=-1", "optim=rmsprop")) == [
        "optim.lr: expected a number from 0 to 1e+38, got -1",
        "scheduler.milestones: must lie below the run's 8 epochs, got [5, 8]",
    ]


def test_a_fault_in_a_file_names_the_file(mistake, tmp_path):
    own = tmp_path / "conf"
    (own / "experiment").mkdir(parents=True)
    (own / "optim").mkdir()
    (own / "experiment" / "mine.yaml").write_text("# @package _global_\ntrainer: {epochs: many}\nseeed: 1\n")
    (own / "optim" / "fast.yaml").write_text("name: sgd\nlr: quick\n")
    lines = mistake(*QUICK, "--config-dir", str(own), "experiment=mine")
    assert lines[0].startswith("unknown key seeed; ")
    assert lines[0].endswith("did you mean seed? (set in conf/experiment/mine.yaml)")
    assert lines[1] == (
        "trainer.epochs: expected an integer at least 1, got the text 'many' (set in conf/experiment/mine.yaml)"
    )
    assert mistake(*QUICK, "--config-dir", str(own), "optim=fast")[0].startswith("optim.lr: expected a number")


@pytest.mark.parametrize("syntax", ["x=[", "x=}", "x=a:b=c"])
def test_a_syntax_error_names_the_override(mistake, syntax):
    (line,) = mistake(*QUICK, syntax)
    assert line.startswith(f"cannot read '{syntax}': ")
    assert "quotes" in line


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
    from odyssey_core.data.preparation import PREPARATIONS

    def tiny(augment: None = None) -> Dataset:
        images = Images(np.zeros((200, 1, 12, 12), np.uint8), np.arange(200) % 2)
        return Dataset("tiny", images, images, ("a", "b"), "upright", 0.0, 1.0, "0" * 64, False, PREPARATIONS["digits"])

    monkeypatch.setitem(DATASETS._table, "digits", tiny)
    (line,) = mistake(*QUICK, "~data.mean", "~data.std")
    assert line == "lenet5: images must be at least 16x16 pixels, got 12x12; choose model=mlp or model=linear"


def test_cfg_job_is_checked_too(mistake, capsys):
    assert cli.main([*QUICK, "--cfg", "job", "optim.lr=0.5"]) == 0
    assert "lr: 0.5" in capsys.readouterr().out
    (line,) = mistake(*QUICK, "--cfg", "job", "optim.lrr=0.5")
    assert line.startswith("unknown key optim.lrr")


LEAN = """
import sys
from odyssey_run.cli import main
code = main(sys.argv[1:])
heavy = sorted({name.partition(".")[0] for name in sys.modules} & {"mlflow", "numba", "rich", "matplotlib"})
sys.exit(f"imported {heavy}" if heavy else code)
"""


ANSWERS = {
    ("--help",): 0,
    ("optim.lrr=1",): 2,
    ("model=lenet6",): 2,
    ("data=emnits", "seed=-1"): 2,
    ("backend.x=1",): 2,
    ("backend.threads=two", "optim=adam"): 2,
}


@pytest.mark.parametrize(("arguments", "code"), ANSWERS.items())
def test_answers_import_nothing_heavy(arguments, code):
    done = subprocess.run([sys.executable, "-c", LEAN, *arguments], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
