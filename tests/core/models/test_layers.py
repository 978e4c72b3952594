"""Models from a list of layers: the same as those written in Python, and what is said of a list that is wrong."""

import numpy as np
import pytest

from odyssey_core import nn, ops
from odyssey_core.backends.base import Feed
from odyssey_core.backends.numpy import NumpyBackend
from odyssey_core.checkpoint import digest
from odyssey_core.data.dataset import Images
from odyssey_core.errors import ConfigError, ShapeError
from odyssey_core.learner import Learner, initial_values
from odyssey_core.models import MODELS
from odyssey_core.models.layers import MOST, names, read
from odyssey_core.nn import LAYERS
from odyssey_core.optim import SGD

LENET5 = [
    "conv 6 5", "relu", "max_pool 2", "conv 16 5", "relu", "max_pool 2", "flatten", "linear 120", "relu", "linear 84",
    "relu", "linear classes",
]  # fmt: skip


def _block(width, stride, name):
    """A residual block of ResNet-8 with the names that it has there."""
    first = f"conv {width} 3 stride {stride} padding 1 bias false"
    layers = [first, "batch_norm", "relu", f"conv {width} 3 padding 1 bias false", "batch_norm"]
    shortcut = [f"conv {width} 1 stride {stride} bias false name 0", "batch_norm name 1"]
    return {"residual": layers, "name": name, **({"shortcut": shortcut} if stride > 1 else {})}


RESNET8 = [
    "conv 8 3 padding 1 bias false", "batch_norm", "relu", _block(8, 1, "blocks.0"), "relu", _block(16, 2, "blocks.1"),
    "relu", _block(32, 2, "blocks.2"), "relu", "global_avg_pool", "linear classes name fc",
]  # fmt: skip


def _trained(model, shape) -> str:
    """The SHA-256 of the weights after two steps."""
    rng = np.random.default_rng(0)
    data = Images(rng.integers(0, 256, (16, *shape), np.uint8), rng.integers(0, 10, 16))
    learner = Learner(model, SGD(lr=0.1, momentum=0.9), NumpyBackend(), input_shape=shape, batch_size=8)
    learner.train(data, np.arange(16).reshape(2, 8), epoch=0, first_step=0)
    return digest(learner.weights())


@pytest.mark.parametrize(
    ("name", "settings", "listed", "shape"),
    [
        ("lenet5", {}, {"layers": LENET5}, (1, 28, 28)),
        ("resnet8", {"width": 8}, {"layers": RESNET8, "init": "kaiming_normal"}, (3, 16, 12)),
    ],
)
def test_a_list_makes_the_same_model_to_the_bit(name, settings, listed, shape):
    ours, written = MODELS["layers"](shape, 10, **listed), MODELS[name](shape, 10, **settings)
    assert list(ours.state()) == list(written.state())
    assert digest(initial_values(ours.state(), 5)) == digest(initial_values(written.state(), 5))
    assert _trained(ours, shape) == _trained(written, shape)


def test_every_layer_of_the_library_can_be_listed():
    classes = {each for module in (nn.layers, nn.activations) for each in map(vars(module).get, module.__all__)}
    assert set(LAYERS.values()) == classes


def test_values_come_in_the_order_of_the_options_and_then_by_name():
    (entry,), faults = read(["conv 32 3x5 2 padding 1x2 bias false groups 2 init xavier name stem"], "model.layers")
    assert faults == []
    assert (entry.name, entry.kind) == ("stem", nn.Conv2d)
    assert entry.arguments == {
        "out_channels": 32, "kernel_size": (3, 5), "stride": 2, "padding": (1, 2), "bias": False, "groups": 2,
        "init": "xavier",
    }  # fmt: skip
    (pool,), _ = read(["max_pool 3 stride null"], "model.layers")
    assert pool.arguments == {"kernel_size": 3, "stride": None}
    (leaky,), _ = read(["leaky_relu 1e-2"], "model.layers")
    assert leaky.arguments == {"negative_slope": 0.01}


def test_names_count_layers_of_a_kind_and_naming_one_renames_no_other():
    entries, faults = read(["conv 4 3", "relu", "conv 4 3 name middle", "relu", "conv 4 3"], "model.layers")
    assert faults == []
    assert [entry.name for entry in entries] == ["conv1", "relu1", "middle", "relu2", "conv3"]


def test_a_repeated_block_is_its_layers_several_times():
    repeated = {"repeat": 3, "layers": ["conv 4 3 padding 1", {"residual": ["relu"]}]}
    model = MODELS["layers"]((1, 8, 8), 2, layers=[repeated, "flatten", "linear classes"])
    assert list(model.parameters())[::2] == ["conv1.weight", "conv2.weight", "conv3.weight", "fc1.weight"]
    assert [name for name, _ in model.children()][:6] == ["conv1", "block1", "conv2", "block2", "conv3", "block3"]


