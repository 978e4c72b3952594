"""Parameters that are trained in another way than the rest, frozen ones, and slow weights."""

import re
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from harness import numba_backend

from odyssey_core import ops
from odyssey_core.backends.numpy import NumpyBackend
from odyssey_core.data.dataset import Images
from odyssey_core.errors import ConfigError
from odyssey_core.initial import Uniform
from odyssey_core.learner import Learner
from odyssey_core.nn import Linear, Module, Sequential
from odyssey_core.optim import OPTIMIZERS, SGD, Lookahead, Optimizer, Plan, StepRule
from odyssey_core.optim.schedules import Constant
from odyssey_core.testing.graph import reference

SHAPE, BATCH = (1, 3, 3), 20
BACKENDS = [numba_backend, NumpyBackend]
RNG = np.random.default_rng(4)
DATA = Images(RNG.integers(0, 256, (60, *SHAPE), np.uint8), RNG.integers(0, 3, 60))
ORDER = np.arange(60, dtype=np.int64).reshape(3, BATCH)


class Net(Module):
    def __init__(self, trained=True):
        self.scale = ops.parameter("scale", (5, 9), Uniform(0.5), trained=trained)
        self.body = Sequential({"fc1": Linear(5, 4), "fc2": Linear(4, 3)})

    def forward(self, x):
        return self.body(ops.linear(ops.flatten(x), self.scale))


def learner(backend, groups=(), *, trained=True, steps=3, **settings):
    optimizer = SGD(lr=0.5, momentum=0.9, groups=groups)
    plan = Plan(steps, 3, Constant())
    return Learner(Net(trained), optimizer, backend(), input_shape=SHAPE, batch_size=BATCH, plan=plan, **settings)


def train(made, *, epoch=0, first=0, last=3):
    return made.train(DATA, ORDER[first:last], epoch=epoch, first_step=3 * epoch + first)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("groups", "trained"), [((), False), (({"match": "scale", "lr": 0},), True)], ids=["model", "group"]
)
def test_a_frozen_parameter_stays_and_costs_nothing(backend, groups, trained):
    made = learner(backend, groups, trained=trained)
    before = made.state()
    assert not any(name.startswith("scale/") for name in before)
    assert "scale" in made.parameters and "scale" not in made.gradients(DATA, ORDER[0])
    train(made)
    after = made.state()
    np.testing.assert_array_equal(after["scale"], before["scale"])
    assert all((after[name] != before[name]).any() for name in before if name != "scale")
    assert made.weights().keys() == made.parameters.keys()


@dataclass(frozen=True)
class Shrinking(Optimizer):
    """p = (1 - lr weight_decay) p - lr g, the factor worked out for each step."""

    lr: float = 0.1
    weight_decay: float = 0.5

    @property
    def rule(self):
        return lambda p, g, *, lr, shrink: shrink * p - lr * g

    def step_values(self, step, lr):
        return {"lr": lr, "shrink": 1 - lr * self.weight_decay}


