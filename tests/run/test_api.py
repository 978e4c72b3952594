"""The runner from Python: wrong arguments get one clear exception, a run that did not finish says so."""

import subprocess
import sys
from pathlib import Path

import pytest
from journals import record
from quick import QUICK

import odyssey_run
from odyssey_core.errors import OdysseyError
from odyssey_run.training.build import check_sizes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (["data=digits"],),
            r'expected text such as "optim.lr=0.1", got a list; a list is spread: train\(\*overrides\)',
        ),
        (({"data": "digits"},), 'expected text such as "optim.lr=0.1", got a dict'),
        ((0.1,), 'expected text such as "optim.lr=0.1", got a float'),
        (("-m", "optim.lr=0.1,0.2"), "makes a single run; call it once for each value, or use odyssey-run -m"),
        (("--config-dir=x",), "flags are for the command line, got --config-dir=x; --config-dir is config_dir=FOLDER"),
        (("task=show",), "expected task=train, got task=show; run it on the command line: odyssey-run task=show"),
    ],
)
def test_what_is_no_override_is_refused(tmp_path, arguments, message):
    with pytest.raises(OdysseyError, match=rf"^train: {message}"):
        odyssey_run.train(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_did_not_finish_raises_with_the_run():
    with pytest.raises(
        odyssey_run.UnfinishedRun, match=r"ended FAILED: .*loss is not finite.*; see .*runs/x"
    ) as raised:
        odyssey_run.train(*QUICK, "optim.lr=1e30", "run.name=x")
    assert raised.value.run.status == "FAILED"
    assert raised.value.run.name == "x"


@pytest.mark.parametrize(("folder", "which"), [("runs/b", "b"), (".", "auto")])
def test_a_stopped_run_is_gone_on_with_by_the_name_of_its_folder(folder, which):
    records = [record("start", run="a-1", name="a"), record("end", status="KILLED", reason="stopped")]
    error = odyssey_run.UnfinishedRun(odyssey_run.RecordedRun(records, Path(folder), {}, {}))
    assert str(error) == f'a ended KILLED: stopped; see {folder}; train(..., "resume={which}") goes on with it'


@pytest.mark.parametrize("optim", ["sgd", "adamw"])
def test_a_weight_decay_that_is_too_large_is_what_is_to_be_lowered(capsys, optim):
    with pytest.raises(odyssey_run.UnfinishedRun, match=r"lower optim\.weight_decay \(now 1e\+30\)"):
        odyssey_run.train(*QUICK[:-1], f"optim={optim}", "optim.weight_decay=1e30", "trainer.max_steps=20")
    assert "Warning" not in capsys.readouterr().err


@pytest.mark.parametrize(("scheduler", "told"), [("cosine", True), ("constant", False), ("exponential", False)])
def test_a_time_budget_that_ends_a_schedule_early_is_said(capsys, scheduler, told):
    odyssey_run.train(*QUICK[:-1], "model=linear", "trainer.time_budget_s=0.001", f"scheduler={scheduler}")
    said = f"scheduler={scheduler} was planned for all of them and did not reach its end"
    assert (said in capsys.readouterr().out) == told


@pytest.mark.parametrize(
    ("images", "classes", "size"), [(141, 47, 47), (1437, 10, 143), (90, 47, 0), (94, 47, 47), (60_000, 10, 5000)]
)
def test_the_images_set_aside_hold_each_class_or_none(images, classes, size):
    assert check_sizes(odyssey_run.compose("trainer.batch_size=8"), images, classes) == size


def test_the_best_epoch_of_too_few_images_is_refused():
    with pytest.raises(OdysseyError, match=r"^trainer\.keep, trainer\.patience: need a validation set, and 90 images"):
        check_sizes(odyssey_run.compose("trainer.keep=best"), 90, 47)


def test_a_metric_that_there_is_not_is_named():
    run = odyssey_run.train(*QUICK)
    with pytest.raises(KeyError, match=r"unknown metric 'val/acc'; known: .*did you mean 'val/accuracy'\?"):
        run.metrics["val/acc"]
    assert run.metrics.get("val/acc") is None


def test_a_whole_package_can_be_run():
    done = subprocess.run([sys.executable, "-m", "odyssey_run", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"odyssey-run {odyssey_run.__version__}\n")


def test_an_answer_that_nobody_reads_to_its_end_is_no_error():
    command = f"{sys.executable} -m odyssey_run --help | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("odyssey-run trains a model")


INSIDE = """
import multiprocessing, os, sys, threading
import odyssey_run

def train(_=None):
    run = odyssey_run.train("data=digits", "tracking=none", "plots.enabled=false", "trainer.max_steps=20")
    return run.tags["odyssey.weights.sha256"]

if __name__ == "__main__":
    found = [train()]
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        found += pool.map(train, [0])
    threads = [threading.Thread(target=lambda: found.append(train())) for _ in range(2)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert len(found) == 4 and len(set(found)) == 1, found
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_and_threads_train_to_the_same_bits(tmp_path, method):
    (tmp_path / "inside.py").write_text(INSIDE)
    done = subprocess.run(
        [sys.executable, "inside.py", method], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