def test_a_shortcut_is_added_to_what_the_layers_make():
    """Two 1x1 convolutions whose weights are 2 and 3: 5 x."""
    block = {"residual": ["conv 1 1 bias false"], "shortcut": ["conv 1 1 bias false"]}
    model = MODELS["layers"]((1, 1, 2), 2, layers=[block, "flatten"])
    x = ops.input_("x", (1, 1, 1, 2))
    run = NumpyBackend("float64").compile([model(x)], model.state())
    run.write({"block1.conv1.weight": np.full((1,) * 4, 2), "block1.shortcut.conv1.weight": np.full((1,) * 4, 3)})
    assert run.run(Feed(order=np.zeros((1, 1), np.int64), inputs=np.array([[[1.0, -4.0]]]))).tolist() == [[[5, -20]]]


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (
            ["conv 32 pad 1", "batchnorm", "max_pool 0", "linear 10 bias maybe"],
            [
                "[0].pad: unknown option; conv has out_channels, kernel_size, stride, padding, bias, groups, init; "
                "did you mean padding?",
                "[0].kernel_size: expected an integer at least 1, or 2 of them as in 3x5, got nothing in "
                "'conv 32 pad 1'",
                "[1]: unknown layer 'batchnorm'; known: .*; did you mean 'batch_norm'?",
                "[2].kernel_size: expected an integer at least 1, got 0",
                "[3].bias: expected true or false, got maybe",
            ],
        ),
        (["conv 3 3x3x3"], ["[0].kernel_size: expected an integer at least 1, or 2 of them as in 3x5, got 3x3x3"]),
        (["dropout 1.5"], ["[0].p: expected a number from 0 to below 1, got 1.5"]),
        (["relu 3"], ["[0]: 3 is a value of no option; relu has no options"]),
        (["conv 4 3 init"], ["[0].init: expected text, got nothing"]),
        (["conv 4 3 stride 1 stride 2"], ["[0].stride: is given twice"]),
        (["relu name fc1", "linear 3"], ["[1].name: fc1 is the name of model.layers[0] already; give another"]),
        (["relu name ../up"], ["[0].name: expected letters, digits, _ and dots between them, got the text '../up'"]),
        ([], [": expected a list of layers such as [conv 32 3 padding 1, relu], got []"]),
        ([3], ["[0]: expected a layer such as 'conv 32 3 padding 1' or a block, got 3"]),
        (
            [{"conv": {"out_channels": 3}}],
            [
                "[0]: expected a block with residual: or repeat:, got conv; a layer is a text such as "
                "'conv 32 3 padding 1'"
            ],
        ),
        (
            [{"residual": ["relu", "tanhh"], "shortcat": []}],
            [
                "[0].shortcat: unknown key; this block has residual, shortcut, name; did you mean shortcut?",
                "[0].residual[1]: unknown layer 'tanhh'; known: .*; did you mean 'tanh'?",
            ],
        ),
        ([{"repeat": 0, "layers": ["relu"]}], ["[0].repeat: expected an integer at least 1, got 0"]),
        ([{"repeat": 2}], ["[0].layers: expected a list of layers such as [conv 32 3 padding 1, relu], got nothing"]),
        ([{"repeat": 10**9, "layers": ["relu"]}], [f"[0].layers[0]: more than {MOST:,} layers"]),
    ],
)
def test_everything_wrong_with_a_list_is_told_with_its_place(listed, expected):
    faults = read(listed, "model.layers")[1]
    assert len(faults) == len(expected)
    for fault, text in zip(faults, expected, strict=True):
        start, _, end = f"model.layers{text}".partition(".*")
        assert fault.startswith(start)
        assert fault.endswith(end)
    with pytest.raises(ConfigError, match=r"^model\.layers"):
        MODELS["layers"]((1, 28, 28), 10, layers=listed)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (["conv 6 50", "flatten"], r"model\.layers\[0\] \(conv 6 50\): conv2d: kernel 50x50 is larger than its input"),
        (["conv 6 5", "linear 3"], r"model\.layers\[1\] \(linear 3\): takes .* put flatten before it, got 6×24×24"),
        (["flatten", "conv 3 3"], r"model\.layers\[1\] \(conv 3 3\): takes .* \(channels, height, width\), got 784"),
        (["flatten", "linear 5"], r"the last layer gives 5, expected the data's 10 classes; end with linear classes"),
        (["conv 6 5"], r"gives 6×24×24, expected .*; end with flatten or global_avg_pool, then linear classes"),
        ([{"residual": ["conv 6 3"]}], r"\[0\]: the residual layers give 6×26×26, and the shortcut 1×28×28; give"),
        (
            [{"residual": ["relu"], "shortcut": ["conv 1 30"]}],
            r"model\.layers\[0\]\.shortcut\[0\] \(conv 1 30\): conv2d",
        ),
        (["conv 6 5 groups 4"], r"\(conv 6 5 groups 4\): conv2d: groups must divide 1 input and 6 output channels"),
        (["conv 6 5 init he"], r"\(conv 6 5 init he\): unknown initializer 'he'"),
    ],
)
def test_what_a_layer_cannot_take_names_the_layer(listed, message):
    with pytest.raises(ShapeError, match=message):
        MODELS["layers"]((1, 28, 28), 10, layers=listed)


def test_an_unknown_initializer_of_all_is_refused():
    with pytest.raises(ConfigError, match="unknown initializer 'he'"):
        MODELS["layers"]((1, 28, 28), 10, layers=["flatten", "linear classes"], init="he")


def test_the_layers_that_a_list_names_are_found_in_blocks_too():
    assert names([{"repeat": 2, "layers": ["conv 3 3", {"residual": ["relu"], "shortcut": ["tanh"]}]}, "flatten"]) >= {
        "conv", "relu", "tanh", "flatten",
    }  # fmt: skip
