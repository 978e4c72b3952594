"""What operations refuse, with the messages users read."""

import re

import pytest

from odyssey_core import ops
from odyssey_core.errors import ConfigError, ShapeError
from odyssey_core.nn import Dropout, Flatten, Linear, Sequential
from odyssey_core.tensor import for_inference, topological


def x(*shape):
    return ops.input_("x", shape)


def w(*shape):
    return ops.parameter("w", shape)


REFUSED = {
    "conv channels": (
        lambda: ops.conv2d(x(2, 3, 8, 8), w(16, 8, 3, 3)),
        "conv2d: input has 3 channels, weight expects 8 (weight shape (16, 8, 3, 3))",
    ),
    "conv rank": (
        lambda: ops.conv2d(x(2, 64), w(16, 8, 3, 3)),
        "conv2d: input must be 4-dimensional (N, C, H, W), got shape (2, 64)",
    ),
    "conv weight rank": (
        lambda: ops.conv2d(x(2, 3, 8, 8), w(16, 3)),
        "conv2d: weight must be 4-dimensional (out, in / groups, kernel height, kernel width), got shape (16, 3)",
    ),
    "conv kernel": (
        lambda: ops.conv2d(x(2, 3, 4, 9), w(6, 3, 7, 7), padding=1),
        "conv2d: kernel 7x7 is larger than its input 4x9 with padding 1",
    ),
    "conv stride": (
        lambda: ops.conv2d(x(2, 3, 8, 8), w(6, 3, 3, 3), stride=0),
        "conv2d: stride must be at least 1 and padding at least 0, got 0 and 0",
    ),
    "conv padding": (
        lambda: ops.conv2d(x(2, 3, 8, 8), w(6, 3, 3, 3), padding=-1),
        "conv2d: stride must be at least 1 and padding at least 0, got 1 and -1",
    ),
    "conv bias": (
        lambda: ops.conv2d(x(2, 3, 8, 8), w(6, 3, 3, 3), w(5)),
        "conv2d: bias must have shape (6,) to match the weight, got (5,)",
    ),
    "conv padding of two": (
        lambda: ops.conv2d(x(2, 3, 4, 9), w(6, 3, 7, 7), padding=(0, 2)),
        "conv2d: kernel 7x7 is larger than its input 4x9 with padding 0x2",
    ),
    "conv groups": (
        lambda: ops.conv2d(x(2, 3, 8, 8), w(6, 3, 3, 3), groups=2),
        "conv2d: groups must divide 3 input and 6 output channels, got 2",
    ),
    "conv channels of groups": (
        lambda: ops.conv2d(x(2, 4, 8, 8), w(6, 4, 3, 3), groups=2),
        "conv2d: input has 4 channels, weight expects 8 (weight shape (6, 4, 3, 3), 2 groups)",
    ),
    "linear features": (
        lambda: ops.linear(x(2, 10), w(4, 12)),
        "linear: input has 10 features, weight expects 12 (weight shape (4, 12))",
    ),
    "linear rank": (
        lambda: ops.linear(x(2, 3, 4, 4), w(4, 48)),
        "linear: input must be 2-dimensional (N, in), got shape (2, 3, 4, 4)",
    ),
    "linear bias": (
        lambda: ops.linear(x(2, 10), w(4, 10), w(10)),
        "linear: bias must have shape (4,) to match the weight, got (10,)",
    ),
    "pool window": (
        lambda: ops.max_pool2d(x(2, 3, 4, 2), 3),
        "pool2d: window 3x3 is larger than its input 4x2",
    ),
    "pool size": (
        lambda: ops.avg_pool2d(x(2, 3, 4, 4), 0),
        "pool2d: kernel_size and stride must be at least 1, got 0 and 0",
    ),
    "pool stride": (
        lambda: ops.max_pool2d(x(2, 3, 4, 4), 2, stride=0),
        "pool2d: kernel_size and stride must be at least 1, got 2 and 0",
    ),
    "pool padding": (
        lambda: ops.max_pool2d(x(2, 3, 4, 4), 3, padding=2),
        "pool2d: padding must lie between 0 and half of the window, 1, got 2",
    ),
    "pool padded window": (
        lambda: ops.avg_pool2d(x(2, 3, 1, 4), 4, padding=1),
        "pool2d: window 4x4 is larger than its input 1x4 with padding 1",
    ),
    "global pool rank": (
        lambda: ops.global_avg_pool2d(x(2, 3)),
        "global_avg_pool2d: input must be 4-dimensional (N, C, H, W), got shape (2, 3)",
    ),
    "batch norm rank": (
        lambda: ops.batch_norm2d(x(2, 3), w(3), w(3), w(3), w(3)),
        "batch_norm2d: input must be 4-dimensional (N, C, H, W), got shape (2, 3)",
    ),
    "batch norm channels": (
        lambda: ops.batch_norm2d(x(2, 3, 4, 4), w(4), w(3), w(3), w(3)),
        "batch_norm2d: weight must have shape (3,) to match the input, got (4,)",
    ),
    "batch norm averages": (
        lambda: ops.batch_norm2d(x(2, 3, 4, 4), w(3), w(3), w(3), w(2)),
        "batch_norm2d: running_variance must have shape (3,) to match the input, got (2,)",
    ),
    "batch norm numbers": (
        lambda: ops.batch_norm2d(x(2, 3, 4, 4), w(3), w(3), w(3), w(3), momentum=1.5),
        "batch_norm2d: momentum must lie in [0, 1] and eps be above 0, got 1.5 and 1e-05",
    ),
    "leaky slope": (
        lambda: ops.leaky_relu(x(2, 3), -0.1),
        "leaky_relu: negative_slope must be at least 0, got -0.1",
    ),
    "softmax rank": (
        lambda: ops.softmax(x(2, 3, 1, 1)),
        "softmax: input must be 2-dimensional (N, classes), got shape (2, 3, 1, 1)",
    ),
    "concat shapes": (
        lambda: ops.concat(x(2, 3, 4, 4), x(2, 3, 4, 5)),
        "concat: operands may differ in their number of channels alone, got (2, 3, 4, 4), (2, 3, 4, 5)",
    ),
    "concat of one": (lambda: ops.concat(x(2, 3)), "concat: expected at least two operands, got 1"),
    "add": (
        lambda: x(2, 3) + x(2, 4),
        "add: operands must have the same shape, got (2, 3) and (2, 4)",
    ),
    "add of a parameter": (
        lambda: x(2, 3) + w(2, 3),
        "add: operands must have the same shape, got (2, 3) and (2, 3)",
    ),
    "multiply": (
        lambda: x(2, 3) * x(3, 2),
        "multiply: operands must have the same shape, got (2, 3) and (3, 2)",
    ),
    "dropout": (lambda: ops.dropout(x(2, 3), 1.0, 0), "dropout: p must be at least 0 and below 1, got 1.0"),
    "loss rank": (
        lambda: ops.cross_entropy(x(2, 3, 1, 1), ops.labels(2)),
        "cross_entropy: logits must be 2-dimensional (N, classes), got shape (2, 3, 1, 1)",
    ),
    "loss targets": (
        lambda: ops.cross_entropy(x(2, 3), ops.labels(3)),
        "cross_entropy: logits (2, 3) need targets (2,), got (3,)",
    ),
    "squared error": (
        lambda: ops.squared_error(x(2, 3), ops.labels(3)),
        "squared_error: logits (2, 3) need targets (2,), got (3,)",
    ),
    "loss smoothing": (
        lambda: ops.cross_entropy(x(2, 3), ops.labels(2), 1.0),
        "cross_entropy: label_smoothing must be at least 0 and below 1, got 1.0",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_operands_that_do_not_fit_are_refused(case):
    build, message = REFUSED[case]
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}"):
        build()


def test_shapes_of_results():
    assert ops.conv2d(x(2, 3, 9, 8), w(4, 3, 3, 2), stride=2, padding=1).shape == (2, 4, 5, 5)
    assert ops.max_pool2d(x(2, 3, 9, 8), 2).shape == (2, 3, 4, 4)
    assert ops.avg_pool2d(x(2, 3, 9, 8), 3, 2).shape == (2, 3, 4, 3)
    assert ops.conv2d(x(2, 4, 9, 8), w(6, 2, 1, 5), padding=(0, 2), groups=2).shape == (2, 6, 9, 8)
    assert ops.max_pool2d(x(2, 3, 9, 8), 3, 2, padding=1).shape == (2, 3, 5, 4)
    assert ops.global_avg_pool2d(x(2, 3, 9, 8)).shape == (2, 3)
    assert ops.concat(x(2, 3, 9), x(2, 1, 9), x(2, 4, 9)).shape == (2, 8, 9)
    assert ops.flatten(x(2, 3, 9, 8)).shape == (2, 216)
    assert ops.cross_entropy(x(2, 3), ops.labels(2)).shape == (2,)


def test_inference_leaves_dropout_out_and_keeps_what_does_not_change():
    model = Sequential({"fc1": Linear(4, 3), "dropout": Dropout(0.5), "flatten": Flatten(), "fc2": Linear(3, 2)})
    trained = model(x(2, 4))
    (inferred,) = for_inference([trained])
    names = [node.op.name for node in topological([inferred])]
    assert "dropout" in {node.op.name for node in topological([trained])}
    assert names.count("linear") == 2
    assert "dropout" not in names
    plain = Linear(4, 3)(x(2, 4))
    assert for_inference([plain]) == [plain]


def test_layers_refuse_bad_arguments():
    with pytest.raises(ConfigError, match=r"dropout\.p: expected a number from 0 to below 1, got -0\.1"):
        Dropout(-0.1)
    with pytest.raises(ConfigError, match=r"unknown initializer 'kaimin'; .*did you mean 'kaiming'"):
        Linear(3, 4, init="kaimin")