def test_a_groups_weight_decay_reaches_what_is_worked_out_for_each_step():
    optimizer = Shrinking(groups=[{"match": "a", "weight_decay": 0.5}, {"match": "b", "lr": 2}])
    numbers = StepRule().numbers(optimizer, 0, [0.1])
    shrink = sorted(float(values[0]) for name, values in numbers.items() if name.startswith("shrink"))
    assert shrink == [pytest.approx(x, abs=1e-7) for x in (1 - 0.2 * 0.5, 1 - 0.1 * 0.5, 1 - 0.1 * 0.25)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_group_is_trained_for_some_epochs(backend):
    made = learner(backend, ({"match": "body.fc1.*", "epochs": 1}, {"match": "*.bias", "lr": 3.0}), steps=6)
    states = [made.weights()]
    for epoch in range(2):
        train(made, epoch=epoch)
        states.append(made.weights())
    changed = [{name for name in a if (a[name] != b[name]).any()} for a, b in pairwise(states)]
    assert changed[0] == {*made.parameters}
    assert changed[1] == {name for name in made.parameters if not name.startswith("body.fc1.")}


def test_a_first_step_is_as_much_longer_as_the_group_says():
    plain, grouped = (learner(reference, groups) for groups in ((), ({"match": "*.bias", "lr": 3.0},)))
    start = plain.weights()
    for made in (plain, grouped):
        train(made, last=1)
    for name, value in plain.weights().items():
        factor = 3 if name.endswith(".bias") else 1
        np.testing.assert_allclose(grouped.weights()[name] - start[name], factor * (value - start[name]), atol=1e-6)


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS])
def test_every_optimizer_has_groups_on_both_backends(optimizer):
    groups, found = ({"match": "*.bias", "lr": 2.0}, {"match": "body.fc1.*", "weight_decay": 0.5}), []
    for backend in (numba_backend, reference):
        made = Learner(
            Net(), OPTIMIZERS[optimizer](groups=groups), backend(), input_shape=SHAPE, batch_size=BATCH,
            clip_norm=0.1, lookahead=Lookahead(2, 0.5, 1), plan=Plan(3, 3, Constant()),
        )  # fmt: skip
        train(made)
        found.append(made.state())
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        np.testing.assert_allclose(value, found[1][name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([{"match": "conv1.*"}], "optim.groups[0].match: conv1.* matches no parameter; the model has scale, body.fc1"),
        (
            [{"match": "body.*"}, {"match": "*.bias"}],
            "optim.groups[1].match: *.bias matches no parameter; earlier groups have all that it matches",
        ),
        ([{"match": "*", "lr": 0}], "optim.groups: no parameter is left to be trained"),
    ],
)
def test_a_pattern_that_names_nothing_is_told(groups, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        learner(NumpyBackend, groups)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["*.bias"], "optim.groups[0]: expected a mapping of match, lr, weight_decay, epochs, got *.bias"),
        ([{"lr": 2}], "optim.groups[0].match: expected text, got nothing"),
        ([{"match": "*", "rate": 2}], "optim.groups[0].rate: unknown key; a group has match, lr, weight_decay, epochs"),
        ([{"match": "*", "lr": -1}], "optim.groups[0].lr: expected a number from 0 to 1e+38, got -1"),
        ([{"match": "*", "epochs": 0}], "optim.groups[0].epochs: expected an integer at least 1 or null, got 0"),
    ],
)
def test_wrong_groups_are_named(groups, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        SGD(groups=groups)


@pytest.mark.parametrize("backend", BACKENDS)
def test_slow_weights_follow_their_formula(backend):
    """Worked out beside a run without them, from step to step: they are taken after steps 2, 4 and the last, 5."""
    made = learner(backend, steps=5, lookahead=Lookahead(every=2, decay=0.8, power=1))
    slow = made.weights()
    for step in range(5):
        free = learner(backend, steps=5)
        free.load_state({name: value for name, value in made.state().items() if not name.endswith("/slow")})
        for each in (made, free):
            each.train(DATA, ORDER[step % 3 :][:1], epoch=0, first_step=step)
        fast = free.weights()
        if step in (1, 3, 4):
            share = 0.8 * (step + 1) / 5
            slow = {name: share * value + (1 - share) * fast[name] for name, value in slow.items()}
            fast = slow
        for name, value in made.weights().items():
            np.testing.assert_allclose(value, slow[name], rtol=1e-5, atol=1e-6, err_msg=f"step {step} {name}")
            np.testing.assert_allclose(made.state()[name], fast[name], rtol=1e-5, atol=1e-6)
        slow = made.weights()


def test_two_averages_are_refused():
    message = "trainer.lookahead: keeps slow weights, and trainer.ema an average; give one of them"
    with pytest.raises(ConfigError, match=re.escape(message)):
        StepRule(ema=0.9, lookahead=Lookahead(5, 0.8, 3))
    with pytest.raises(ConfigError, match=r"trainer\.lookahead\.every: expected an integer at least 1, got 0"):
        StepRule(lookahead=Lookahead(0, 0.8, 3))
