"""Winograd's F(4x4, 3x3): parity with the reference, error beside the direct kernel's, the same bits in any tiles."""

import numpy as np
import pytest
from harness import FixedTiles, numba_backend

from odyssey_core import ops
from odyssey_core.backends.numba import NumbaBackend
from odyssey_core.backends.numba.kernels import winograd
from odyssey_core.backends.numba.lower import Lowering
from odyssey_core.backends.numba.operands import Stage
from odyssey_core.backends.numba.winograd_tile import (
    SCALES,
    winograd_input,
    winograd_output,
    winograd_taps,
)
from odyssey_core.testing.graph import Graph, classify, reference, run

# Of the result's rms, the largest error. Lavin and Gray report about 2e-5 for sums of 256 channels; values drawn from a
# normal distribution reached 9e-5 at 512 channels.
BOUND = 3e-4


def _conv(n, channels=16, out=16, size=(6, 7), padding=1, bias=True, activation=lambda y: y, gated=False):
    """A convolution whose output and both gradients are compared; ``gated``: its input is a relu's output."""
    x, w, b = (
        ops.input_("x", (n, channels, *size)),
        ops.parameter("w", (out, channels, 3, 3)),
        ops.parameter("b", (out,)),
    )
    h = ops.relu(x) if gated else x
    y = activation(ops.conv2d(h, w, b if bias else None, padding=padding))
    # A squared output's gradient is the output: that of a softmax over so many values would be next to nothing.
    return Graph(classify(ops.global_avg_pool2d(y * y)), {"w": w, "b": b} if bias else {"w": w}, {"x": x}, [y])


def _in_a_row(n, size=(4, 3)):
    """Three convolutions of one tile each, the second of what the first gives, the third gated and added."""
    x = ops.input_("x", (n, 16, *size))
    w = {name: ops.parameter(name, (16, 16, 3, 3)) for name in "abc"}
    h = ops.conv2d(ops.conv2d(x, w["a"], padding=1), w["b"], padding=1)
    y = ops.conv2d(ops.relu(h), w["c"], padding=1) + h
    return Graph(classify(ops.global_avg_pool2d(y * y)), w, {"x": x}, [y, h])


def _beside(n, size=(9, 10)):
    """Two convolutions whose inputs' gradients are added to others: the one to what it is convolved from, and gated."""
    x = ops.input_("x", (n, 16, *size))
    w = {name: ops.parameter(name, (16, 16, 3, 3)) for name in "abc"}
    h = ops.relu(ops.conv2d(x, w["a"], padding=1))
    y = ops.conv2d(h, w["b"], padding=1) + h
    y = y + ops.tanh(ops.conv2d(y, w["c"], padding=1))
    return Graph(classify(ops.global_avg_pool2d(y * y)), w, {"x": x}, [y])


def _errors(graph, backend, alive):
    """For each value the (largest, rms) error, over the expected value's rms."""
    parameters, inputs = graph.values(seed=5)
    parameters = {name: value / 8 for name, value in parameters.items()}
    feed = graph.feed(inputs, alive=alive)
    expected, got = (run(each, graph, parameters, feed) for each in (reference(), backend))
    found = {}
    for name, value in expected.items():
        here = slice(alive if name == "losses" or name.startswith("output") else None)
        true = np.asarray(value[here], np.float64)
        apart, rms = np.asarray(got[name][here], np.float64) - true, np.sqrt((true**2).mean())
        found[name] = float(np.abs(apart).max() / rms), float(np.sqrt((apart**2).mean()) / rms)
    return found


def _rows(graph, workers=1):
    wanted = [graph.losses, *graph.differentiated()[1].values()]
    return Lowering(wanted, graph.parameters, [], {}, numba_backend().tiles, workers).rows


def _kernels(graph) -> set[str]:
    return {row.kernel.instruction.name for row in _rows(graph)}


