"""Workers in step, however few threads there are for them."""

import threading

import numpy as np
import pytest
from harness import numba_backend

from odyssey_core import ops
from odyssey_core.autodiff import gradients
from odyssey_core.backends.base import Feed
from odyssey_core.backends.numba import run
from odyssey_core.backends.numba.barrier import COUNTERS, counters, enter, finish, try_claim
from odyssey_core.backends.numba.compile import address_of_function
from odyssey_core.backends.numba.run import NumbaExecutable, callable_at
from odyssey_core.backends.numba.traced import INTEGER
from odyssey_core.models import MODELS
from odyssey_core.optim import PLAIN, SGD, Update

BATCH, STEPS = 80, 5


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_one_thread_runs_the_parts_of_all_workers(workers, monkeypatch):
    """A machine may run fewer threads than were started: nobody may wait for one whose turn never comes."""
    monkeypatch.setattr(run, "run_side_by_side", lambda function, workers, *arguments: function(*arguments, 0))
    model = MODELS["linear"](input_shape=(1, 4, 4), classes=3)
    losses = ops.cross_entropy(model(ops.images((BATCH, 1, 4, 4))), ops.labels(BATCH))
    parameters = model.parameters()
    grads = gradients(losses, list(parameters.values()))
    updates = [Update(n, p, g, SGD(momentum=0.9)) for (n, p), g in zip(parameters.items(), grads, strict=True)]
    rng = np.random.default_rng(0)
    feed = Feed(
        order=rng.integers(0, 50, (STEPS, BATCH)),
        pixels=rng.integers(0, 256, (50, 16), np.uint8),
        labels=rng.integers(0, 3, 50),
        scalars={"lr": np.full(STEPS, 0.1, np.float32)},
    )
    found = []
    for threads in (1, workers):
        executable = NumbaExecutable([losses], parameters, updates, PLAIN, {}, 8, threads, numba_backend().tiles)
        assert executable.program.workers == threads
        found.append((executable.run(feed), executable.read()))
    (losses, state), (other_losses, other_state) = found
    assert len(np.unique(losses[:, 0])) == STEPS
    np.testing.assert_array_equal(losses, other_losses)
    for name, value in state.items():
        np.testing.assert_array_equal(value, other_state[name])


def _claim(marks, worker, turn, taken):
    taken[0] = 1 if try_claim(marks, worker, turn) else 0


def _finish(marks):
    finish(marks)


def _enter(marks, workers, turn):
    enter(marks, workers, turn)


def test_a_part_is_claimed_once_and_a_turn_waits_for_the_one_before():
    marks, taken = counters(2), np.zeros(1, np.int64)
    at = marks.ctypes.data

    def call(function, arguments, *values):
        callable_at(address_of_function(function, arguments), len(arguments))(*values)

    def claim(worker, turn):
        call(_claim, (COUNTERS, INTEGER, INTEGER, COUNTERS), at, worker, turn, taken.ctypes.data)
        return bool(taken[0])

    assert claim(0, 0)
    assert not claim(0, 0)
    assert not claim(1, 1)
    assert claim(1, 0)
    call(_finish, (COUNTERS,), at)
    entered = threading.Event()
    waits = (COUNTERS, INTEGER, INTEGER)
    late = threading.Thread(target=lambda: (call(_enter, waits, at, 2, 1), entered.set()))
    call(_enter, waits, at, 2, 0)
    late.start()
    assert not entered.wait(0.05)
    call(_finish, (COUNTERS,), at)
    late.join(10)
    assert entered.is_set()
    assert claim(1, 1)
