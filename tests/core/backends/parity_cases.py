"""Graphs that are lowered in ways of their own, for each the function that makes it for so many images."""

from harness import FixedTiles

from odyssey_core import ops
from odyssey_core.testing.graph import Graph, classify

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