CASES = {
    "sides of whole tiles": lambda n: _conv(n, size=(8, 4)),
    "odd sides": lambda n: _conv(n, size=(7, 15)),
    "a side of 31": lambda n: _conv(n, size=(31, 3), bias=False),
    "one tile, cut": lambda n: _conv(n, size=(3, 3)),
    "no padding": lambda n: _conv(n, size=(9, 8), padding=0),
    "padding 2": lambda n: _conv(n, size=(5, 6), padding=2),
    "unlike paddings": lambda n: _conv(n, size=(6, 6), padding=(2, 1)),
    "channels of no whole vector": lambda n: _conv(n, channels=17, out=35, size=(4, 8)),
    "relu": lambda n: _conv(n, activation=ops.relu, size=(7, 7)),
    "gated": lambda n: _conv(n, gated=True, size=(7, 8), activation=ops.relu),
    "one tile, gated": lambda n: _conv(n, gated=True, size=(4, 4), activation=ops.relu),
    "one behind the other": _in_a_row,
    "beside a shortcut": _beside,
    "beside a shortcut, one tile": lambda n: _beside(n, (4, 3)),
}


@pytest.mark.parametrize(("batch", "alive", "groups"), [(1, 1, 8), (17, 16, 8), (33, 33, 2), (40, 31, 8)], ids=str)
@pytest.mark.parametrize("case", CASES)
def test_winograd_equals_the_reference(case, batch, alive, groups):
    graph = CASES[case](batch)
    assert "winograd" in _kernels(graph)
    for name, (largest, _) in _errors(graph, numba_backend(groups), alive).items():
        assert largest <= BOUND, f"{name}: {largest:.1e} of the rms"


SHAPES = [(16, 32), (32, 16), (64, 8), (64, 16), (128, 8), (256, 4), (512, 4), (64, 15)]


@pytest.mark.parametrize(("channels", "side"), SHAPES)
def test_its_error_beside_the_direct_kernels(channels, side, monkeypatch):
    """Against float64, on positive inputs as behind a relu: about five times the direct error in rms, as published."""
    graph = _conv(16, channels, channels, (side, side), bias=False, gated=True)
    assert {"winograd"} == _kernels(graph) & {"winograd", "conv2d", "conv2d_grad_input"}
    ours = _errors(graph, numba_backend(), 16)
    monkeypatch.setattr(winograd, "takes", lambda *_: False)
    assert {"winograd"} != _kernels(graph) & {"winograd", "conv2d", "conv2d_grad_input"}
    direct = _errors(graph, numba_backend(), 16)
    for name in ("output 0", "d x"):
        (largest, rms), (_, of_direct) = ours[name], direct[name]
        assert of_direct < rms, name
        assert rms <= 12 * of_direct, f"{name}: {rms:.1e}, direct {of_direct:.1e}"
        assert rms <= 6e-6, name
        assert largest <= BOUND, name


def _bits(graph, backend, batch):
    parameters, inputs = graph.values(seed=5)
    return run(backend, graph, parameters, graph.feed(inputs, alive=batch))


@pytest.mark.parametrize("strip", [1, 3, 16])
@pytest.mark.parametrize("tiles", [None, FixedTiles(1, 1), FixedTiles(4, 3)], ids=["own", "4x1", "4x3"])
def test_strips_and_tiles_never_change_a_bit(strip, tiles, monkeypatch):
    graph = _conv(33, 17, 20, (9, 12), activation=ops.relu)
    expected = _bits(graph, numba_backend(), 33)
    monkeypatch.setattr(winograd, "STRIP", strip)
    for name, value in _bits(graph, numba_backend(8, tiles), 33).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("batch", "size", "sets"), [
    (16, (4, 4), {1: [], 2: []}),
    (80, (4, 4), {1: [2, 3], 2: [2, 3]}),
    (144, (3, 4), {1: [3, 3, 3], 2: [2, 2, 2, 3]}),
    (64, (8, 4), {1: [2, 2], 2: [2, 2]}),
    (48, (8, 8), {1: [], 2: []}),
    (32, (4, 4), {1: [2], 2: []}),
])  # fmt: skip
def test_blocks_of_few_tiles_share_a_strip(batch, size, sets, workers):
    """As many as have four tiles, and fewer where workers would get unlike numbers of sets."""
    tasks = [row.task.blocks for row in _rows(_conv(batch, size=size), workers) if row.stage is Stage.SLICE]
    found = [last - first for first, last in tasks]
    assert found == 2 * sets[workers]  # forward, and the input's gradient


