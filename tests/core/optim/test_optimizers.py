"""Every update rule against PyTorch's float64 steps on softmax regression, in both backends."""

import json
import re
from dataclasses import MISSING, fields

import numpy as np
import pytest
from harness import FIXTURES
from regression import BACKENDS, follow, optimizer_of

from odyssey_core.errors import ConfigError
from odyssey_core.optim import OPTIMIZERS, PLAIN
from odyssey_core.optim.lars import lars
from odyssey_core.optim.optimizer import power

RECORDS = json.loads((FIXTURES / "torch_optimizers.json").read_text())


def test_every_optimizer_and_every_argument_has_a_fixture():
    for name in OPTIMIZERS:
        built = [optimizer_of(r) for r in RECORDS if r["optimizer"] == name]
        assert built, f"no fixture for {name}: add it to tests/fixtures/formulas.py"
        for field in fields(OPTIMIZERS[name]):
            if field.name == "groups":  # what they do is the same for all
                continue
            default = field.default if field.default is not MISSING else None
            assert any(getattr(b, field.name) != default for b in built), f"{name}: no fixture moves {field.name}"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("record", RECORDS, ids=lambda r: f"{r['optimizer']} {list(r['settings'])}")
def test_steps_equal_pytorchs(record, backend):
    state = follow(record, backend, PLAIN).read()
    optimizer = optimizer_of(record)
    trained = [p for p in ("weight", "bias") if not any(g.match == p and not g.lr for g in optimizer.groups)]
    assert set(state) == {"weight", "bias", *(f"{p}/{slot}" for p in trained for slot in optimizer.slots())}


def test_lars_moves_a_parameter_that_is_all_zero():
    """By its gradient alone: in proportion to its own norm it would stay."""
    numbers = {"momentum": 0.0, "weight_decay": 0.5, "trust": 0.001, "eps": 1e-8, "parameter_norm": 0.0}
    p, velocity = lars(np.zeros(2), np.array([3.0, 4.0]), np.zeros(2), lr=0.5, gradient_norm=5.0, **numbers)
    assert p.tolist() == [-1.5, -2.0]
    assert velocity.tolist() == [3.0, 4.0]


def test_power_is_exact_where_the_result_is():
    assert power(2.0, 10) == 1024.0
    assert power(0.5, 3) == 0.125
    assert power(0.9, 0) == 1.0
    assert power(0.999, 12345) == pytest.approx(0.999**12345, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("sgd", {"lr": -0.1}, "optim.lr: expected a number from 0 to 1e+38, got -0.1"),
        ("sgd", {"nesterov": True}, "optim.nesterov: needs optim.momentum above 0, got 0"),
        ("sgd", {"momentum": 1.0}, "optim.momentum: expected a number from 0 to below 1, got 1.0"),
        ("adam", {"betas": (0.9, 1.0)}, "optim.betas: expected a number from 0 to below 1, got (0.9, 1.0)"),
        ("adamw", {"betas": (0.9,)}, "optim.betas: expected 2 values, got (0.9,)"),
        ("adam", {"betas": (-0.1, 0.9)}, "optim.betas: expected a number from 0 to below 1, got (-0.1, 0.9)"),
        ("adam", {"eps": 0.0}, "optim.eps: expected a number from 1e-38 to 1e+38, got 0.0"),
        ("rmsprop", {"alpha": 1.0}, "optim.alpha: expected a number from 0 to below 1, got 1.0"),
        ("rmsprop", {"weight_decay": -1e-4}, "optim.weight_decay: expected a number from 0 to 1e+38, got -0.0001"),
    ],
)
def test_wrong_arguments_are_named(name, arguments, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        OPTIMIZERS[name](**arguments)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        OPTIMIZERS["sgd"](lr=value)
