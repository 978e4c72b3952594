"""Trees of modules: paths, lists, buffers, random streams; initial values."""

import numpy as np
import pytest

from odyssey_core import nn, ops
from odyssey_core.backends.base import Feed
from odyssey_core.backends.numpy import NumpyBackend
from odyssey_core.data.dataset import Images
from odyssey_core.errors import ConfigError
from odyssey_core.learner import Learner
from odyssey_core.ops.elementwise import DROPOUT
from odyssey_core.optim import OPTIMIZERS
from odyssey_core.random import stream_of, words
from odyssey_core.tensor import for_inference, topological
from odyssey_core.testing.graph import reference


class Branches(nn.Module):
    """Modules and a parameter in lists, tuples and mappings, within each other."""

    def __init__(self):
        self.blocks = [nn.Linear(4, 4), nn.Sequential([nn.Linear(4, 4), nn.Dropout(0.5)])]
        self.heads = {"a": nn.Linear(4, 2, bias=False), "b": [nn.Dropout(0.25), (nn.Linear(4, 2),)]}
        self.scale = nn.parameter("scale", (3,), nn.Constant(2.0))
        self.sizes = [1, 2, 3]

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        drop, (last,) = self.heads["b"]
        return self.heads["a"](x) + last(drop(x))


def test_modules_are_found_wherever_they_are_kept():
    assert list(Branches().parameters()) == [
        "scale", "blocks.0.weight", "blocks.0.bias", "blocks.1.0.weight", "blocks.1.0.bias", "heads.a.weight",
        "heads.b.1.0.weight", "heads.b.1.0.bias",
    ]  # fmt: skip


def test_a_module_that_contains_itself():
    model = Branches()
    model.blocks[0].above = model
    with pytest.raises(ConfigError, match=r"Branches: blocks\.0\.above is a module that contains it; assign another"):
        model.parameters()


def _streams(model, width=4):
    nodes = topological([model(ops.input_("x", (2, width)))])
    return [node.attrs["stream"] for node in nodes if node.op is DROPOUT]


def test_a_dropout_draws_from_the_stream_of_its_path():
    model = Branches()
    expected = [stream_of("blocks.1.1"), stream_of("heads.b.0")]
    assert _streams(model) == expected
    inner = model.blocks[1]
    assert _streams(nn.Sequential({"inner": inner})) == [stream_of("inner.1")]
    assert _streams(model) == expected, "the model that is called decides"


def test_dropouts_without_names_draw_different_masks():
    model = nn.Sequential([nn.Dropout(0.5), nn.Dropout(0.5)])
    assert len(set(_streams(model))) == 2


class _DroppedTwice(nn.Module):
    """One dropout behind two layers, as many models of PyTorch's have it, and one that belongs to no model."""

    def __init__(self):
        self.one, self.two, self.drop = nn.Linear(4, 4), nn.Linear(4, 4), nn.Dropout(0.5)

    def forward(self, x):
        x = self.drop(self.two(self.drop(self.one(x))))
        return nn.Dropout(0.5)(nn.Dropout(0.5)(x))


def test_a_dropout_that_is_called_again_draws_another_mask():
    model = _DroppedTwice()
    streams = _streams(model)
    assert len(set(streams)) == 4
    assert streams[:2] == [stream_of("drop"), stream_of("drop/2")]
    assert _streams(model) == streams, "the same model makes the same graph"
    assert len(set(_streams(nn.Sequential({"a": model, "b": _DroppedTwice()})))) == 8


def test_a_layer_that_defines_call_is_told_what_to_define():
    with pytest.raises(TypeError, match=r"Old: define forward\(self, x\); __call__ belongs to Module"):
        type("Old", (nn.Module,), {"__call__": lambda self, x: x})


def _normalized():
    return nn.Sequential(
        {"conv": nn.Conv2d(1, 3, 3, padding=1, bias=False), "bn": nn.BatchNorm2d(3), "relu": nn.ReLU(),
         "pool": nn.GlobalAvgPool2d(), "fc": nn.Linear(3, 2)}
    )  # fmt: skip


def _learner(**settings) -> Learner:
    return Learner(
        _normalized(), OPTIMIZERS["sgd"](lr=0.1), NumpyBackend(), input_shape=(1, 4, 4), batch_size=6, **settings
    )


RNG = np.random.default_rng(0)
DATA = Images(RNG.integers(0, 256, (20, 1, 4, 4), np.uint8), RNG.integers(0, 2, 20))
ORDER = np.arange(18).reshape(3, 6)


def _train(learner, order=ORDER):
    return learner.train(DATA, order, epoch=0, first_step=0).losses


def test_buffers_are_kept_and_never_trained():
    model = _normalized()
    assert list(model.buffers()) == ["bn.running_mean", "bn.running_var"]
    assert list(model.parameters()) == ["conv.weight", "bn.weight", "bn.bias", "fc.weight", "fc.bias"]
    learner = _learner(ema=0.9)
    start = learner.weights()
    assert start.keys() == model.state().keys()
    np.testing.assert_array_equal(start["bn.weight"], np.ones(3))
    np.testing.assert_array_equal(start["bn.running_mean"], np.zeros(3))
    np.testing.assert_array_equal(start["bn.running_var"], np.ones(3))
    assert not [name for name in learner.state() if name.startswith("bn.running") and "/" in name]
    gradients = learner.gradients(DATA, ORDER[0])
    assert gradients.keys() == model.parameters().keys()
    np.testing.assert_array_equal(
        learner.weights()["bn.running_mean"], np.zeros(3), "reading gradients changes nothing"
    )


