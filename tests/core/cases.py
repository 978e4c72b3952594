"""For every op small networks through it: a new op is tested by adding its cases here.

The first word of a case is the op that it is for. Finite differences (`test_autodiff`), the two precisions of the
reference and the other backends (`test_parity`), and PyTorch (`fixtures/torch_ops.json`) all work on these.
"""

from dataclasses import replace

from odyssey_core import ops
from odyssey_core.tensor import for_inference
from odyssey_core.testing.graph import Graph, classify


def _images(n, *shape, name="x"):
    return ops.input_(name, (n, *shape))


def _conv(n, *, channels=4, weight=(6, 2, 3, 2), size=(6, 5), bias=True, **settings):
    x, w, b = _images(n, channels, *size), ops.parameter("w", weight), ops.parameter("b", weight[:1])
    y = ops.conv2d(x, w, b if bias else None, **settings)
    return Graph(classify(y), {"w": w, "b": b} if bias else {"w": w}, {"x": x}, outputs=[y])


def _unary(n, op, shape=(5,)):
    x = _images(n, *shape)
    y = op(x)
    return Graph(classify(y), inputs={"x": x}, outputs=[y])


def _pair(n, op, shape=(4,)):
    a, b = _images(n, *shape, name="a"), _images(n, *shape, name="b")
    y = op(a, b)
    return Graph(classify(y), inputs={"a": a, "b": b}, outputs=[y])


def _concat(n, *widths, rest=(2, 3)):
    parts = {f"x{i}": _images(n, width, *rest, name=f"x{i}") for i, width in enumerate(widths)}
    y = ops.concat(*parts.values())
    return Graph(classify(y * y), inputs=parts, outputs=[y])


def _batch_norm_leaves(channels, name=""):
    parameters = {f"{name}{key}": ops.parameter(key, (channels,)) for key in ("weight", "bias")}
    buffers = {f"{name}{key}": ops.buffer(key, (channels,), ops.leaves.ZERO) for key in ("mean", "variance")}
    return parameters, buffers


def _batch_norm(n, shape=(3, 2, 3), **settings):
    parameters, buffers = _batch_norm_leaves(shape[0])
    x = _images(n, *shape)
    y = ops.batch_norm2d(x, *parameters.values(), *buffers.values(), **settings)
    return Graph(classify(y * y), parameters, {"x": x}, [y], buffers)


def _batch_norm_in_inference(n):
    graph = _batch_norm(n)
    (inferred,) = for_inference(graph.outputs)
    return replace(graph, outputs=[inferred])


def _batch_norm_twice(n):
    """One layer used twice: its averages take both statistics, one after the other."""
    parameters, buffers = _batch_norm_leaves(2)
    x = _images(n, 2, 3, 2)
    y = x
    for _ in range(2):
        y = ops.relu(ops.batch_norm2d(y, *parameters.values(), *buffers.values(), momentum=0.3))
    return Graph(classify(y), parameters, {"x": x}, [y], buffers)


def _residual_block(n):
    """Two convolutions with batch norm, and what goes around them."""
    x, weights = _images(n, 3, 4, 4), {f"w{i}": ops.parameter(f"w{i}", (3, 3, 3, 3)) for i in (1, 2)}
    parameters, buffers, y = dict(weights), {}, x
    for i in (1, 2):
        own, averages = _batch_norm_leaves(3, f"bn{i}.")
        parameters |= own
        buffers |= averages
        y = ops.batch_norm2d(ops.conv2d(y, weights[f"w{i}"], padding=1), *own.values(), *averages.values())
        y = ops.relu(y) if i == 1 else y
    y = ops.global_avg_pool2d(ops.relu(y + x))
    return Graph(classify(y), parameters, {"x": x}, [y], buffers)


def _loss(n, loss):
    x = _images(n, 4)
    return Graph(loss(x * 3, ops.labels(n)), inputs={"x": x})


CASES = {
    "conv2d groups": lambda n: _conv(n, groups=2),
    "conv2d groups, stride, padding": lambda n: _conv(n, groups=2, stride=2, padding=1),
    "conv2d depthwise": lambda n: _conv(n, weight=(4, 1, 3, 3), groups=4, padding=1, bias=False),
    "conv2d depthwise, two each": lambda n: _conv(n, channels=3, weight=(6, 1, 2, 3), groups=3, stride=2),
    "conv2d rectangular": lambda n: _conv(n, channels=2, weight=(3, 2, 1, 5), padding=(0, 2)),
    "conv2d one by one": lambda n: _conv(n, channels=3, weight=(5, 3, 1, 1), stride=2, bias=False),
    "max_pool2d padded": lambda n: _unary(n, lambda x: ops.max_pool2d(x, 3, 2, 1), (2, 5, 7)),
    "max_pool2d padded by half": lambda n: _unary(n, lambda x: ops.max_pool2d(x, 2, 2, 1), (2, 5, 4)),
    "avg_pool2d padded": lambda n: _unary(n, lambda x: ops.avg_pool2d(x, 3, 2, 1), (2, 5, 7)),
    "avg_pool2d padded, overlapping": lambda n: _unary(n, lambda x: ops.avg_pool2d(x, 3, 1, 1), (2, 4, 4)),
    "global_avg_pool2d": lambda n: _unary(n, ops.global_avg_pool2d, (5, 3, 4)),
    "batch_norm2d": _batch_norm,
    "batch_norm2d settings": lambda n: _batch_norm(n, (5, 3, 3), momentum=0.25, eps=0.1),
    "batch_norm2d many channels": lambda n: _batch_norm(n, (17, 2, 2)),
    "batch_norm2d in inference": _batch_norm_in_inference,
    "batch_norm2d twice": _batch_norm_twice,
    "batch_norm2d residual block": _residual_block,
    "leaky_relu": lambda n: _unary(n, lambda x: ops.leaky_relu(x, 0.2)),
    "relu6": lambda n: _unary(n, lambda x: ops.relu6(x * 9)),
    "gelu": lambda n: _unary(n, lambda x: ops.gelu(x * 4), (9,)),
    "mish": lambda n: _unary(n, lambda x: ops.mish(x * 25), (9,)),
    "softmax": lambda n: _unary(n, lambda x: ops.softmax(x * 3)),
    "scale_shift": lambda n: _unary(n, lambda x: ops.scale_shift(x, -1.5, 0.25)),
    "scale_shift operators": lambda n: _pair(n, lambda a, b: (1 - a) * 2 - -b / 4 + (0.5 + a) - 3),
    "concat": lambda n: _concat(n, 3, 1, 5),
    "concat of features": lambda n: _concat(n, 4, 2, rest=()),
    "concat with itself": lambda n: _unary(n, lambda x: ops.concat(x, x), (3, 2, 2)),
    "squared_error": lambda n: _loss(n, ops.squared_error),
    "multi_margin": lambda n: _loss(n, ops.multi_margin),
}  # fmt: skip
