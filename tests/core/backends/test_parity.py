"""The numba backend against the float64 reference: forward values and gradients, odd shapes, partial batches, ties."""

import numpy as np
import pytest
from cases import CASES as OF_OPS
from harness import FixedTiles, numba_backend
from parity_cases import BOUNDS, CASES, SMALL, SPARSE

from odyssey_core import ops
from odyssey_core.autodiff import gradients
from odyssey_core.backends.base import HELD
from odyssey_core.backends.numba.kernels import weight_slices
from odyssey_core.backends.numba.kernels.sparse_conv import sparse_gradients
from odyssey_core.backends.numba.lower import RULES, Lowering
from odyssey_core.backends.numba.run import NumbaExecutable
from odyssey_core.backends.numpy import NumpyBackend
from odyssey_core.backends.numpy.functions import FUNCTIONS
from odyssey_core.errors import ConfigError, ShapeError
from odyssey_core.ops import OPS
from odyssey_core.optim import Update
from odyssey_core.tensor import Op
from odyssey_core.testing.graph import ALIKE, STILL, Graph, check_backend, classes_of, classify, reference, run

# (batch size, images in it, most groups): a batch of one, one lane empty, a second block with one image, three blocks
# over two groups, a whole block empty.
BATCHES = [(1, 1, 8), (15, 15, 8), (17, 16, 8), (33, 33, 2), (40, 31, 8)]


@pytest.fixture(autouse=True)
def stale(monkeypatch):
    """Memory of a step holds nothing but NaNs before it: a value that is read and never written shows."""
    made = NumbaExecutable.__init__

    def make(self, *arguments):
        made(self, *arguments)
        start = 0
        for use, size in self.program.memory.items():
            if use in ("sums and packed weights", "values that cross phases", "scratch"):
                self._memory[start : start + size] = np.nan
            start += size

    monkeypatch.setattr(NumbaExecutable, "__init__", make)


def test_every_op_has_a_case():
    covered = set().union(*(build(2).op_names() for build in (CASES | OF_OPS).values()))
    assert covered == set(OPS)


def test_both_backends_run_every_op():
    computed = {name for name, op in OPS.items() if op not in HELD}
    assert set(FUNCTIONS) == computed
    assert set(RULES) == computed | {"input"}


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (numba_backend, "backend=numba has no kernel for the operation cube; choose backend=numpy, which"),
        (reference, "backend=numpy has no function for the operation cube"),
    ],
)
def test_an_op_of_ones_own_without_an_implementation_is_refused(backend, message):
    cube = Op("cube", lambda x: x.shape)
    losses = classify(cube(ops.input_("x", (2, 3))))
    with pytest.raises(ConfigError, match=f"^{message}"):
        backend().require([losses])


@pytest.mark.parametrize(("batch", "alive"), [(1, 1), (17, 17), (33, 33), (17, 16), (40, 31)], ids=str)
@pytest.mark.parametrize("case", OF_OPS)
def test_the_references_two_precisions_agree(case, batch, alive):
    check_backend(OF_OPS[case](batch), NumpyBackend("float32"), alive)


def test_sparse_gradients_are_found():
    found = set()
    for name, build in CASES.items():
        graph = build(17)
        of_parameters, of_inputs = graph.differentiated()
        updates = [Update(n, graph.parameters[n], grad, STILL) for n, grad in of_parameters.items()]
        outputs = [graph.losses, *graph.outputs, *of_inputs.values()]
        if Lowering(outputs, graph.state, updates, {}, SMALL, 1).once(sparse_gradients):
            found.add(name)
    assert found == SPARSE


@pytest.mark.parametrize(("batch", "alive", "groups"), BATCHES, ids=str)
@pytest.mark.parametrize("case", CASES | OF_OPS)
def test_numba_equals_the_reference(case, batch, alive, groups):
    graph, alike = (CASES | OF_OPS)[case](batch), BOUNDS.get(case, ALIKE)
    check_backend(graph, numba_backend(groups, SMALL), alive, alike=alike)


@pytest.mark.parametrize(("batch", "alive", "groups"), BATCHES, ids=str)
@pytest.mark.parametrize("case", [*BOUNDS, "conv product", "conv product, pixels", "linear", "linear whole vectors"])
def test_sums_in_slices_equal_the_reference(case, batch, alive, groups, monkeypatch):
    """As those of large weights are made: over all blocks at once, one gradient for all groups."""
    monkeypatch.setattr(weight_slices, "LARGE", 1)
    check_backend(CASES[case](batch), numba_backend(groups, SMALL), alive, alike=BOUNDS.get(case, ALIKE))


