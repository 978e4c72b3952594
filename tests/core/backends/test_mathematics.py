"""exp, log, tanh and sigmoid of lane vectors against float64 NumPy; Philox on lanes; and the scratch allocator."""

import numpy as np
import pytest
from numba import njit

from odyssey_core.backends.numba import mathematics
from odyssey_core.backends.numba import random as lanes
from odyssey_core.backends.numba.arena import ScratchAllocator
from odyssey_core.backends.numba.simd import LANES, load, store, u_as_float
from odyssey_core.random import philox


@njit
def _everything(x, positive, exps, logs, tanhs, sigmoids):
    for i in range(0, len(x), LANES):
        store(exps, i, mathematics.exp(load(x, i)))
        store(tanhs, i, mathematics.tanh(load(x, i)))
        store(sigmoids, i, mathematics.sigmoid(load(x, i)))
        store(logs, i, mathematics.log(load(positive, i)))


def _spread(low, high):
    """Numbers all over the range, its ends and those around zero included."""
    rng = np.random.default_rng(0)
    small = 10.0 ** rng.uniform(-37, 0, 4096)
    x = [rng.uniform(low, high, 60_000), small, -small if low < 0 else small, np.linspace(low, high, 4096)]
    x = np.concatenate([*x, [low, high, 1.0, 0.625, 0.6250001, 0.5, 0.70710678, np.float32(0.1), 2.0, 3.0]])
    return np.resize(x.astype(np.float32), -(-len(x) // LANES) * LANES)


@pytest.fixture(scope="module")
def computed():
    x = _spread(-87, 88)
    rng = np.random.default_rng(1)
    positive = np.exp(rng.uniform(np.log(1.2e-38), np.log(3.4e38), len(x))).astype(np.float32)
    positive[:4000] = np.linspace(0.5, 2, 4000)
    positive[4000] = 1
    out = [np.empty_like(x) for _ in range(4)]
    _everything(x, positive, *out)
    named = dict(zip(("exp", "log", "tanh", "sigmoid"), out, strict=True))
    return x.astype(np.float64), positive.astype(np.float64), named


def _relative(got, expected):
    return np.abs(got - expected) / np.maximum(np.abs(expected), np.finfo(np.float32).tiny)


def test_exp(computed):
    x, _, out = computed
    assert _relative(out["exp"], np.exp(x)).max() < 3e-7


def test_log(computed):
    _, positive, out = computed
    expected = np.log(positive)
    assert np.all(out["log"][positive == 1] == 0)
    assert np.abs(out["log"] - expected).max() / np.abs(expected).max() < 1e-7
    near = (positive > 0.4) & (positive < 2.5) & (positive != 1)
    assert _relative(out["log"], expected)[near].max() < 2e-7


def test_tanh(computed):
    x, _, out = computed
    assert _relative(out["tanh"], np.tanh(x)).max() < 3e-7
    np.testing.assert_array_equal(np.sign(out["tanh"]), np.sign(x))


def test_sigmoid(computed):
    x, _, out = computed
    expected = 1 / (1 + np.exp(-x))
    assert _relative(out["sigmoid"], expected)[x > -80].max() < 4e-7
    assert out["sigmoid"][x < -80].max() < 1e-34


def test_ends_of_the_range_stay_finite_and_nan_stays_nan():
    x = np.array([np.inf, -np.inf, np.nan, 1e30, -1e30, 89, -88, 0] * 2, np.float32)
    out = [np.empty_like(x) for _ in range(4)]
    _everything(x, np.ones_like(x), *out)
    exp, _, tanh, sigmoid = out
    assert np.isfinite(exp[[0, 1, 3, 4, 5, 6]]).all()
    assert exp[7] == 1
    np.testing.assert_array_equal(tanh[[0, 1, 3, 4, 7]], [1, -1, 1, -1, 0])
    np.testing.assert_allclose(sigmoid[[0, 3, 7]], [1, 1, 0.5])
    assert sigmoid[4] < 1e-37
    assert np.isnan([exp[2], tanh[2], sigmoid[2]]).all()


@njit
def _draw(element, order, epoch, stream, key_0, key_1, out):
    images = lanes.seeded(order, 0, 0)
    drawn = lanes.philox(np.uint32(element), images, np.uint32(epoch), np.uint32(stream), key_0, key_1)
    for k in range(4):
        word = drawn[0] if k == 0 else drawn[1] if k == 1 else drawn[2] if k == 2 else drawn[3]
        store(out, k * LANES, u_as_float(word))


@pytest.mark.parametrize(
    ("element", "epoch", "stream", "seed"),
    [(0, 0, 0, 0), (2**32 - 1, 2**32 - 1, 2**32 - 1, 2**64 - 1), (0x243F6A88, 7, 0x03707344, 0x299F31D0A4093822)],
)
def test_lanes_draw_what_numpy_draws(element, epoch, stream, seed):
    order = np.array([[0, 1, 2**31, 2**32 - 1, 0x85A308D3, *range(10, 21)]], np.int64)
    out = np.empty(4 * LANES, np.float32)
    _draw(element, order, epoch, stream, seed & 0xFFFFFFFF, seed >> 32, out)
    expected = philox((element, order[0], epoch, stream), seed)
    np.testing.assert_array_equal(out.view(np.uint32).reshape(4, LANES), expected)


def test_scratch_is_never_given_twice():
    rng = np.random.default_rng(3)
    allocator, held = ScratchAllocator(), {}
    owner = np.zeros(200_000, np.int32)
    for turn in range(1, 3000):
        if held and rng.random() < 0.48:
            start = list(held)[rng.integers(len(held))]
            size, number = held.pop(start)
            assert (owner[start : start + size] == number).all(), "somebody else was given this stretch"
            owner[start : start + size] = 0
            allocator.release(start, size)
        else:
            size = int(rng.integers(1, 300))
            start = allocator.take(size)
            assert start % LANES == 0
            assert start + size <= allocator.size
            assert not owner[start : start + size].any()
            owner[start : start + size] = turn
            held[start] = size, turn
    for start, (size, _) in held.items():
        allocator.release(start, size)
    whole = allocator.size
    assert allocator.take(whole) == 0, "what was given back did not grow together"
    assert allocator.size == whole


def test_a_free_end_grows_instead_of_being_left():
    allocator = ScratchAllocator()
    allocator.take(32)
    last = allocator.take(16)
    allocator.release(last, 16)
    assert allocator.take(64) == last
    assert allocator.size == 96
