"""Clipping and averaging: against PyTorch, one backend against the other, and what goes on from a saved state."""

import json
import re
from dataclasses import dataclass

import numpy as np
import pytest
from harness import FIXTURES, numba_backend
from regression import BACKENDS, follow

from odyssey_core import ops
from odyssey_core.autodiff import gradients
from odyssey_core.backends.base import Feed
from odyssey_core.backends.numpy import NumpyBackend
from odyssey_core.data import DATASETS
from odyssey_core.data.dataset import Images
from odyssey_core.errors import ConfigError, DataError
from odyssey_core.learner import Learner, initial_values
from odyssey_core.models import MODELS
from odyssey_core.optim import OPTIMIZERS, Optimizer, Plan, StepRule, Update
from odyssey_core.optim.schedules import Polynomial
from odyssey_core.testing.graph import classify, reference

RECORDS = json.loads((FIXTURES / "torch_clipping.json").read_text())
SHAPE, BATCH, STEPS = (1, 9, 9), 40, 10
PLAN = Plan(STEPS, STEPS, Polynomial())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("record", RECORDS, ids=lambda r: f"{r['optimizer']} {r['clip_norm']}")
def test_clipped_steps_equal_pytorchs(record, backend):
    follow(record, backend, StepRule(clip_norm=record["clip_norm"]))


def _data():
    rng = np.random.default_rng(4)
    return Images(rng.integers(0, 256, (100, *SHAPE), np.uint8), rng.integers(0, 5, 100))


DATA = _data()
ORDER = np.arange(STEPS * BATCH, dtype=np.int64).reshape(STEPS, BATCH) * 7 % 100
ORDER[3, 11:] = -1  # one block of the first group, and none of the others


def _learner(backend=numba_backend, optimizer=("sgd", {"lr": 0.3, "momentum": 0.9}), **rule):
    name, arguments = optimizer
    model = MODELS["mlp"](input_shape=SHAPE, classes=5, hidden=(33, 7), dropout=0.25)
    optimizer = OPTIMIZERS[name](**arguments)
    return Learner(model, optimizer, backend(), input_shape=SHAPE, batch_size=BATCH, seed=2, plan=PLAN, **rule)


def _train(learner, first=0, last=STEPS):
    return learner.train(DATA, ORDER[first:last], epoch=0, first_step=first).losses


