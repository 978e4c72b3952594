"""Every schedule against PyTorch's float64 factors, values worked out by hand, and what a schedule refuses."""

import json
import math
import re
from dataclasses import MISSING, fields

import pytest
from fixtures import formulas
from harness import FIXTURES

from odyssey_core.errors import ConfigError
from odyssey_core.optim import SCHEDULERS
from odyssey_core.optim.schedules import Plan, cos_pi

RECORDS = json.loads((FIXTURES / "torch_schedules.json").read_text())


def _build(name, settings):
    return SCHEDULERS[name](**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})


def _factors(schedule, steps=formulas.SCHEDULE_STEPS, per_epoch=formulas.SCHEDULE_PER_EPOCH, history=()):
    return [schedule.factor(s, steps, per_epoch, history[: s // per_epoch]) for s in range(steps)]


def test_every_schedule_and_every_argument_has_a_fixture():
    for name in SCHEDULERS:
        built = [_build(name, r["settings"]) for r in RECORDS if r["scheduler"] == name]
        assert built, f"no fixture for {name}: add it to tests/fixtures/formulas.py"
        for field in fields(SCHEDULERS[name]):
            assert field.default is not MISSING
            assert any(getattr(b, field.name) != field.default for b in built), f"{name}: none moves {field.name}"


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: f"{r['scheduler']} {list(r['settings'])}")
def test_factors_equal_pytorchs(record):
    schedule = _build(record["scheduler"], record["settings"])
    assert (record["scheduler"], record["settings"]) in formulas.SCHEDULE_CASES
    factors = _factors(schedule, history=formulas.SCHEDULE_HISTORY)
    assert factors == pytest.approx(record["factors"], rel=1e-12, abs=1e-15)
    assert record["scheduler"] == "constant" or len(set(factors[15:])) > 1


def test_the_cosine_is_pythons_to_the_last_bits():
    for k in range(10001):
        assert abs(cos_pi(k / 10000) - math.cos(math.pi * k / 10000)) < 1e-15
    assert (cos_pi(0.0), cos_pi(1.0)) == (1.0, -1.0)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("constant", {}, [1, 1, 1, 1, 1, 1, 1, 1]),
        ("constant", {"warmup": 0.5}, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ("step", {"step_size": 1, "gamma": 0.5}, [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]),
        ("step", {"step_size": 1, "gamma": 0.5, "warmup": 0.5}, [0.25, 0.5, 0.375, 0.5, 0.25, 0.25, 0.125, 0.125]),
        ("multistep", {"milestones": [1, 3], "gamma": 0.5}, [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]),
        ("exponential", {"gamma": 0.5}, [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]),
        (
            "triangular",
            {"start": 0.2, "peak": 0.5, "end": 0.1},
            pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 0.775, 0.55, 0.325]),
        ),
        ("polynomial", {}, [1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        ("polynomial", {"power": 2, "warmup": 0.5}, [0.25, 0.5, 0.75, 1, 1, 0.5625, 0.25, 0.0625]),
    ],
)
def test_factors_worked_out_by_hand(name, settings, expected):
    """Eight steps, two an epoch."""
    assert _factors(_build(name, settings), steps=8, per_epoch=2) == expected


@pytest.mark.parametrize(
    ("history", "plateaus"),
    [
        ([3.0, 2.0, 1.0], 0),
        ([1.0, 1.0, 1.0], 1),
        ([1.0, 1.0, 1.0, 1.0], 1),
        ([1.0] * 5, 2),
        ([1.0, 1.1, 0.9, 1.0, 0.95], 1),
        ([1.0, math.nan, math.nan], 1),
        ([1.0, 0.96, 0.955], 1),
        ([1.0, 0.94, 0.88], 0),
        # An accuracy is handed in negated: 0.5, 0.51 and 0.52 are no gain of a twentieth, 0.53 is one.
        ([-0.5, -0.51, -0.52], 1),
        ([-0.5, -0.51, -0.53], 0),
    ],
)
def test_plateaus_are_counted_by_their_definition(history, plateaus):
    schedule = _build("plateau", {"patience": 1, "gamma": 0.5, "threshold": 0.05})
    assert schedule.factor(0, 100, 10, history) == 0.5**plateaus


def test_a_warm_up_never_fills_the_run():
    schedule = _build("cosine", {"warmup": 0.99})
    assert _factors(schedule, steps=3, per_epoch=1) == [0.5, 1, 1]
    assert schedule.factor(0, 1, 1, ()) == 1


@pytest.mark.parametrize("factor", ["x", math.nan, math.inf, -0.1, None])
def test_a_factor_that_is_no_finite_number_from_0_on(monkeypatch, factor):
    schedule = _build("cosine", {})
    monkeypatch.setattr(type(schedule), "factor", lambda *_: factor)
    with pytest.raises(
        ConfigError, match=f"schedule Cosine: expected a finite factor from 0 on at step 3, got {factor!r}"
    ):
        Plan(10, 5, schedule).factor(3, ())


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_short_runs_have_a_factor_for_every_step(steps):
    for name in SCHEDULERS:
        assert all(0 <= f <= 1 for f in _factors(SCHEDULERS[name](), steps=steps, per_epoch=1))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("constant", {"warmup": 1.0}, "scheduler.warmup: expected a number from 0 to below 1, got 1.0"),
        ("constant", {"warmup": -0.1}, "scheduler.warmup: expected a number from 0 to below 1, got -0.1"),
        ("exponential", {"gamma": math.nan}, "scheduler.gamma: expected a number above 0 and at most 1, got nan"),
        ("exponential", {"gamma": 0.0}, "scheduler.gamma: expected a number above 0 and at most 1, got 0.0"),
        ("step", {"step_size": 0}, "scheduler.step_size: expected an integer at least 1, got 0"),
        ("step", {"gamma": 2.0}, "scheduler.gamma: expected a number above 0 and at most 1, got 2.0"),
        ("multistep", {"milestones": [3, 3]}, "scheduler.milestones: must be ascending epochs from 1 on, got [3, 3]"),
        ("multistep", {"milestones": [0]}, "scheduler.milestones: must be ascending epochs from 1 on, got [0]"),
        ("multistep", {"milestones": []}, "scheduler.milestones: must be ascending epochs from 1 on, got []"),
        ("multistep", {"gamma": 0.0}, "scheduler.gamma: expected a number above 0 and at most 1, got 0.0"),
        ("cosine", {"min_factor": 1.5}, "scheduler.min_factor: expected a number from 0 to 1, got 1.5"),
        ("polynomial", {"power": 0}, "scheduler.power: expected an integer at least 1, got 0"),
        ("plateau", {"gamma": 1.0}, "scheduler.gamma: expected a number above 0 and below 1, got 1.0"),
        ("plateau", {"min_factor": 2.0}, "scheduler.min_factor: expected a number from 0 to 1, got 2.0"),
        ("onecycle", {"pct_start": 1.0}, "scheduler.pct_start: expected a number above 0 and below 1, got 1.0"),
        ("onecycle", {"div_factor": 0.5}, "scheduler.div_factor: expected a number at least 1, got 0.5"),
        ("onecycle", {"final_div_factor": 0.0}, "scheduler.final_div_factor: expected a number at least 1, got 0.0"),
    ],
)
def test_wrong_arguments_are_named(name, settings, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        _build(name, settings)


@pytest.mark.parametrize(
    ("name", "settings", "longest", "message"),
    [
        ("step", {"step_size": 5}, 5, "scheduler.step_size: must be below the run's 5 epochs, got 5"),
        ("multistep", {"milestones": [2, 7]}, 7, "scheduler.milestones: must lie below the run's 7 epochs, got [2, 7]"),
        (
            "plateau", {"patience": 3}, 5,
            "scheduler.patience: must be below 3 for a run of 5 epochs to see a plateau and use it, got 3",
        ),
    ],
)  # fmt: skip
def test_schedules_longer_than_the_run_are_refused(name, settings, longest, message):
    schedule = _build(name, settings)
    with pytest.raises(ConfigError, match=re.escape(message)):
        schedule.check(longest)
    schedule.check(longest + 1)
    steps = 2 * (longest + 1)
    assert len(set(_factors(schedule, steps, 2, history=[1.0] * longest))) > 1, "the last epoch is another"


@pytest.mark.parametrize(
    ("name", "settings", "shortest"),
    [("step", {"step_size": 1}, 2), ("multistep", {"milestones": [1]}, 2), ("plateau", {"patience": 0}, 3)],
)
def test_runs_too_short_for_any_value_are_told_so(name, settings, shortest):
    schedule = _build(name, settings)
    told = f"scheduler={name}: changes nothing in a run of fewer than {shortest} epochs, got {shortest - 1}; train "
    with pytest.raises(ConfigError, match=re.escape(told)):
        schedule.check(shortest - 1)
    schedule.check(shortest)


def test_the_defaults_fit_the_default_run():
    for name in SCHEDULERS:
        SCHEDULERS[name]().check(10)
