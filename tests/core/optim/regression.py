"""Update rules on softmax regression, step by step beside PyTorch's stored float64 values."""

import numpy as np
from fixtures import formulas
from harness import numba_backend

from odyssey_core import ops
from odyssey_core.autodiff import gradients
from odyssey_core.backends.base import Executable, Feed
from odyssey_core.optim import OPTIMIZERS, Optimizer, StepRule, Update
from odyssey_core.testing.graph import classify, reference, relative_error

BACKENDS = {"numpy": (reference, 1e-7), "numba": (numba_backend, 2e-6)}


def optimizer_of(record: dict) -> Optimizer:
    """The optimizer of a fixture."""
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in record["settings"].items()}
    return OPTIMIZERS[record["optimizer"]](**settings)


def follow(record: dict, backend: str, rule: StepRule) -> Executable:
    """Takes the steps of a fixture and holds the parameters to it after each."""
    make, tolerance = BACKENDS[backend]
    optimizer = optimizer_of(record)
    n, features = formulas.REGRESSION_X.shape
    x = ops.input_("x", (n, features))
    parameters = {"weight": ops.parameter("weight", (3, features)), "bias": ops.parameter("bias", (3,))}
    losses = classify(ops.linear(x, *parameters.values()))
    groups = optimizer.updates(parameters)
    grads = gradients(losses, [parameters[name] for name in groups])
    updates = [
        Update(name, parameters[name], grad, optimizer, group)
        for (name, group), grad in zip(groups.items(), grads, strict=True)
    ]
    executable = make().compile([losses], parameters, updates, rule)
    executable.write({"weight": formulas.REGRESSION_WEIGHT, "bias": formulas.REGRESSION_BIAS})
    for step, expected in enumerate(record["steps"]):
        feed = Feed(
            order=np.arange(n)[None],
            labels=formulas.REGRESSION_LABELS,
            scalars=rule.numbers(optimizer, step, [optimizer.lr]),
            inputs=formulas.REGRESSION_X.reshape(1, n, -1),
        )
        executable.run(feed)
        state = executable.read()
        for name, value in expected.items():
            error = relative_error(state[name], value)
            assert error <= tolerance, f"step {step}: {name} is off by {error:.1e}"
    return executable
