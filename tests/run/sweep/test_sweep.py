"""Whole sweeps of a run that takes a tenth of a second."""

import csv
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml
from small import SMALL, processes, wait_for

from odyssey_run import cli
from odyssey_run.runs.recorded import open_run

GRID = ("optim.lr=0.05,0.5", "trainer.batch_size=16,32")
COMMAND = [sys.executable, "-m", "odyssey_run.cli", "-m", *SMALL, "tracking=none"]


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def board(folder):
    (path,) = folder.glob("runs/*/leaderboard.csv")
    return rows_of(path)


def test_where_no_run_is_validated_no_point_is_the_best(sweep, tmp_path):
    images, labels = np.zeros((12, 8, 8), np.uint8), np.arange(12) % 10
    np.savez("few.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    few = ("model=linear", "data=npz", "data.file=few.npz", "backend=numpy", "trainer.batch_size=4")
    code, out, err = sweep("optim.lr=0.1,0.2", "sweep.name=s", small=(*few, "trainer.epochs=1"), pictures=True)
    assert (code, err) == (0, [])
    how = "set trainer.validation_size, or another sweep.metric"
    assert f"no run recorded val/accuracy, so no point is the best; {how}" in out
    assert not [*(tmp_path / "runs" / "s").glob("leaderboard.*")]


def test_a_grid_leaves_what_it_says_and_runs_nothing_twice(sweep, children, tmp_path):
    code, out, err = sweep(*GRID, pictures=True)
    assert (code, err) == (0, [])
    runs = children()
    assert {run.name for run in runs.values()} == {
        f"optim.lr={lr}-trainer.batch_size={size}" for lr in ("0.05", "0.5") for size in (16, 32)
    }
    for run in runs.values():
        assert run.status == "FINISHED"
        assert run.config["backend"]["name"] == "numpy"
        assert f"optim.lr={run.config['optim']['lr']}" in run.name
        assert "sweep" not in run.config
    (folder,) = (tmp_path / "runs").iterdir()
    assert {run.start.parent for run in runs.values()} == {records(folder / "journal.jsonl")[0]["run"]}
    rows = board(tmp_path)
    assert [float(row["val/accuracy"]) for row in rows] == sorted(
        (float(r["val/accuracy"]) for r in rows), reverse=True
    )
    pictures = {"val_accuracy.png", "val_loss.png", "parameters.png", "parallel.png"}
    assert {p.name for p in (folder / "plots").iterdir()} == pictures
    assert (folder / "leaderboard.html").read_text().count("data:image/png;base64,") == len(pictures)
    assert f"report   runs/{folder.name}/leaderboard.html" in out
    assert "<td>0.05</td>" in (folder / "leaderboard.html").read_text()

    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, out, err = sweep(*GRID)
    assert (code, err) == (0, [])
    assert out[0] == "all 4 runs are done; sweep.rerun=true makes them again"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_run_under_another_name_counts_as_done(sweep, children, capsys):
    assert cli.main([*SMALL, "tracking=none", "optim.lr=0.5"]) == 0
    capsys.readouterr()
    code, out, _ = sweep("optim.lr=0.05,0.5")
    assert code == 0
    assert "2 finished; 1 done before" in out
    assert len(children()) == 1


def test_more_points_under_the_same_name_run_alone(sweep, children):
    sweep("optim.lr=0.05,0.5", "sweep.name=lr")
    first = {name: run.start.time for name, run in children().items()}
    assert sweep("optim.lr=0.05,0.5,0.1", "sweep.name=lr")[0] == 0
    both = {name: run.start.time for name, run in children().items()}
    assert len(both) == 3
    assert first.items() <= both.items()


def test_rerun_makes_them_again_to_the_bit(sweep, tmp_path):
    sweep("optim.lr=0.05,0.5", "sweep.name=a")
    assert sweep("optim.lr=0.05,0.5", "sweep.name=a", "sweep.rerun=true")[0] == 0
    weights = [
        [row["weights"] for row in rows_of(tmp_path / "runs" / name / "leaderboard.csv")] for name in ("a", "a-2")
    ]
    assert len(weights[0]) == 2
    assert weights[0] == weights[1]


def test_the_best_configuration_runs_as_an_experiment(sweep, tmp_path, capsys):
    sweep("optim=sgd,adam", "sweep.name=best")
    best = yaml.safe_load((tmp_path / "runs/best/experiment/best.yaml").read_text())
    arguments = ["--config-dir", "runs/best", "experiment=best", "tracking=none", "run.name=again"]
    assert cli.main(arguments) == 0
    config = yaml.safe_load((tmp_path / "runs/again/config.yaml").read_text())
    assert config["optim"] == best["optim"]
    tags = open_run(tmp_path / "runs/again").tags
    assert tags["odyssey.weights.sha256"].startswith(board(tmp_path)[0]["weights"])


def test_seeds_are_runs_of_their_own_with_a_mean(sweep, children, tmp_path):
    code, out, _ = sweep("optim.lr=0.05,0.5", "seeds=3", "trainer.epochs=1", pictures=True)
    assert code == 0
    assert out[0].startswith("sweep    2 points, 6 runs, grid")
    runs = children()
    assert sorted(run.config["seed"] for run in runs.values()) == [0, 0, 1, 1, 2, 2]
    assert {run.config["seeds"] for run in runs.values()} == {1}
    for row in board(tmp_path):
        values = [
            run.metrics["val/accuracy"][-1][1]
            for run in runs.values()
            if run.config["optim"]["lr"] == float(row["optim.lr"])
        ]
        mean = sum(values) / 3
        assert float(row["val/accuracy"]) == pytest.approx(mean)
        assert float(row["std"]) == pytest.approx((sum((v - mean) ** 2 for v in values) / 2) ** 0.5)
        assert row["seeds"] == "3"
    # A curve of one epoch would be a lone dot.
    assert {path.name for path in tmp_path.glob("runs/*/plots/*")} == {"parameters.png", "seeds.png"}


def test_what_rests_on_the_seed_is_made_of_the_seed_of_each_run(sweep, children):
    code, out, _ = sweep("seeds=1,3", "seed=1", "trainer.max_steps=${seed}")
    assert (code, len(children())) == (0, 3)
    assert out[0].startswith("sweep    2 points, 3 runs, grid")  # seed 1 of both points is one run
    for run in children().values():
        assert run.config["trainer"]["max_steps"] == run.config["seed"]


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_claim_is_held_against_the_mean_over_seeds(sweep, children, tmp_path, seeds):
    points = ("optim.lr=0.05,0.1", f"seeds={seeds}")
    sweep(*points, "sweep.name=first")
    means = {row["optim.lr"]: float(row["test/accuracy"]) for row in board(tmp_path)}
    low, high = sorted(means.values())
    # One seed of two misses what their mean holds.
    assert low < high
    assert seeds == 1 or min(run.metrics["test/accuracy"][-1][1] for run in children().values()) < low
    for name, relation, code, missed in (("held", ">=", 0, []), ("missed", ">", 3, [low])):
        expect = f"expect={{test/accuracy: '{relation} {low!r}'}}"
        for rerun in (True, False):  # trained, and found to be done
            found, out, _ = sweep(*points, expect, f"sweep.name={name}", f"sweep.rerun={rerun}")
            assert found == code
            assert f"{len(missed)} of 2 points missed a claim" in out
        rows = rows_of(tmp_path / "runs" / name / "leaderboard.csv")
        assert [means[row["optim.lr"]] for row in rows if row["claims"] == "missed"] == missed
        assert len(rows) == 2


def test_a_sweep_waits_for_the_disk_once_for_all_its_points(sweep, tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr("os.sync", lambda: waited.append(len(list(tmp_path.glob("runs/*/*/statements.json")))))
    assert sweep("optim.lr=0.05,0.5")[0] == 0
    assert waited == [2]


def test_a_dry_run_prints_and_leaves_nothing(sweep, tmp_path):
    code, out, _ = sweep(*GRID, "sweep.dry_run=true")
    assert code == 0
    assert [line.strip() for line in out[:2]] == [
        "optim.lr=0.05 trainer.batch_size=16",
        "optim.lr=0.05 trainer.batch_size=32",
    ]
    assert out[4:] == [
        "4 runs, 0 done",
        "no estimate of the time: no run of linear on digits is in runs/ yet",
    ]
    assert list(tmp_path.iterdir()) == []
    sweep("optim.lr=0.05")
    out = sweep(*GRID, "sweep.dry_run=true")[1]
    assert out[4] == "4 runs, 1 done"
    assert out[5].startswith("about ")


@pytest.mark.slow
def test_what_fails_is_told_and_the_rest_goes_on(sweep, children, tmp_path):
    code, _out, err = sweep("optim.lr=0.05,1e38", "trainer.batch_size=16,5000", "sweep.jobs=2", pictures=True)
    assert code == cli.FAILED
    runs = {(r.config["optim"]["lr"], r.config["trainer"]["batch_size"]): r for r in children().values()}
    assert {key: run.status for key, run in runs.items()} == {
        (0.05, 16): "FINISHED",
        (1e38, 16): "FAILED",
        (0.05, 5000): "FAILED",
        (1e38, 5000): "FAILED",
    }
    assert sum("train loss is not finite at step" in line for line in err) == 1
    assert sum("trainer.batch_size: expected at most 1337" in line for line in err) == 2
    assert "Traceback" in (runs[0.05, 5000].folder / "train.log").read_text()
    # The same command tries what failed once more, in folders of their own, and nothing else.
    assert sweep("optim.lr=0.05,1e38", "trainer.batch_size=16,5000")[0] == cli.FAILED
    assert len(children()) == 7


def test_random_points_are_the_same_again(sweep, children):
    drawn = ("sweep=random", "sweep.trials=3", "optim.lr=tag(log,interval(0.01,1))")
    assert sweep(*drawn)[0] == 0
    assert len(children()) == 3
    assert sweep(*drawn)[1][0].startswith("all 3 runs are done")


def test_points_drawn_twice_are_told_and_run_once(sweep, children):
    _, out, _ = sweep("sweep=random", "optim.lr=0.1,0.2,0.3", "sweep.trials=20", "sweep.dry_run=true")
    assert out[0] == "20 points were drawn, 3 of them different; each is run once"
    assert "3 runs, 0 done" in out


def test_a_range_knows_what_was_done_under_its_decimals(sweep, children):
    assert sweep("optim.lr=0.3")[0] == 0
    _, out, _ = sweep("optim.lr=range(0.1,0.4,0.1)", "sweep.dry_run=true")
    assert [line.split()[0] for line in out[:3]] == ["optim.lr=0.1", "optim.lr=0.2", "optim.lr=0.3"]
    assert "done: val/accuracy" in out[2]
    assert "3 runs, 1 done" in out


def test_a_grid_that_nobody_can_run_is_refused(mistake):
    (line,) = mistake("-m", *SMALL[2:], "optim.lr=range(0,1,0.002)", "seed=range(0,500)")
    assert line == "sweep: a grid of 250,000 points, at most 10,000 are planned; choose sweep=random"


def test_tpe_goes_on_to_so_many_in_all(sweep, children):
    pytest.importorskip("optuna")
    space = ("sweep=tpe", "optim.lr=tag(log,interval(0.01,1))", "trainer.batch_size=16,32", "sweep.name=t")
    assert sweep(*space, "sweep.trials=3")[0] == 0
    first = set(children())
    assert len(first) == 3
    assert sweep(*space, "sweep.trials=5")[0] == 0
    assert len(children()) == 5
    assert first < set(children())
    assert sweep(*space, "sweep.trials=5")[0] == 0
    assert len(children()) == 5


def test_fail_fast_stops(sweep, children):
    assert sweep("optim.lr=1e38,0.05,0.1,0.2", "sweep.fail_fast=true")[0] == cli.FAILED
    assert len(children()) < 4


FAULTS = {
    ("optim.lr=0.1,abc", "trainer.epochs=x"): [
        "trainer.epochs: expected an integer at least 1, got the text 'x'",
        "optim.lr: expected a number from 0 to 1e+38, got the text 'abc' (with optim.lr=abc)",
    ],
    ("optim=sgd,adam", "optim.momentum=0.9"): [
        "unknown key optim.momentum; optim has lr, betas, eps, weight_decay, groups (with optim=adam)",
    ],
    ("optim.lr=interval(0.1,1)",): [
        "optim.lr: a grid needs single values, got an interval; choose sweep=random or sweep=tpe",
    ],
    ("sweep=random", "optim.lr=interval(1,0.1)"): [
        "optim.lr: expected an interval with low < high, got 'optim.lr=interval(1,0.1)'",
    ],
    ("sweep=random",): ["sweep=random: nothing varies; give a key several values or an interval"],
    ("sweep.trails=3",): ["unknown key sweep.trails; sweep has strategy, name, trials, metric, direction, seed, prune, "
                          "jobs, executor, address, dry_run, rerun, fail_fast; did you mean sweep.trials?"],
    ("sweep.trials=3", "sweep.prune=true"): [
        "sweep.trials: a grid runs every combination; choose sweep=random or sweep=tpe, got 3",
        "sweep.prune: needs sweep=tpe",
    ],
    ("sweep.name=a/b",): ["sweep.name: expected letters, digits and ._+- only, got 'a/b'"],
    ("sweep.executor=dask",): ["sweep.address: expected tcp://HOST:PORT with sweep.executor=dask, and null without"],
    ("tracking.uri=a,b",): ["tracking.uri: is the same for all runs of a sweep; give one value"],
    ("run.name=x",): ["run.name: would be the same for all runs of a sweep; set sweep.name"],
    ("resume=auto",): ["resume: a sweep goes on by itself, run by run; leave it out"],
    ("task=doctor",): ["task: -m sweeps over task=train, got task=doctor"],
    ("trainer.validation_size=0",): [
        "trainer.validation_size: 0 leaves no val/accuracy to compare the points of a sweep by",
    ],
}  # fmt: skip


@pytest.mark.parametrize("arguments", FAULTS, ids=" ".join)
def test_a_broken_point_is_refused_before_any_has_run(sweep, tmp_path, arguments):
    small = [a for a in SMALL if a.partition("=")[0] not in {b.partition("=")[0] for b in arguments}]
    code, out, err = sweep(*arguments, small=tuple(small))
    assert (code, out) == (cli.MISTAKE, [])
    assert [line.removeprefix("odyssey-run: ") for line in err] == FAULTS[arguments]
    assert list(tmp_path.iterdir()) == []


def test_how_to_sweep_needs_a_sweep(mistake):
    (line,) = mistake(*SMALL, "tracking=none", "sweep.jobs=2")
    assert line == "sweep.jobs is for sweeps: add -m"
    assert mistake(*SMALL, "sweep=tpe") == ["sweep=tpe is for sweeps: add -m"]
    assert mistake(*SMALL, "optim.lr=0.1,0.2") == [
        "optim.lr=0.1,0.2 has several values: sweep them with -m, or write a list: optim.lr=[0.1,0.2]"
    ]
    assert mistake(*SMALL, "optim.lr=0,01") == ["optim.lr=0,01 has two values: sweep them with -m, or write 0.01"]
    assert mistake(*SMALL, "optim=sgd,adam") == ["optim=sgd,adam has several values: sweep them with -m"]


def start(folder, *arguments):
    return subprocess.Popen(
        [*COMMAND, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
def test_a_killed_sweep_goes_on_and_comes_to_the_same(tmp_path, children):
    longer = ("trainer.epochs=150", "optim.lr=0.05,0.1,0.2,0.5", "sweep.jobs=2", "sweep.name=s")
    process = start(tmp_path, *longer)
    wait_for(lambda: any(run.status == "FINISHED" for run in children().values()))
    process.kill()
    process.wait()
    process.stdout.close(), process.stderr.close()
    before = children()
    workers = {pid for run in before.values() for pid in processes(run.folder)}
    wait_for(lambda: not any(map(alive, workers)))
    finished = {name for name, run in before.items() if run.status == "FINISHED"}
    assert 0 < len(finished) < 4
    again = start(tmp_path, *longer)
    assert again.communicate(timeout=120)[1] == ""
    after = children()
    assert len(after) == 4
    assert {name for name, run in after.items() if len(processes(run.folder)) == 1} >= finished
    rows = {row["optim.lr"]: row["weights"] for row in board(tmp_path)}
    whole = tmp_path / "whole"
    whole.mkdir()
    assert start(whole, *longer).communicate(timeout=120)[1] == ""
    assert {row["optim.lr"]: row["weights"] for row in board(whole)} == rows


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_the_run_of_a_killed_worker_is_tried_once_more(tmp_path, children, times):
    process = start(tmp_path, "trainer.epochs=400", "optim.lr=0.05,0.1", "sweep.jobs=1")

    def workers():
        return [pid for run in children().values() if "0.05" in run.name for pid in processes(run.folder)]

    for count in range(1, times + 1):
        os.kill(wait_for(lambda: workers()[count - 1 :])[0], signal.SIGKILL)  # noqa: B023
    _out, err = process.communicate(timeout=120)
    statuses = sorted(run.status for run in children().values())
    if times == 1:
        assert (process.returncode, err, statuses) == (0, "", ["FINISHED", "FINISHED"])
    else:
        assert (process.returncode, statuses) == (1, ["FAILED", "FINISHED"])
        assert "optim.lr=0.05: its worker was killed by SIGKILL; see runs/" in err


@pytest.mark.slow
def test_ctrl_c_ends_it_cleanly(tmp_path, children):
    process = start(tmp_path, "trainer.epochs=100000", "optim.lr=0.05,0.1,0.2", "sweep.jobs=2")
    wait_for(lambda: len(children()) == 2)
    workers = [pid for run in children().values() for pid in processes(run.folder)]
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    assert {run.status for run in children().values()} == {"KILLED"}
    assert not any(map(alive, workers))
    (parent,) = tmp_path.glob("runs/*/journal.jsonl")
    assert records(parent)[-1]["reason"] == "stopped by SIGINT"