@pytest.mark.parametrize(
    "optimizer",
    [("sgd", {"lr": 0.3, "momentum": 0.9}), ("adamw", {"lr": 0.01}), ("lamb", {"lr": 0.01}), ("muon", {"lr": 0.01})],
    ids=str,
)
def test_both_backends_clip_and_average_alike(optimizer):
    """Three groups of blocks; five steps, before roundings have grown."""
    found = []
    for make in (numba_backend, reference):
        learner = _learner(make, optimizer, clip_norm=0.2, ema=0.8)
        losses = _train(learner, last=5)
        found.append({"losses": losses, **learner.state()})
    for name, value in found[1].items():
        np.testing.assert_allclose(found[0][name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    plain = _learner(reference, optimizer)
    _train(plain, last=5)
    assert any(np.abs(plain.state()[name] - found[1][name]).max() > 1e-3 for name in plain.state())


def test_gradients_are_scaled_together_to_the_norm():
    """With lr 0 and one step, the velocity is the gradient."""
    free, clipped = (_learner(optimizer=("sgd", {"lr": 0.0, "momentum": 0.5}), clip_norm=c) for c in (None, 0.125))
    grads = []
    for learner in (free, clipped):
        _train(learner, last=1)
        grads.append({k: v.astype(np.float64) for k, v in learner.state().items() if k.endswith("/velocity")})
    norms = [np.sqrt(sum(np.square(g).sum() for g in found.values())) for found in grads]
    assert norms[0] > 0.25
    assert norms[1] == pytest.approx(0.125, rel=2e-5)
    for name, grad in grads[0].items():
        np.testing.assert_allclose(grads[1][name], grad * (norms[1] / norms[0]), rtol=1e-5, atol=1e-9)


def test_a_limit_that_is_never_reached_changes_no_bit():
    plain, free = _learner(), _learner(clip_norm=1e30)
    np.testing.assert_array_equal(_train(plain), _train(free))
    for name, value in plain.state().items():
        np.testing.assert_array_equal(free.state()[name], value)


@pytest.mark.parametrize("backend", [numba_backend, NumpyBackend])
def test_a_norm_that_is_not_a_number_is_not_hidden(backend):
    learner = _learner(backend, clip_norm=1.0)
    learner.load_weights({n: v if n != "fc2.bias" else v * np.nan for n, v in learner.weights().items()})
    _train(learner, last=1)
    assert all(np.isnan(v).all() for v in learner.weights().values())


def test_the_decay_of_the_average_rises_with_the_steps():
    """Worked out by hand: 1/10, 2/11, ... until the decay that was asked for is reached."""
    rule = StepRule(ema=0.75)
    found = [rule.step_values(step)["ema_decay"] for step in (0, 1, 2, 25, 26, 27, 10**9)]
    assert found == [1 / 10, 2 / 11, 3 / 12, 26 / 35, 0.75, 0.75, 0.75]
    assert StepRule(ema=0.0).step_values(5) == {"ema_decay": 0.0}
    assert StepRule().step_values(5) == {}


@pytest.mark.parametrize("backend", [numba_backend, NumpyBackend])
def test_the_average_of_a_short_run_forgets_the_random_start(backend):
    """A weight that stays 0 after a start of 1: 9! / (11 ... 19) = 1/92378 of the start is left after ten steps."""
    learner = _learner(backend, ("sgd", {"lr": 0.0}), ema=0.999)
    start = learner.state()
    zeros = {name: np.zeros_like(value) for name, value in start.items() if not name.endswith("/ema")}
    learner.load_state({name: zeros.get(name, np.ones_like(value)) for name, value in start.items()})
    _train(learner)
    for value in learner.weights().values():
        np.testing.assert_allclose(value, 1 / 92378, rtol=1e-5)


def test_digits_averaged_over_three_epochs_are_read():
    """With a decay of 0.999 from the first step on it was 16 %, for 95 % without an average."""
    dataset = DATASETS["digits"]()
    model = MODELS["lenet5"](input_shape=dataset.input_shape, classes=dataset.classes)
    learner = Learner(
        model, OPTIMIZERS["adam"](), numba_backend(), input_shape=dataset.input_shape, batch_size=32,
        mean=dataset.mean, std=dataset.std, ema=0.999,
    )  # fmt: skip
    per_epoch = len(dataset.train) // 32
    for epoch in range(3):
        order = np.random.default_rng(epoch).permutation(len(dataset.train))[: per_epoch * 32].reshape(-1, 32)
        learner.train(dataset.train, order, epoch=epoch, first_step=epoch * per_epoch)
    logits, _ = learner.evaluate(dataset.test, np.arange(len(dataset.test)))
    assert (logits.argmax(1) == dataset.test.labels).mean() > 0.9


@pytest.mark.parametrize("backend", [numba_backend, NumpyBackend])
def test_the_average_follows_its_formula(backend):
    """Worked out in float64 from the parameters of every step; a decay of 0.3 is reached in the fourth."""
    learner = _learner(backend, ema=0.3)
    average = {name: value.astype(np.float64) for name, value in learner.weights().items()}
    for name, value in initial_values(learner.parameters, 2).items():
        np.testing.assert_array_equal(average[name], value, "the average starts as the initial weights")
    for step in range(STEPS):
        _train(learner, step, step + 1)
        state = learner.state()
        decay = min(0.3, (1 + step) / (10 + step))
        average = {name: decay * a + (1 - decay) * state[name] for name, a in average.items()}
    for name, value in learner.weights().items():
        np.testing.assert_allclose(value, average[name], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(value, state[f"{name}/ema"])
        assert (value != state[name]).any()


@pytest.mark.parametrize("backend", [numba_backend, NumpyBackend])
def test_the_average_is_evaluated_and_the_parameters_train(backend):
    """Averaging beside a run changes nothing in it, only what is looked at."""
    plain, averaged = _learner(backend), _learner(backend, ema=0.9)
    images = np.arange(len(DATA))
    before = averaged.evaluate(DATA, images)[0]
    np.testing.assert_array_equal(_train(plain), _train(averaged))
    logits = averaged.evaluate(DATA, images)[0]
    assert (logits != before).any() and (logits != plain.evaluate(DATA, images)[0]).any()
    plain.load_weights(averaged.weights())
    np.testing.assert_array_equal(plain.evaluate(DATA, images)[0], logits)


def test_loaded_weights_start_the_average_anew():
    first, second = _learner(ema=0.9), _learner(ema=0.9)
    _train(first)
    second.load_weights(first.weights())
    for name, value in first.weights().items():
        np.testing.assert_array_equal(second.weights()[name], value)
        np.testing.assert_array_equal(second.state()[name], value)


@pytest.mark.parametrize("backend", [numba_backend, NumpyBackend])
@pytest.mark.parametrize("rule", [{}, {"clip_norm": 0.2}, {"ema": 0.9}, {"clip_norm": 0.2, "ema": 0.9}], ids=str)
@pytest.mark.parametrize(
    "optimizer", [("sgd", {"lr": 0.3, "momentum": 0.9}), ("adamw", {"lr": 0.01}), ("rmsprop", {"momentum": 0.5})],
    ids=lambda o: o[0],
)  # fmt: skip
def test_a_saved_state_goes_on_to_the_bit(optimizer, rule, backend):
    whole, begun, resumed = (_learner(backend, optimizer, **rule) for _ in range(3))
    losses = _train(whole)
    _train(begun, last=5)
    state = {name: value.copy() for name, value in begun.state().items()}
    resumed.load_state(state)
    np.testing.assert_array_equal(_train(resumed, first=5), losses[5:])
    assert whole.state().keys() == resumed.state().keys()
    for name, value in whole.state().items():
        np.testing.assert_array_equal(resumed.state()[name], value, name)


def test_a_state_without_its_averages_is_refused():
    with pytest.raises(DataError, match=re.escape("missing ['fc1.bias/ema', 'fc1.weight/ema'")):
        _learner(ema=0.9).load_state(_learner().state())


def test_parameters_that_are_not_trained_do_not_count():
    """Two spans of parameters with a gap between them: more pieces than stretches, and none of the gap's."""
    sizes = {"a": (24, 9), "b": (30, 24), "c": (5, 30)}
    parameters = {name: ops.parameter(name, shape) for name, shape in sizes.items()}
    x = ops.input_("x", (20, 9))
    h = x
    for p in parameters.values():
        h = ops.linear(h, p)
    losses = classify(h)
    optimizer = OPTIMIZERS["sgd"](lr=1.0)
    trained = [parameters["a"], parameters["c"]]
    updates = [
        Update(n, p, g, optimizer) for n, p, g in zip("ac", trained, gradients(losses, trained), strict=True)
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    values = {name: rng.uniform(-0.3, 0.3, shape) for name, shape in sizes.items()}
    feed = Feed(
        order=np.arange(20)[None],
        labels=rng.integers(0, 5, 20),
        scalars={"lr": np.ones(1), "ema_decay": np.array([0.5])},
        inputs=rng.uniform(-1, 1, (1, 20, 9)),
    )
    states = []
    for make in (numba_backend, reference):
        executable = make().compile([losses], parameters, updates, StepRule(clip_norm=0.01, ema=0.5))
        executable.write(values | {"a/ema": values["a"], "c/ema": values["c"]})
        executable.run(feed)
        states.append(executable.read())
    for name, value in states[1].items():
        np.testing.assert_allclose(states[0][name], value, rtol=1e-5, atol=1e-7, err_msg=name)
    moved = np.sqrt(sum(np.square(states[1][n] - values[n]).sum() for n in "abc"))
    assert moved == pytest.approx(0.01, rel=1e-3)


@dataclass(frozen=True)
class Lars(Optimizer):
    """v = momentum v + lr |p| / (|g| + 1e-9) g;  p -= v, of each parameter's own norms (You et al., 2017)."""

    lr: float = 0.02
    momentum: float = 0.9

    @property
    def rule(self):
        return lars


def lars(p, g, velocity, *, lr, momentum, parameter_norm, gradient_norm):
    velocity = momentum * velocity + lr * parameter_norm / (gradient_norm + np.float32(1e-9)) * g
    return p - velocity, velocity


@pytest.mark.parametrize("rule", [{}, {"clip_norm": 0.2, "ema": 0.9}], ids=str)
def test_a_rule_of_ones_own_takes_norms_of_each_parameter(rule):
    """Parameters that begin and end inside the stretches of an update, which are cut there for it."""
    found = []
    for make in (numba_backend, reference):
        model = MODELS["mlp"](input_shape=SHAPE, classes=5, hidden=(33, 7), dropout=0.25)
        learner = Learner(model, Lars(), make(), input_shape=SHAPE, batch_size=BATCH, seed=2, plan=PLAN, **rule)
        learner.load_weights({n: v + np.float32(0.01) for n, v in learner.weights().items()})  # a bias of norm 0 stays
        losses = _train(learner, last=5)
        found.append({"losses": losses, **learner.state()})
    for name, value in found[1].items():
        np.testing.assert_allclose(found[0][name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    assert np.abs(found[0]["fc1.bias/velocity"]).max() > 1e-4


def test_a_rule_that_names_what_nothing_gives_is_refused():
    class Lost(Lars):
        @property
        def rule(self):
            return lambda p, g, *, lr, speed: p

    with pytest.raises(ConfigError, match="optimizer Lost: nothing gives speed"):
        StepRule().stages(Lost())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip_norm": 0.0}, "trainer.clip_norm: expected a number above 0, got 0.0"),
        ({"clip_norm": float("inf")}, "trainer.clip_norm: expected a number above 0, got inf"),
        ({"clip_norm": float("nan")}, "trainer.clip_norm: expected a number above 0, got nan"),
        ({"ema": 1.0}, "trainer.ema: expected a number from 0 to below 1, got 1.0"),
        ({"ema": -0.1}, "trainer.ema: expected a number from 0 to below 1, got -0.1"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        _learner(**arguments)
