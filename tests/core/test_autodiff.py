"""Every gradient rule against central finite differences in float64."""

from functools import partial

import pytest
from cases import CASES as OF_OPS

from odyssey_core import ops
from odyssey_core.autodiff import gradients
from odyssey_core.errors import ShapeError
from odyssey_core.ops import OPS
from odyssey_core.testing.graph import Graph, check_gradients, classify


def _images(*shape):
    return ops.input_("x", (3, *shape))


def _elementwise(op):
    x = _images(5)
    return Graph(classify(op(x)), inputs={"x": x})


def _conv(stride=1, padding=0, bias=True, weight=(3, 2, 3, 2)):
    x, w, b = _images(2, 6, 5), ops.parameter("w", weight), ops.parameter("b", weight[:1])
    y = ops.conv2d(x, w, b if bias else None, stride=stride, padding=padding)
    return Graph(classify(y), {"w": w, "b": b} if bias else {"w": w}, {"x": x})


def _pool(op, **settings):
    x = _images(2, 5, 7)
    return Graph(classify(op(x, **settings)), inputs={"x": x})


def _linear(bias=True):
    x, w, b = _images(5), ops.parameter("w", (4, 5)), ops.parameter("b", (4,))
    return Graph(classify(ops.linear(x, w, b if bias else None)), {"w": w, "b": b} if bias else {"w": w}, {"x": x})


def _pair(op):
    a, b = ops.input_("a", (3, 4)), ops.input_("b", (3, 4))
    return Graph(classify(op(a, b)), inputs={"a": a, "b": b})


def _used_twice():
    x, w = _images(4), ops.parameter("w", (4, 4))
    h = ops.tanh(ops.linear(x, w))
    return Graph(classify(h * h + ops.sigmoid(h)), {"w": w}, {"x": x})


def _square():
    x = _images(4)
    return Graph(classify(x * x), inputs={"x": x})


def _residual():
    x, w = _images(2, 4, 4), ops.parameter("w", (2, 2, 3, 3))
    return Graph(classify(x + ops.relu(ops.conv2d(x, w, padding=1))), {"w": w}, {"x": x})


def _shared():
    x, w, b = _images(4), ops.parameter("w", (4, 4)), ops.parameter("b", (4,))
    h = x
    for _ in range(3):
        h = ops.tanh(ops.linear(h, w, b))
    return Graph(classify(h), {"w": w, "b": b}, {"x": x})


def _smoothed():
    x = _images(5)
    return Graph(classify(x, label_smoothing=0.3), inputs={"x": x})


def _two_losses():
    x, w = _images(4), ops.parameter("w", (3, 4))
    h = ops.linear(x, w)
    return Graph(classify(h) + classify(ops.tanh(h), 0.1), {"w": w}, {"x": x})


def _parameter_sum():
    x, v, w = _images(4), ops.parameter("v", (3, 4)), ops.parameter("w", (3, 4))
    return Graph(classify(ops.linear(x, v + w * w)), {"v": v, "w": w}, {"x": x})


# By the op that the case is for; further cases of an op have a word behind it.
CASES = {
    "conv2d": _conv,
    "conv2d stride": lambda: _conv(stride=2),
    "conv2d padding": lambda: _conv(padding=2),
    "conv2d both, no bias": lambda: _conv(stride=3, padding=1, bias=False),
    "conv2d kernel as large as the input": lambda: _conv(weight=(4, 2, 6, 5)),
    "max_pool2d": lambda: _pool(ops.max_pool2d, kernel_size=2),
    "max_pool2d overlapping": lambda: _pool(ops.max_pool2d, kernel_size=3, stride=1),
    "max_pool2d gaps": lambda: _pool(ops.max_pool2d, kernel_size=2, stride=3),
    "avg_pool2d": lambda: _pool(ops.avg_pool2d, kernel_size=2),
    "avg_pool2d overlapping": lambda: _pool(ops.avg_pool2d, kernel_size=3, stride=2),
    "linear": _linear,
    "linear no bias": lambda: _linear(bias=False),
    "relu": lambda: _elementwise(ops.relu),
    "tanh": lambda: _elementwise(ops.tanh),
    "sigmoid": lambda: _elementwise(ops.sigmoid),
    "dropout": lambda: _elementwise(lambda x: ops.dropout(x, 0.4, stream=7)),
    "add": lambda: _pair(ops.add),
    "add residual": _residual,
    "add two losses": _two_losses,
    "add parameters": _parameter_sum,
    "multiply": lambda: _pair(ops.multiply),
    "multiply by itself": _square,
    "multiply value used twice": _used_twice,
    "reshape": lambda: Graph(classify(x := _images(2, 3, 1)), inputs={"x": x}),
    "cross_entropy": lambda: Graph(classify(x := _images(5)), inputs={"x": x}),
    "cross_entropy smoothed": _smoothed,
    "linear parameter used three times": _shared,
    **{name: partial(build, 3) for name, build in OF_OPS.items()},
}


def test_every_differentiable_op_has_a_case():
    differentiable = {name for name, op in OPS.items() if op.gradient is not None}
    assert differentiable == {case.partition(" ")[0] for case in CASES}


@pytest.mark.parametrize("alive", [3, 2, 1], ids=["whole batch", "partial batch", "one image"])
@pytest.mark.parametrize("case", CASES)
def test_gradient_is_the_finite_difference(case, alive):
    graph = CASES[case]()
    assert case.partition(" ")[0] in graph.op_names()
    check_gradients(graph, alive)


def test_gradient_of_an_inner_value():
    x = ops.input_("x", (2, 3))
    h = ops.tanh(x)
    (grad,) = gradients(classify(h), [h])
    assert grad.shape == h.shape


def test_losses_must_be_one_per_image():
    x, w = ops.input_("x", (2, 3)), ops.parameter("w", (4, 3))
    with pytest.raises(ShapeError, match=r"expected one loss per image, shape \(N,\), got linear of \(2, 4\)"):
        gradients(ops.linear(x, w), [w])


def test_parameter_without_influence_is_named():
    x, w = ops.input_("x", (2, 3)), ops.parameter("head.weight", (4, 3))
    with pytest.raises(ShapeError, match=r"do not depend on .*head\.weight"):
        gradients(classify(x), [w])


def test_op_without_a_rule_is_named():
    x, w = ops.input_("x", (2, 3)), ops.parameter("w", (4, 3))
    (grad,) = gradients(classify(ops.tanh(ops.linear(x, w))), [x])
    with pytest.raises(ShapeError, match="linear_grad_input has no gradient rule"):
        gradients(classify(grad), [w])
