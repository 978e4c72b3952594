"""Recorded runs, found again."""

import os

import pytest
from journals import record
from quick import QUICK

from odyssey_core.errors import ConfigError, DataError
from odyssey_run import cli
from odyssey_run.config.schema import TrackingConfig
from odyssey_run.runs import recorded

NONE = TrackingConfig("none", None, None, None)


def test_a_run_is_found_by_each_of_its_names(tmp_path):
    assert cli.main([*QUICK, "run.name=one"]) == 0
    run = recorded.find("one", NONE)
    assert (run.name, run.status, run.folder.name, run.run_id) == ("one", "FINISHED", "one", None)
    assert run.config["trainer"]["max_steps"] == 3
    assert [step for step, _ in run.metrics["test/accuracy"]] == [3]
    assert run.weights["conv1_kernel"].shape == (6, 1, 5, 5)
    assert run.about["model"] == "lenet5"
    assert len(run.tags["odyssey.weights.sha256"]) == 64
    for other in (str(tmp_path / "runs" / "one"), run.key):
        assert recorded.find(other, NONE).key == run.key


def test_a_run_that_is_not_there():
    with pytest.raises(ConfigError, match=r"run_id: no run 'two' in runs/, nor is there an MLflow store; .*: none"):
        recorded.find("two", NONE)


def test_a_run_without_weights_says_so():
    run = recorded.RecordedRun([record("start", run="a-1", name="a", tags={"odyssey.seeds": "3"})])
    with pytest.raises(DataError, match=r"a .unfinished. has kept no weights; it is the mean of several, choose one"):
        run.classifier()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_that_only_mlflow_has(tmp_path):
    assert cli.main([*[a for a in QUICK if a != "tracking=none"], "run.name=one"]) == 0
    here = recorded.find("one", NONE)
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    mlflow = TrackingConfig("mlflow", None, None, None)
    there = recorded.find(here.run_id, mlflow)
    assert there.folder is None
    assert there.key == here.key
    assert (there.weights["fc3_bias"] == here.weights["fc3_bias"]).all()
    with pytest.raises(ConfigError, match="no run 'absent' in runs/, nor in sqlite:///"):
        recorded.find("absent", mlflow)


def test_where_a_run_is_not_found_the_last_ones_are_named(tmp_path):
    for name, when in (("a", 2), ("b", 1)):
        journal = tmp_path / "runs" / name / "journal.jsonl"
        journal.parent.mkdir(parents=True)
        journal.touch()
        os.utime(journal, (when, when))
    with pytest.raises(ConfigError, match=r"the last runs: b, a$"):
        recorded.find("absent", NONE)
