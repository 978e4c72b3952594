"""The numba backend against the float64 reference: forward values and gradients, odd shapes, partial batches, ties."""

import numpy as np
import pytest
from cases import CASES as OF_OPS
from harness import FixedTiles, numba_backend

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

SMALL = FixedTiles(2, 2)


def _conv(n, shape=(3, 7, 6), weight=(5, 3, 3, 2), stride=1, padding=0, bias=True, activation=lambda y: y):
    x, w, b = ops.input_("x", (n, *shape)), ops.parameter("w", weight), ops.parameter("b", weight[:1])
    y = ops.conv2d(x, w, b if bias else None, stride=stride, padding=padding)
    return Graph(classify(activation(y)), {"w": w, "b": b} if bias else {"w": w}, {"x": x}, [y])


def _gated(n, weight, **settings):
    """A convolution between two relus, of an input that wants a gradient."""
    x, w, b = ops.input_("x", (n, 3, 6, 4)), ops.parameter("w", weight), ops.parameter("b", weight[:1])
    y = ops.relu(ops.conv2d(ops.relu(x), w, b, **settings))
    return Graph(classify(y), {"w": w, "b": b}, {"x": x}, [y])


def _linear(n, features=19, out=5, bias=True, activation=lambda y: y, before=lambda x: x):
    x, w, b = ops.input_("x", (n, features)), ops.parameter("w", (out, features)), ops.parameter("b", (out,))
    y = ops.linear(before(x), w, b if bias else None)
    return Graph(classify(activation(y)), {"w": w, "b": b} if bias else {"w": w}, {"x": x}, [y])


def _pool(n, op, shape, **settings):
    x = ops.input_("x", (n, *shape))
    y = op(x, **settings)
    return Graph(classify(y), inputs={"x": x}, outputs=[y])


def _elementwise(n, op, shape=(3, 2, 3)):
    x = ops.input_("x", (n, *shape))
    y = op(x)
    return Graph(classify(y), inputs={"x": x}, outputs=[y])


def _pair(n, op):
    a, b = ops.input_("a", (n, 7)), ops.input_("b", (n, 7))
    y = op(a, b)
    return Graph(classify(y), inputs={"a": a, "b": b}, outputs=[y])


def _images(n):
    """Pixels whose number is no multiple of 16, normalised; a relu'd, pooled convolution on them."""
    w, b = ops.parameter("w", (3, 1, 2, 2)), ops.parameter("b", (3,))
    x = ops.images((n, 1, 7, 5), mean=0.2, std=0.7)
    y = ops.max_pool2d(ops.relu(ops.conv2d(x, w, b)), 2)
    return Graph(classify(y), {"w": w, "b": b}, outputs=[x, y])


def _colour_images(n):
    """Channels that share a mean and a deviation, and one that has its own; its pixels begin at no multiple of 16."""
    w, b = ops.parameter("w", (3, 3, 2, 2)), ops.parameter("b", (3,))
    x = ops.images((n, 3, 7, 5), mean=(0.5, 0.5, 0.2), std=(0.3, 0.3, 0.7))
    y = ops.relu(ops.conv2d(x, w, b))
    return Graph(classify(y), {"w": w, "b": b}, outputs=[x, y])


def _relu_fused_in_both_directions(n):
    """conv-relu-pool-conv-relu-linear: relu joins its producers, its derivative joins pool, conv and linear."""
    x, v, w, u = (
        ops.input_("x", (n, 2, 8, 8)),
        ops.parameter("v", (3, 2, 3, 3)),
        ops.parameter("w", (4, 3, 2, 2)),
        ops.parameter("u", (5, 16)),
    )
    h = ops.max_pool2d(ops.relu(ops.conv2d(x, v)), 2)
    h = ops.relu(ops.conv2d(ops.relu(h), w))
    h = ops.relu(ops.linear(ops.flatten(h), u))
    return Graph(classify(h, 0.2), {"v": v, "w": w, "u": u}, {"x": x})


