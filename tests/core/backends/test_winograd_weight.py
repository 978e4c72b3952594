"""The weight's gradient by tiles of 4 x 4 pixels: how far rounding carries it, in the sizes that nets have."""

import numpy as np
import pytest
from harness import numba_backend

from odyssey_core import ops
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.backends.numba.winograd_tile import winograd_adjoint, winograd_gradient, winograd_input
from odyssey_core.testing.graph import Graph, classify, reference, run

# Of the rms of the gradient: the largest error, and the rms of the errors. Breadth over four layer shapes reached 3e-5
# and 5e-6; summed directly, a sixth of that.
LARGEST, TYPICAL = 3e-4, 2e-5


@pytest.mark.parametrize(
    ("channels", "out", "side"), [(16, 16, 32), (32, 64, 16), (24, 40, 15), (64, 64, 8), (128, 128, 4)], ids=str
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


def test_the_transforms_give_what_each_tap_sees():
    """G^T [(B^T d B) . (A y A^T)] G of small integers, beside the sums written out."""
    rng = np.random.default_rng(0)
    d, y = rng.integers(-3, 4, (6, 6, LANES)), rng.integers(-3, 4, (4, 4, LANES))
    products = winograd_input(d.astype(np.float32)) * winograd_adjoint(y.astype(np.float32))
    expected = [[(d[k : k + 4, m : m + 4] * y).sum((0, 1)) for m in range(3)] for k in range(3)]
    np.testing.assert_allclose(winograd_gradient(products), expected, rtol=1e-5, atol=1e-4)
