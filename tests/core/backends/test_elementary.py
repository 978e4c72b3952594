"""exp, log, tanh and sigmoid of lane vectors against float64 NumPy; Philox on lanes; and the scratch allocator."""

from fractions import Fraction

import numpy as np
import pytest

from odyssey_core.arithmetic import fma
from odyssey_core.backends.numba import elementary
from odyssey_core.backends.numba import random as lanes
from odyssey_core.backends.numba.compile import address_of_function
from odyssey_core.backends.numba.memory import load, store
from odyssey_core.backends.numba.operands import Scratch
from odyssey_core.backends.numba.run import callable_at
from odyssey_core.backends.numba.step_feed import FEED, StepFeed, images
from odyssey_core.backends.numba.traced import INTEGER, LANES, MEMORY
from odyssey_core.backends.numba.vector import as_float
from odyssey_core.backends.numba.vector import fma as fused
from odyssey_core.random import philox


def _all_functions(x, positive, exps, logs, tanhs, sigmoids, length):
    for i in range(0, length, LANES):
        store(exps, i, elementary.exp(load(x, i)))
        store(tanhs, i, elementary.tanh(load(x, i)))
        store(sigmoids, i, elementary.sigmoid(load(x, i)))
        store(logs, i, elementary.log(load(positive, i)))


def _everything(*arrays):
    function = callable_at(address_of_function(_all_functions, (MEMORY,) * 6 + (INTEGER,)), 7)
    function(*[array.ctypes.data for array in arrays], len(arrays[0]))


@pytest.mark.parametrize("kind", ["ties", "normal", "any bits", "tiny"])
def test_a_multiply_add_rounds_once(kind):
    """Against exact rational arithmetic, and the machine's own instruction."""
    rng = np.random.default_rng(7)
    bits = rng.integers(0, 2**32, (3, 4096), np.uint32).view(np.float32)
    a, b, c = {
        "ties": (rng.integers(1, 2**12, (3, 4096)) * np.array([[1.0], [1.0], [2.0**24]])).astype(np.float32),
        "normal": rng.standard_normal((3, 4096), np.float32),
        "any bits": np.where(np.isfinite(bits), bits, 0),
        "tiny": rng.standard_normal((3, 4096), np.float32) * np.float32(1e-20),
    }[kind]
    out = np.empty(4096, np.float32)
    function = callable_at(address_of_function(_multiply_adds, (MEMORY,) * 4 + (INTEGER,)), 5)
    function(*[np.ascontiguousarray(x).ctypes.data for x in (a, b, c, out)], 4096)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(fma(a, b, c), out)
    for x, y, z, found in zip(a[:200], b[:200], c[:200], out[:200], strict=True):
        if np.isfinite(found) and kind in ("ties", "normal"):
            exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
            near = [float(np.nextafter(found, np.float32(side))) for side in (-np.inf, np.inf)]
            assert all(abs(exact - Fraction(float(found))) <= abs(exact - Fraction(other)) for other in near)


def _multiply_adds(a, b, c, out, length):
    for i in range(0, length, LANES):
        store(out, i, fused(load(a, i), load(b, i), load(c, i)))


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


def _draw(feed, out, element, epoch, stream, low, high):
    drawn = lanes.philox(element, images(feed, 0, 0), epoch, stream, low, high)
    for k in range(4):
        word = drawn[0] if k == 0 else drawn[1] if k == 1 else drawn[2] if k == 2 else drawn[3]
        store(out, k * LANES, as_float(word))


@pytest.mark.parametrize(
    ("element", "epoch", "stream", "seed"),
    [(0, 0, 0, 0), (2**32 - 1, 2**32 - 1, 2**32 - 1, 2**64 - 1), (0x243F6A88, 7, 0x03707344, 0x299F31D0A4093822)],
)
def test_lanes_draw_what_numpy_draws(element, epoch, stream, seed):
    order = np.array([[0, 1, 2**31, 2**32 - 1, 0x85A308D3, *range(10, 21)]], np.int64)
    out = np.empty(4 * LANES, np.float32)
    none = np.zeros((1, 1), np.uint8)
    feed = StepFeed(order, none, none, none, none[None], none[None], 0, 0, 0).table()
    function = callable_at(address_of_function(_draw, (FEED, MEMORY) + (INTEGER,) * 5), 7)
    function(feed.ctypes.data, out.ctypes.data, element, epoch, stream, seed & 0xFFFFFFFF, seed >> 32)
    expected = philox((element, order[0], epoch, stream), seed)
    np.testing.assert_array_equal(out.view(np.uint32).reshape(4, LANES), expected)


def test_scratch_is_never_given_twice():
    rng = np.random.default_rng(3)
    allocator, held = Scratch(), {}
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
    allocator = Scratch()
    allocator.take(32)
    last = allocator.take(16)
    allocator.release(last, 16)
    assert allocator.take(64) == last
    assert allocator.size == 96
