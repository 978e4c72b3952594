"""Which runs Optuna's proposals are stopped for."""

from types import SimpleNamespace

import pytest

from odyssey_run.config.schema import SweepConfig
from odyssey_run.sweep.plan import Trial
from odyssey_run.sweep.proposals import Tpe
from odyssey_run.sweep.results import PointStatus
from odyssey_run.sweep.space import Axis

pytest.importorskip("optuna")


def config(metric: str) -> SweepConfig:
    return SweepConfig("tpe", None, 20, metric, None, 0, True, None, "local", None, False, False, False)


def composer():
    axes = (Axis("optim.lr", False, low=0.1, high=1.0),)
    return SimpleNamespace(axes=axes, trial=lambda assignment, trial: Trial(assignment, (None,), trial))


def test_a_finished_run_without_the_metric_is_a_failed_trial(tmp_path):
    proposals = Tpe(tmp_path, config("val/accuracy"), composer())
    trial = proposals.ask()
    proposals.tell(trial, PointStatus.FINISHED, None)
    assert [each.state.name for each in proposals._study.trials] == ["FAIL"]


@pytest.mark.parametrize(("metric", "sign"), [("val/accuracy", 1), ("val/loss", -1)])
def test_a_run_is_stopped_by_its_value_now_and_not_by_its_best(tmp_path, metric, sign):
    proposals = Tpe(tmp_path, config(metric), composer())
    for median in (1, 2, 3, 4, 5):  # after the third epoch; the median of five is 3
        trial = proposals.ask()
        assert not any(proposals.should_prune(trial, epoch, sign * median) for epoch in (1, 2, 3))
        proposals.tell(trial, "FINISHED", sign * median)
    collapsed = proposals.ask()
    assert not proposals.should_prune(collapsed, 1, sign * -9)  # too early to tell
    assert not proposals.should_prune(collapsed, 2, sign * 9)
    assert not proposals.should_prune(collapsed, 3, sign * 3)
    assert proposals.should_prune(collapsed, 3, sign * 2.9)
    assert proposals.should_prune(collapsed, 3, float("nan"))
    assert not proposals.should_prune(collapsed, 4, sign * -9)  # nothing finished has a value there