def test_neither_slices_nor_their_workers_change_a_bit(monkeypatch):
    """From 33 channels come one slice, or two or three of whole vectors."""
    monkeypatch.setattr(weight_slices, "LARGE", 1)
    graph = CASES["conv by tiles of pixels"](40)
    parameters, inputs = graph.values(seed=5)
    feed, found = graph.feed(inputs, alive=31, classes=33), []
    for threads in (1, 2, 3):
        backend = numba_backend(8, SMALL)
        backend.threads = threads
        found.append(run(backend, graph, parameters, feed)["d w"])
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


@pytest.mark.parametrize(
    "case", ["conv stride 2, padding 1", "conv by tiles of pixels", "linear", "relu fused", "pooled", "pooled images"]
)
def test_with_the_tiles_of_this_machine(case):
    check_backend(CASES[case](17), numba_backend(), 17, alike=BOUNDS.get(case, ALIKE))


@pytest.mark.parametrize("tiles", [FixedTiles(3, 1), FixedTiles(4, 3)], ids=["3x1", "4x3"])
@pytest.mark.parametrize("case", ["relu fused", "conv by tiles of pixels", "conv product"])
def test_tiles_never_change_a_bit(tiles, case):
    graph = CASES[case](33)
    parameters, inputs = graph.values(seed=5)
    feed = graph.feed(inputs, alive=30, classes=classes_of(graph))
    one, other = (run(numba_backend(8, t), graph, parameters, feed) for t in (FixedTiles(1, 1), tiles))
    for name, value in one.items():
        np.testing.assert_array_equal(other[name], value, err_msg=name)


@pytest.mark.parametrize(("batch", "alive", "groups"), BATCHES, ids=str)
def test_the_variance_around_a_large_mean_keeps_its_digits(batch, alive, groups):
    """Values 1000 + 2 k: blocks' means are rounded by 3e-5, while the mean of the squares is by 0.03."""
    x, held = ops.input_("x", (batch, 2, 3, 5)), {name: ops.parameter(name, (2,)) for name in ("w", "b")}
    averages = {name: ops.buffer(name, (2,), ops.leaves.ZERO) for name in ("mean", "variance")}
    y = ops.batch_norm2d(x, *held.values(), *averages.values(), momentum=1.0)
    graph = Graph(classify(y), held, {"x": x}, [y], averages)
    values = 1000 + 2 * np.random.default_rng(0).integers(0, 4, x.shape)
    found = run(numba_backend(groups), graph, graph.values(1)[0], graph.feed({"x": values}, alive=alive))
    expected = values[:alive].swapaxes(0, 1).reshape(2, -1)
    np.testing.assert_allclose(found["after the step mean"], expected.mean(1), rtol=2e-7)
    np.testing.assert_allclose(found["after the step variance"], expected.var(1, ddof=1), rtol=1e-5)


@pytest.mark.parametrize(("kernel_size", "stride"), [(2, 2), (3, 2)], ids=str)
@pytest.mark.parametrize("alive", [16, 9])
def test_constant_backgrounds_tie(kernel_size, stride, alive):
    """Empty background and a bias that is not zero: most windows tie, and the first maximum alone is paid."""
    w, b = ops.parameter("w", (3, 1, 3, 3)), ops.parameter("b", (3,))
    x = ops.images((16, 1, 12, 12))
    h = ops.relu(ops.conv2d(x, w, b))
    y = ops.max_pool2d(h, kernel_size, stride)
    graph = Graph(classify(y), {"w": w, "b": b}, outputs=[h, y])
    parameters, _ = graph.values(seed=1)
    parameters["b"] = np.array([0.25, -0.25, 0.01])
    feed = graph.feed({}, alive=alive, classes=3)
    feed.pixels[...] = 0
    feed.pixels.reshape(-1, 12, 12)[:, 4:7, 5:7] = 200
    h_values = run(reference(), graph, parameters, feed)["output 0"][:alive]
    assert (h_values == np.float32(0.25)).mean() > 0.1  # a third of the maps, mostly background
    check_backend(graph, numba_backend(8, SMALL), alive, feed, parameters)