def _pooled(n, shape, weight, size=2, pool_stride=None, activation=ops.relu, **settings):
    """A convolution whose output is pooled, of an input that wants a gradient: sparse where few pixels are paid."""
    x, w, b = ops.input_("x", (n, *shape)), ops.parameter("w", weight), ops.parameter("b", weight[:1])
    y = ops.max_pool2d(activation(ops.conv2d(x, w, b, **settings)), size, pool_stride)
    return Graph(classify(y), {"w": w, "b": b}, {"x": x}, [y])


def _pooled_between(n):
    """Gated on both sides: the pool behind the convolution, and a relu before it."""
    x, v, w = ops.input_("x", (n, 2, 7, 6)), ops.parameter("v", (9, 2, 2, 2)), ops.parameter("w", (5, 9, 3, 2))
    h = ops.relu(ops.conv2d(x, v))
    y = ops.max_pool2d(ops.relu(ops.conv2d(h, w, padding=1)), 2)
    return Graph(classify(y), {"v": v, "w": w}, {"x": x}, [y])


def _pooled_sum(n, channels=2, kernel=3):
    """One pool over two convolutions, of which both read its gradient."""
    x, z = ops.input_("x", (n, 2, 7, 7)), ops.input_("z", (n, channels, 7, 7))
    v, w = ops.parameter("v", (3, 2, 3, 3)), ops.parameter("w", (3, channels, kernel, kernel))
    y = ops.max_pool2d(ops.conv2d(x, v) + ops.conv2d(z, w, padding=(kernel - 3) // 2), 2)
    return Graph(classify(y), {"v": v, "w": w}, {"x": x, "z": z}, [y])


def _pooled_images(n, weight=(3, 1, 2, 9), **settings):
    """One channel that wants no gradient: vectors along the row, more than one to a kernel's."""
    w, b = ops.parameter("w", weight), ops.parameter("b", weight[:1])
    y = ops.max_pool2d(ops.relu(ops.conv2d(ops.images((n, 1, 9, 13)), w, b, **settings)), 2)
    return Graph(classify(y), {"w": w, "b": b}, outputs=[y])


def _relu_not_fusable(n):
    """Each relu's input, or the derivative's, is used twice."""
    x, w = ops.input_("x", (n, 5)), ops.parameter("w", (5, 5))
    y = ops.linear(x, w)
    h = ops.relu(y)
    return Graph(classify(h * y + ops.relu(y)), {"w": w}, {"x": x}, [h, y])


def _residual(n):
    x, w, b = ops.input_("x", (n, 2, 5, 4)), ops.parameter("w", (2, 2, 3, 3)), ops.parameter("b", (2,))
    h = ops.relu(ops.conv2d(x, w, b, padding=1))
    h = h + x
    return Graph(classify(h + ops.tanh(ops.conv2d(h, w, b, padding=1))), {"w": w, "b": b}, {"x": x}, [h])


def _norms_added(n):
    """Two batch norms that are added, and one added to what is no norm; each sum behind a relu."""
    x, z, parameters, buffers, normal = ops.input_("x", (n, 2, 3, 4)), ops.input_("z", (n, 2, 3, 4)), {}, {}, []
    for i, of in enumerate((x, z, z)):
        own = {f"{name}{i}": ops.parameter(name, (2,)) for name in "wb"}
        averages = {f"{name}{i}": ops.buffer(name, (2,), ops.leaves.ZERO) for name in ("mean", "variance")}
        normal.append(ops.batch_norm2d(of, *own.values(), *averages.values()))
        parameters |= own
        buffers |= averages
    y = ops.relu(ops.relu(normal[0] + normal[1]) + normal[2]) * ops.relu(x + z)
    return Graph(classify(y), parameters, {"x": x, "z": z}, [y], buffers)


def _moved(n):
    """Views of images, which have no gradient, in both directions and mirrored."""
    x, w = ops.images((n, 2, 4, 5)), ops.parameter("w", (3, 2, 2, 3))
    views = ops.shift2d(x, 1, -2) + ops.shift2d(x, -3, 4, mirror=True)
    return Graph(classify(ops.conv2d(views, w)), {"w": w}, outputs=[views])


def _shared(n):
    x, w, b = ops.input_("x", (n, 5)), ops.parameter("w", (5, 5)), ops.parameter("b", (5,))
    h = x
    for _ in range(3):
        h = ops.sigmoid(ops.linear(h, w, b))
    return Graph(classify(h), {"w": w, "b": b}, {"x": x}, [h])


def _two_losses(n):
    x, w = ops.input_("x", (n, 5)), ops.parameter("w", (3, 5))
    h = ops.dropout(ops.linear(x, w), 0.3, stream=9)
    return Graph(classify(h) + classify(ops.tanh(h), 0.1), {"w": w}, {"x": x}, [h])


def _reshaped_twice(n):
    """One stretch of memory under two shapes, both needed later."""
    x, w = ops.input_("x", (n, 2, 3, 2)), ops.parameter("w", (12, 12))
    y = ops.tanh(x)
    f = ops.flatten(y)
    h = ops.linear(f, w) * f
    return Graph(classify(ops.flatten(ops.relu(y)) + h), {"w": w}, {"x": x}, [y])


CASES = {
    "conv": lambda n: _conv(n),
    "conv stride 2, padding 1": lambda n: _conv(n, stride=2, padding=1),
    "conv stride 3, leaves a border unread": lambda n: _conv(n, shape=(2, 9, 8), weight=(3, 2, 2, 2), stride=3),
    "conv padding 2, one output": lambda n: _conv(n, shape=(1, 3, 9), weight=(1, 1, 3, 3), padding=2, bias=False),
    "conv padding wider than the kernel": lambda n: _conv(n, shape=(2, 2, 3), weight=(3, 2, 2, 2), padding=3),
    "conv kernel as large as the input": lambda n: _conv(n, shape=(2, 3, 2), weight=(3, 2, 3, 2), bias=False),
    "conv many channels": lambda n: _conv(n, shape=(2, 6, 4), weight=(13, 2, 3, 2), stride=2, padding=1),
    "conv whole vectors of channels": lambda n: _conv(n, shape=(1, 4, 3), weight=(32, 1, 2, 2), activation=ops.relu),
    "conv 1x1": lambda n: _conv(n, shape=(3, 4, 1), weight=(2, 3, 1, 1)),
    "conv 1x1, stride 2, gated": lambda n: _gated(n, (5, 3, 1, 1), stride=2),
    "conv 1x1, gated": lambda n: _gated(n, (5, 3, 1, 1)),
    "conv 1x1, padding": lambda n: _conv(n, shape=(3, 4, 3), weight=(2, 3, 1, 1), padding=1),
    "conv depthwise, gated": lambda n: _gated(n, (3, 1, 3, 2), padding=1, groups=3),
    "conv depthwise, stride 2, leaves a border unread": lambda n: _gated(n, (3, 1, 3, 3), stride=2, groups=3),
    "conv depthwise, padding as wide as the kernel": lambda n: _gated(n, (3, 1, 2, 2), padding=2, groups=3),
    "conv more pixels than a chunk": lambda n: _conv(n, shape=(1, 15, 17), weight=(2, 1, 3, 3), padding=1),
    "conv by tiles of pixels": lambda n: _conv(n, shape=(17, 5, 9), weight=(33, 17, 3, 3), padding=1),
    "conv by tiles, two of them, of 3x3 pixels": lambda n: _conv(n, shape=(16, 3, 5), weight=(16, 16, 3, 3), padding=1),
    "conv product": lambda n: _conv(n, shape=(17, 7, 6), weight=(16, 17, 3, 2), stride=2, padding=2, bias=False),
    "conv product, pixels": lambda n: _conv(n, shape=(16, 5, 3), weight=(46, 16, 1, 1)),
    "conv relu": lambda n: _conv(n, activation=ops.relu),
    "linear": lambda n: _linear(n),
    "linear narrow": lambda n: _linear(n, features=1, out=3, bias=False),
    "linear whole vectors": lambda n: _linear(n, features=32, out=3),
    "linear, rows that no cache holds": lambda n: _linear(n, features=2048, out=18, before=ops.relu),
    "linear relu": lambda n: _linear(n, features=17, activation=ops.relu),
    "max-pool": lambda n: _pool(n, ops.max_pool2d, (3, 6, 4), kernel_size=2),
    "max-pool that leaves a border": lambda n: _pool(n, ops.max_pool2d, (2, 7, 5), kernel_size=2),
    "max-pool overlapping": lambda n: _pool(n, ops.max_pool2d, (2, 7, 5), kernel_size=3, stride=2),
    "max-pool padded, a border in no window": lambda n: _pool(n, ops.max_pool2d, (2, 6, 9), kernel_size=3, padding=1),
    "max-pool with gaps": lambda n: _pool(n, ops.max_pool2d, (2, 8, 5), kernel_size=2, stride=3),
    "avg-pool": lambda n: _pool(n, ops.avg_pool2d, (3, 6, 5), kernel_size=2),
    "avg-pool overlapping": lambda n: _pool(n, ops.avg_pool2d, (2, 7, 5), kernel_size=3, stride=1),
    "relu": lambda n: _elementwise(n, ops.relu),
    "tanh": lambda n: _elementwise(n, ops.tanh),
    "sigmoid": lambda n: _elementwise(n, ops.sigmoid),
    "dropout": lambda n: _elementwise(n, lambda x: ops.dropout(x, 0.4, stream=2**32 - 5)),
    "dropout of nothing": lambda n: _elementwise(n, lambda x: ops.dropout(x, 0.0, stream=1), (5,)),
    "add": lambda n: _pair(n, ops.add),
    "multiply": lambda n: _pair(n, ops.multiply),
    "images": _images,
    "images in colour": _colour_images,
    "pooled": lambda n: _pooled(n, (3, 8, 7), (5, 3, 3, 2)),
    "pooled, one channel": lambda n: _pooled(n, (1, 9, 8), (4, 1, 3, 3)),
    "pooled, many channels": lambda n: _pooled(n, (17, 6, 6), (9, 17, 3, 3)),
    "pooled, Winograd's": lambda n: _pooled(n, (16, 8, 8), (16, 16, 3, 3), padding=1),
    "pooled, padding and stride": lambda n: _pooled(n, (3, 9, 8), (5, 3, 3, 2), stride=2, padding=2),
    "pooled by threes, a border left": lambda n: _pooled(n, (2, 9, 12), (3, 2, 2, 3), size=3),
    "pooled with gaps": lambda n: _pooled(n, (2, 9, 9), (3, 2, 2, 2), pool_stride=3),
    "pooled without relu": lambda n: _pooled(n, (2, 7, 7), (3, 2, 2, 2), activation=lambda y: y),
    "pooled behind tanh": lambda n: _pooled(n, (2, 7, 7), (3, 2, 2, 2), activation=ops.tanh),
    "pooled between": _pooled_between,
    "pooled sum": _pooled_sum,
    "pooled sum of unlike kernels": lambda n: _pooled_sum(n, kernel=5),
    "pooled sum of unlike channels": lambda n: _pooled_sum(n, channels=9),
    "pooled images": _pooled_images,
    "pooled images, padding and stride": lambda n: _pooled_images(n, (2, 1, 3, 3), padding=1, stride=2),
    "pooled overlapping": lambda n: _pooled(n, (2, 9, 9), (3, 2, 2, 2), size=3, pool_stride=2),
    "relu fused": _relu_fused_in_both_directions,
    "relu not fusable": _relu_not_fusable,
    "residual": _residual,
    "norms added": _norms_added,
    "moved": _moved,
    "shared weight": _shared,
    "two losses": _two_losses,
    "two shapes of one value": _reshaped_twice,
}
# Winograd's transforms of 4 x 4 pixels cost a digit; measured 1.5e-5 at most.
BOUNDS = {name: 3e-5 for name in CASES if "tiles" in name}
# Of these the gradient of a max-pool is lowered to lists of what is not zero.
SPARSE = {
    "images", "relu fused", "pooled", "pooled, one channel", "pooled, many channels", "pooled, padding and stride",
    "pooled by threes, a border left", "pooled with gaps", "pooled without relu", "pooled between", "pooled sum",
    "pooled images", "pooled images, padding and stride", "pooled overlapping",
}  # fmt: skip
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
