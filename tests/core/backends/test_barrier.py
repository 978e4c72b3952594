"""Workers in step, however few threads there are for them."""

import threading
import time
from _thread import start_new_thread
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from harness import numba_backend

from odyssey_core import ops
from odyssey_core.autodiff import gradients
from odyssey_core.backends.base import Feed
from odyssey_core.backends.numba import run
from odyssey_core.backends.numba.barrier import COUNTERS, counters, enter, finish, try_claim
from odyssey_core.backends.numba.compile import address_of_function
from odyssey_core.backends.numba.graph import Graph
from odyssey_core.backends.numba.run import NumbaExecutable, callable_at, compiled, run_side_by_side
from odyssey_core.backends.numba.traced import INTEGER
from odyssey_core.models import MODELS
from odyssey_core.optim import PLAIN, SGD, Update

BATCH, STEPS = 80, 5


def _trained(threads: int) -> tuple[NumbaExecutable, Feed]:
    """A small network's training step, from weights that are all zero, and what to feed it with."""
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
    executable = NumbaExecutable(
        compiled(Graph([losses], parameters, updates, PLAIN, {}), 8, threads, numba_backend().tiles)
    )
    assert executable.program.workers == threads
    return executable, feed


def _after_one_call() -> dict[str, np.ndarray]:
    executable, feed = _trained(1)
    losses = executable.run(feed)
    assert len(np.unique(losses[:, 0])) == STEPS
    return {"losses": losses, **executable.read()}


def _assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() <= expected.keys()
    for name, value in found.items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.mark.parametrize("started", [0, 1])
@pytest.mark.parametrize("workers", [2, 3, 5])
def test_threads_that_the_machine_refuses_are_done_without(workers, started, monkeypatch):
    """A machine may run fewer threads than were asked for: nobody may wait for one whose turn never comes."""
    calls = []

    def start(*arguments):
        calls.append(arguments)
        if len(calls) > started:
            raise RuntimeError("can't start new thread")
        return start_new_thread(*arguments)

    monkeypatch.setattr(run, "start_new_thread", start)
    executable, feed = _trained(workers)
    _assert_same({"losses": executable.run(feed), **executable.read()}, _after_one_call())
    assert len(calls) == min(started + 1, workers - 1)


@pytest.mark.parametrize("started", [False, True])
def test_an_interrupted_call_is_whole_and_leaves_nobody_at_work(started, monkeypatch):
    def start(*arguments):
        if started:
            start_new_thread(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "start_new_thread", start)
    executable, feed = _trained(3)
    with pytest.raises(KeyboardInterrupt):
        executable.run(feed)
    _assert_same(executable.read(), _after_one_call())


def test_a_thread_that_comes_late_finds_its_memory_and_nothing_to_do(monkeypatch):
    late = []

    def start(*arguments):
        late.append(arguments)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(run, "start_new_thread", start)
    executable, feed = _trained(2)
    losses = executable.run(feed)
    ((function, arguments),) = late
    _, addresses, _, kept = arguments
    assert [*addresses[:-1]] == [array.ctypes.data for array in kept.arrays]
    assert any(
        np.array_equal(kept.feed.table(), array) for array in kept.arrays
    )  # what the addresses among them point to
    function(*arguments)
    _assert_same({"losses": losses, **executable.read()}, _after_one_call())


def test_threads_that_call_at_once_are_served_one_after_the_other(monkeypatch):
    """A server may ask one model from many threads; all calls of a program work in the same memory."""
    inside = [0]

    def call(*arguments):
        inside[0] += 1
        time.sleep(0.01)
        assert inside[0] == 1
        run_side_by_side(*arguments)
        inside[0] -= 1

    monkeypatch.setattr(run, "run_side_by_side", call)
    executable, feed = _trained(2)
    expected = executable.gradients(feed)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(executable.gradients, [feed] * 8):
            _assert_same(found, expected)


def test_a_call_returns_when_others_have_finished_what_they_claimed(monkeypatch):
    """Worker 1 has claimed its part of the only phase of a step and is not done with it."""
    marks = counters(2)
    marks[2, 0] = 1
    monkeypatch.setattr(run, "counters", lambda workers: marks)
    monkeypatch.setattr(run, "start_new_thread", lambda function, arguments: arguments[2].release())
    x = ops.input_("x", (32, 2))
    executable = NumbaExecutable(compiled(Graph([ops.sigmoid(x)], {}, [], PLAIN, {}), 8, 2, numba_backend().tiles))
    feed = Feed(order=np.zeros((1, 32), np.int64), inputs=np.zeros((1, 32, 2), np.float32))
    returned = threading.Event()
    call = threading.Thread(target=lambda: (executable.run(feed), returned.set()), daemon=True)
    call.start()
    assert not returned.wait(0.05)
    marks[0, 0] += 1
    call.join(10)
    assert returned.is_set()


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
