"""The weight's gradient by tiles of 4 x 4 pixels: how far rounding carries it, in the sizes that nets have."""

import numpy as np
import pytest
from harness import numba_backend

from odyssey_core import ops
from odyssey_core.backends.numba.kernels.winograd_transforms import adjoint_tile, input_tile, weight_tile
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.backends.numba.vector import splat
from odyssey_core.testing.graph import Graph, classify, reference, run

# Of the rms of the gradient: the largest error, and the rms of the errors. Breadth over four layer shapes reached 3e-5
# and 5e-6; summed directly, a sixth of that.
LARGEST, TYPICAL = 3e-4, 2e-5


@pytest.mark.parametrize(
    ("channels", "out", "side"), [(16, 16, 32), (32, 64, 16), (24, 48, 15), (64, 64, 8), (128, 128, 4)], ids=str
)
def test_the_error_against_float64_is_bounded(channels, out, side):
    """Inputs behind a relu, 33 images over three blocks."""
    x, w = ops.input_("x", (33, channels, side, side)), ops.parameter("w", (out, channels, 3, 3))
    y = ops.conv2d(ops.relu(x), w, padding=1)
    graph = Graph(classify(ops.global_avg_pool2d(y * y)), {"w": w}, {"x": x}, [])
    parameters, inputs = graph.values(seed=3)
    parameters = {name: value / channels for name, value in parameters.items()}
    feed = graph.feed(inputs, alive=33, classes=out)
    true, got = (run(each, graph, parameters, feed)["d w"].astype(float) for each in (reference(), numba_backend()))
    rms, error = np.sqrt((true**2).mean()), got - true
    assert np.abs(error).max() < LARGEST * rms
    assert np.sqrt((error**2).mean()) < TYPICAL * rms


def test_the_transforms_are_exact_on_small_integers():
    """G^T [(B^T d B) . (A y A^T)] G is what each tap sees of a patch, to the last bit where nothing is rounded."""
    rng, memory = np.random.default_rng(0), np.zeros(200 * LANES, np.float32)
    d, y = rng.integers(-3, 4, (6, 6)), rng.integers(-3, 4, (4, 4)) * 576
    for at, pixels in ((0, d), (40, y)):
        for k, value in enumerate(pixels.ravel()):
            memory[(at + k) * LANES : (at + k + 1) * LANES] = value
    input_tile(memory, 0, 0, 0, 6, 6, 190 * LANES, 60 * LANES, LANES)
    adjoint_tile(memory, 40 * LANES, LANES, 0, 0, 4, 4, 190 * LANES, 100 * LANES, LANES)
    memory[60 * LANES : 96 * LANES] *= memory[100 * LANES : 136 * LANES]
    weight_tile(memory, 60 * LANES, LANES, 140 * LANES, LANES)
    found = memory[140 * LANES : 149 * LANES].reshape(9, LANES)
    expected = [(d[k : k + 4, m : m + 4] * y).sum() for k in range(3) for m in range(3)]
    np.testing.assert_allclose(found, np.repeat(expected, LANES).reshape(9, LANES), rtol=3e-6, atol=1e-2)


def test_a_tile_reads_nothing_outside_its_image():
    """A border, and what is cut off at the end, are zeros whatever lies there."""
    memory = np.full(300 * LANES, np.nan, np.float32)
    memory[100 * LANES : 106 * LANES] = splat(np.float32(1))[0]
    memory[200 * LANES : 206 * LANES] = 0
    input_tile(memory, 100 * LANES, -1, -1, 2, 3, 200 * LANES, 0, LANES)
    assert np.isfinite(memory[: 36 * LANES]).all()