@pytest.mark.parametrize("graph", [_in_a_row(80), _conv(80, 17, 35, (3, 4), activation=ops.relu, gated=True)])
def test_blocks_that_share_a_strip_never_change_a_bit(graph, monkeypatch):
    found = [_bits(graph, backend, 79) for backend in (numba_backend(), NumbaBackend(threads=2), numba_backend(2))]
    monkeypatch.setattr(winograd, "STRIP", 1)
    assert not any(row.stage is Stage.SLICE for row in _rows(graph))
    alone = _bits(graph, numba_backend(), 79), _bits(graph, numba_backend(2), 79)
    for got, expected in zip(found, (alone[0], *alone), strict=True):
        for name, value in got.items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.mark.parametrize("size", [(9, 10), (4, 3)])
def test_a_sum_in_the_store_never_changes_a_bit(size, monkeypatch):
    graph = _beside(80, size)
    found = _bits(graph, numba_backend(), 79)
    beside = [row.operands["beside"] for row in _rows(graph) if row.kernel.instruction.name == "winograd"]
    assert sum(x is not None for x in beside) >= 2
    monkeypatch.setattr(Lowering, "_fuses", lambda *_: False)
    for name, value in _bits(graph, numba_backend(), 79).items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)


def test_threads_never_change_a_bit():
    graph = _conv(33, 16, 48, (9, 12), activation=ops.relu)
    expected = _bits(graph, numba_backend(), 33)
    for name, value in _bits(graph, NumbaBackend(threads=2), 33).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


@pytest.mark.parametrize(
    ("settings", "taken"),
    [
        ({}, True),
        ({"size": (3, 3)}, True),
        ({"size": (2, 2)}, False),
        ({"size": (5, 5)}, False),
        ({"channels": 15}, False),
        ({"out": 15}, False),
        ({"padding": 3}, False),
    ],
    ids=str,
)
def test_the_shape_alone_decides(settings, taken):
    assert ("winograd" in _kernels(_conv(2, **settings))) is taken


@pytest.mark.parametrize("settings", [{"stride": 2}, {"groups": 2}, {"kernel": (3, 1)}], ids=str)
def test_other_convolutions_are_direct(settings):
    kernel = settings.pop("kernel", (3, 3))
    x, w = ops.input_("x", (2, 32, 8, 8)), ops.parameter("w", (32, 32 // settings.get("groups", 1), *kernel))
    y = ops.conv2d(x, w, padding=1, **settings)
    assert "winograd" not in _kernels(Graph(classify(y), {"w": w}, {"x": x}, [y]))


def test_the_transforms_make_a_convolution():
    """Of small whole numbers: only the scales of the taps are rounded."""
    rng = np.random.default_rng(0)
    d = rng.integers(-4, 5, (6, 6, 16)).astype(np.float32)
    g = rng.integers(-4, 5, (3, 3, 16)).astype(np.float32)
    expected = sum(g[k, m] * d[k : k + 4, m : m + 4] for k in range(3) for m in range(3))
    found = winograd_output(winograd_taps(g) * winograd_input(d))
    assert np.abs(found - expected).max() <= 1e-5 * np.sqrt((expected**2).mean())


def test_the_transforms_are_those_of_the_paper():
    """B^T, G and A^T of Lavin and Gray, section 4.2, from one unit vector after the other."""
    bt = [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0],
          [0, 4, 0, -5, 0, 1]]  # fmt: skip
    g = [[1 / 4, 0, 0], [-1 / 6] * 3, [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6],
         [0, 0, 1]]  # fmt: skip
    at = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
    for transform, matrix in ((winograd_input, bt), (winograd_taps, g), (winograd_output, at)):
        matrix = np.array(matrix)
        x = np.random.default_rng(1).integers(-3, 4, (matrix.shape[1],) * 2)
        tile = np.repeat(x[:, :, None], 16, 2).astype(np.float32)
        np.testing.assert_allclose(transform(tile)[:, :, 5], matrix @ x @ matrix.T, rtol=1e-6, atol=1e-6)
    assert SCALES[5, 5] == 1