@pytest.mark.parametrize("backend", [reference, numba_backend], ids=["numpy", "numba"])
@pytest.mark.parametrize(
    ("values", "settings", "first"),
    [
        ([[5, 5, 1, 2], [5, 5, 2, 2]], {"kernel_size": 2}, [(0, 0), (0, 3)]),
        ([[0, 0, 0, 0], [0, 0, 0, 0]], {"kernel_size": 2}, [(0, 0), (0, 2)]),
        ([[3, 3, 3], [3, 3, 3]], {"kernel_size": 2, "stride": 1}, [(0, 0), (0, 1)]),
        ([[1, 4, 1], [1, 1, 1]], {"kernel_size": 2, "stride": 1}, [(0, 1), (0, 1)]),
        ([[-1, -2, -3], [-1, -1, -3]], {"kernel_size": 2, "stride": 1}, [(0, 0), (1, 1)]),
    ],
    ids=str,
)
def test_max_pool_pays_the_first_maximum_of_each_window(backend, values, settings, first):
    """``first`` was worked out by hand: the pixel that each window's gradient belongs to."""
    x = ops.input_("x", (1, 1, 2, len(values[0])))
    y = ops.max_pool2d(x, **settings)
    h = ops.flatten(y)
    losses = classify(h * h)
    grad_y, grad_x = gradients(losses, [y, x])
    graph = Graph(losses, inputs={"x": x})
    feed = graph.feed({"x": np.array(values, float)}, classes=2)
    row = backend().compile([losses, grad_y, grad_x], {}).run(feed)[0, 0]
    of_windows, of_pixels = row[1:3], row[3:].reshape(2, -1)
    expected = np.zeros_like(of_pixels)
    for place, grad in zip(first, of_windows, strict=True):
        expected[place] += grad
    np.testing.assert_allclose(of_pixels, expected, rtol=1e-6)


@pytest.mark.parametrize("far", [1e-2, 1e-5])
def test_the_squared_error_is_exact_where_it_is_small(far):
    """The square of what the logits lack, and not a difference of numbers near 1."""
    logits = ops.input_("x", (16, 3))
    losses = ops.squared_error(logits, ops.labels(16))
    graph = Graph(losses, inputs={"x": logits})
    noise = np.random.default_rng(0).uniform(-far, far, (16, 3))
    values = (np.eye(3)[0] + noise).astype(np.float32).astype(np.float64)
    feed = graph.feed({"x": values}, classes=1)
    nodes = [losses, *gradients(losses, [logits])]
    expected, got = (b.compile(nodes, {}).run(feed) for b in (reference(), numba_backend()))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("height", [0, 30, 1000])
def test_the_cross_entropy_does_not_depend_on_the_height_of_the_logits(height, label_smoothing):
    """A small loss of large logits keeps its digits: they are not added to it and taken off again."""
    logits = ops.input_("x", (16, 3))
    losses = ops.cross_entropy(logits, ops.labels(16), label_smoothing=label_smoothing)
    apart = np.random.default_rng(0).uniform(-3, -1, (16, 3))
    apart[:, 0] = 0
    values = (height + apart).astype(np.float32).astype(np.float64)
    feed = Graph(losses, inputs={"x": logits}).feed({"x": values}, classes=1)
    expected, got = (b.compile([losses], {}).run(feed) for b in (reference(), numba_backend()))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_gradients_without_their_losses():
    """A graph whose loss nobody asks for still bounds the labels by its classes."""
    x = ops.input_("x", (2, 3))
    losses = classify(x)
    graph = Graph(losses, inputs={"x": x})
    feed = graph.feed(graph.values(seed=0)[1], classes=3)
    grads = gradients(losses, [x])
    expected, got = (b.compile(grads, {}).run(feed) for b in (reference(), numba_backend()))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def _sum_of_parameters(n):
    x, v, w = ops.input_("x", (n, 5)), ops.parameter("v", (3, 5)), ops.parameter("w", (3, 5))
    return Graph(classify(ops.linear(x, v + w)), {"v": v, "w": w}, {"x": x})


def test_sum_of_parameters_is_right_or_refused():
    """What numba cannot run it must refuse, never compute from stale memory."""
    graph = _sum_of_parameters(17)
    try:
        check_backend(graph, numba_backend(8, SMALL), 17)
    except ShapeError as error:
        assert "cannot run add" in str(error)