def test_running_averages_by_hand():
    """The first step's mean and unbiased variance over five images, weighed with 0.1."""
    learner = _learner()
    kernel = learner.weights()["conv.weight"]
    row = np.array([[3, 1, 4, 15, 9, -1]])
    _train(learner, row)
    x = DATA.pixels[row[0, :5]].astype(np.float64) / 255
    padded = np.pad(x[:, 0], ((0, 0), (1, 1), (1, 1)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    y = np.einsum("nijkl,ockl->onij", patches, kernel).reshape(3, -1)
    found = learner.weights()
    np.testing.assert_allclose(found["bn.running_mean"], 0.1 * y.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found["bn.running_var"], 0.9 + 0.1 * y.var(axis=1, ddof=1), rtol=1e-5)


def test_inference_takes_the_running_averages():
    learner = _learner()
    _train(learner)
    alone = np.concatenate([learner.evaluate(DATA, np.array([i]))[0] for i in range(4)])
    together, _ = learner.evaluate(DATA, np.arange(4))
    np.testing.assert_array_equal(alone, together, "an image's neighbours have no influence")
    changed = learner.weights()
    changed["bn.running_mean"] = changed["bn.running_mean"] + 1
    learner.load_weights(changed)
    assert (learner.evaluate(DATA, np.arange(4))[0] != together).any()


def test_state_with_buffers_resumes_to_the_same_bits():
    whole, first, rest = _learner(), _learner(), _learner(seed=5)
    expected = _train(whole)
    _train(first, ORDER[:1])
    rest.load_state(first.state())
    np.testing.assert_array_equal(_train(rest, ORDER[1:]), expected[1:])
    for name, value in whole.state().items():
        np.testing.assert_array_equal(rest.state()[name], value, name)


def test_one_image_of_one_pixel_gives_the_bias():
    """PyTorch refuses this; here the variance is 0, and what is averaged as well."""
    leaves = [ops.parameter(name, (2,)) for name in ("weight", "bias")]
    buffers = [ops.buffer(name, (2,), nn.Constant(1.0)) for name in ("mean", "variance")]
    x = ops.input_("x", (1, 2, 1, 1))
    y = ops.batch_norm2d(x, *leaves, *buffers)
    executable = reference().compile([y], dict(zip("wbmv", (*leaves, *buffers), strict=True)))
    executable.write({"w": np.ones(2), "b": np.array([3.0, 4.0])})
    found = executable.run(Feed(order=np.zeros((1, 1), np.int64), inputs=np.full((1, 1, 2), 7.0)))
    np.testing.assert_array_equal(found[0], [[3.0, 4.0]])


def test_softmax_as_a_models_output():
    model = nn.Sequential([nn.Linear(3, 4), nn.Softmax()])
    (y,) = for_inference([model(ops.input_("x", (2, 3)))])
    assert y.op.name == "softmax"


def test_constant_and_normal_initial_values():
    np.testing.assert_array_equal(nn.Constant(0.5).draw((2, 3), 0, "s"), np.full((2, 3), 0.5, np.float32))
    drawn = nn.Normal(2.0).draw((40_000,), seed=1, stream="weight")
    assert drawn.dtype == np.float32
    assert abs(drawn.mean()) < 0.03  # three standard errors: 3 x 2 / 200
    assert abs(drawn.std() - 2) < 0.025
    # Of a normal distribution 68.3 % lie within one deviation and 95.4 % within two.
    assert abs((np.abs(drawn) < 2).mean() - 0.683) < 0.01
    assert abs((np.abs(drawn) < 4).mean() - 0.954) < 0.006
    assert np.abs(drawn).max() <= 12
    np.testing.assert_array_equal(drawn[:5], nn.Normal(2.0).draw((5,), seed=1, stream="weight"))
    assert (drawn[:5] != nn.Normal(2.0).draw((5,), seed=2, stream="weight")).all()


def test_the_first_normal_number_by_hand():
    """Twelve words of the stream, each less its low byte."""
    twelve = [int(w) >> 8 for w in words(12, seed=3, stream="x")]
    expected = (sum(twelve) / 2**24 - 6) * 0.5
    assert nn.Normal(0.5).draw((1,), seed=3, stream="x")[0] == pytest.approx(expected, rel=1e-6)


def test_grouped_layers_count_the_inputs_of_one_group():
    layer = nn.Conv2d(8, 16, (1, 3), padding=(0, 1), groups=4, init="kaiming_normal")
    assert layer.weight.shape == (16, 2, 1, 3)
    assert layer.weight.attrs["initial"] == nn.Normal((2 / 6) ** 0.5)
    assert layer(ops.input_("x", (2, 8, 5, 5))).shape == (2, 16, 5, 5)


def test_groups_must_divide_the_channels():
    with pytest.raises(ConfigError, match="conv2d: groups must divide 8 input and 16 output channels, got 3"):
        nn.Conv2d(8, 16, 3, groups=3)
