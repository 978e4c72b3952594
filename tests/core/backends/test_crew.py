"""Workers in step, however few threads there are for them."""

import threading

import numpy as np
import pytest
from harness import numba_backend

from odyssey_core import ops
from odyssey_core.autodiff import gradients
from odyssey_core.backends.base import Feed
from odyssey_core.backends.numba import execute
from odyssey_core.backends.numba.crew import claim, enter, finish, marks_of
from odyssey_core.backends.numba.execute import NumbaExecutable, run_serial
from odyssey_core.models import MODELS
from odyssey_core.optim import PLAIN, SGD, Update

BATCH, STEPS = 80, 5


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_one_thread_runs_the_parts_of_all_workers(workers, monkeypatch):
    """A threading layer may start fewer threads than it was asked for: nobody may wait for one that never comes."""
    monkeypatch.setattr(execute, "set_num_threads", lambda threads: None)
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
        scalars=np.full((STEPS, 1), 0.1, np.float32),
    )
    found = []
    for threads in (1, workers):
        executable = NumbaExecutable([losses], parameters, updates, PLAIN, 8, threads, numba_backend().tiles)
        assert executable.program.workers == threads
        executable._run = run_serial
        found.append((executable.run(feed), executable.read()))
    (losses, state), (other_losses, other_state) = found
    assert len(np.unique(losses[:, 0])) == STEPS
    np.testing.assert_array_equal(losses, other_losses)
    for name, value in state.items():
        np.testing.assert_array_equal(value, other_state[name])


def test_a_part_is_claimed_once_and_a_turn_waits_for_the_one_before():
    marks = marks_of(2)
    assert claim(marks, 0, 0)
    assert not claim(marks, 0, 0)
    assert not claim(marks, 1, 1)
    assert claim(marks, 1, 0)
    finish(marks)
    entered = threading.Event()
    late = threading.Thread(target=lambda: (enter(marks, 1), entered.set()))
    enter(marks, 0)
    late.start()
    assert not entered.wait(0.05)
    finish(marks)
    late.join(10)
    assert entered.is_set()
    assert claim(marks, 1, 1)
