"""Every update rule against PyTorch's float64 steps on softmax regression, in both backends."""

import json
import re
from dataclasses import MISSING, fields

import numpy as np
import pytest
from fixtures import formulas
from harness import FIXTURES, classify, numba_backend, reference, relative_error

from odyssey_core import ops
from odyssey_core.autodiff import gradients
from odyssey_core.backends.base import Feed
from odyssey_core.backends.numba.kernels.update import RULES
from odyssey_core.errors import ConfigError
from odyssey_core.optim import OPTIMIZERS, Update
from odyssey_core.optim.optimizer import power

RECORDS = json.loads((FIXTURES / "torch_optimizers.json").read_text())
BACKENDS = {"numpy": (reference, 1e-7), "numba": (numba_backend, 2e-6)}


def _build(record):
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in record["settings"].items()}
    return OPTIMIZERS[record["optimizer"]](**settings)


def test_every_optimizer_and_every_argument_has_a_fixture():
    for name in OPTIMIZERS:
        built = [_build(r) for r in RECORDS if r["optimizer"] == name]
        assert built, f"no fixture for {name}: add it to tests/fixtures/formulas.py"
        for field in fields(OPTIMIZERS[name]):
            default = field.default if field.default is not MISSING else None
            assert any(getattr(b, field.name) != default for b in built), f"{name}: no fixture moves {field.name}"


def test_every_optimizer_has_a_rule_in_numba():
    assert {cls.rule for cls in map(OPTIMIZERS.__getitem__, OPTIMIZERS)} == set(RULES)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("record", RECORDS, ids=lambda r: f"{r['optimizer']} {list(r['settings'])}")
def test_steps_equal_pytorchs(record, backend):
    make, tolerance = BACKENDS[backend]
    optimizer = _build(record)
    n, features = formulas.REGRESSION_X.shape
    x = ops.input_("x", (n, features))
    parameters = {"weight": ops.parameter("weight", (3, features)), "bias": ops.parameter("bias", (3,))}
    losses = classify(ops.linear(x, *parameters.values()))
    grads = gradients(losses, list(parameters.values()))
    updates = [Update(name, p, g, optimizer) for (name, p), g in zip(parameters.items(), grads, strict=True)]
    executable = make().compile([losses], parameters, updates)
    executable.write({"weight": formulas.REGRESSION_WEIGHT, "bias": formulas.REGRESSION_BIAS})
    for step, expected in enumerate(record["steps"]):
        feed = Feed(
            order=np.arange(n)[None],
            labels=formulas.REGRESSION_LABELS,
            scalars=np.array([optimizer.scalars(step, optimizer.lr)]),
            inputs=formulas.REGRESSION_X.reshape(1, n, -1),
        )
        executable.run(feed)
        state = executable.read()
        for name, value in expected.items():
            error = relative_error(state[name], value)
            assert error <= tolerance, f"step {step}: {name} is off by {error:.1e}"
    assert set(state) == {*parameters, *(f"{p}/{slot}" for p in parameters for slot in optimizer.slots())}


def test_power_is_exact_where_the_result_is():
    assert power(2.0, 10) == 1024.0
    assert power(0.5, 3) == 0.125
    assert power(0.9, 0) == 1.0
    assert power(0.999, 12345) == pytest.approx(0.999**12345, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("sgd", {"lr": -0.1}, "optim.lr: must not be negative, got -0.1"),
        ("sgd", {"nesterov": True}, "optim.nesterov: needs optim.momentum above 0, got 0"),
        ("sgd", {"momentum": 1.0}, "optim.momentum: must be below 1, got 1.0"),
        ("adam", {"betas": (0.9, 1.0)}, "optim.betas: expected two numbers below 1, got [0.9, 1.0]"),
        ("adamw", {"betas": (0.9,)}, "optim.betas: expected two numbers below 1, got [0.9]"),
        ("adam", {"betas": (-0.1, 0.9)}, "optim.betas: must not be negative, got (-0.1, 0.9)"),
        ("rmsprop", {"alpha": 1.0}, "optim: alpha and momentum must be below 1, got 1.0 and 0.0"),
        ("rmsprop", {"weight_decay": -1e-4}, "optim.weight_decay: must not be negative, got -0.0001"),
    ],
)
def test_wrong_arguments_are_named(name, arguments, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        OPTIMIZERS[name](**arguments)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value):
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        OPTIMIZERS["sgd"](lr=value)
