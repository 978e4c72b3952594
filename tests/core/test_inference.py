"""Answers of a trained model: the same bits however many images are asked for at once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from odyssey_core import ops
from odyssey_core.backends import BACKENDS
from odyssey_core.backends.numba import NumbaBackend, run
from odyssey_core.backends.numba.lower import Lowering
from odyssey_core.inference import LONGEST, Inference
from odyssey_core.losses import LOSSES
from odyssey_core.models import MODELS
from odyssey_core.models.googlenet import Inception
from odyssey_core.nn import (
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    Module,
    ReLU,
    Sequential,
)


class _Branches(Module):
    """Odd sizes, every element-wise operation that there is a kernel for, a sum of two branches."""

    def __init__(self):
        self.first, self.norm = Conv2d(3, 20, (2, 3), stride=2, padding=(0, 1)), BatchNorm2d(20)
        self.second, self.third = Conv2d(20, 20, 1, bias=False), Conv2d(20, 4, 3)
        self.fc = Linear(4, 3)

    def forward(self, x):
        h = self.norm(self.first(x))
        for activation in (ops.leaky_relu, ops.tanh, ops.sigmoid, ops.gelu, ops.mish, ops.relu6):
            h = activation(h) * 1.5 - 0.1
        h = ops.avg_pool2d(ops.relu(self.second(h)) + h * h, 3, 1, 1)
        return self.fc(ops.global_avg_pool2d(ops.max_pool2d(self.third(h), 2)))


def _sequential(*layers):
    return Sequential({f"layer{i}": layer for i, layer in enumerate(layers)})


LAYERS = ["conv 9 3", "relu", "max_pool 2", "flatten", "linear classes"]
GRAY, COLOUR = (1, 13, 11), (3, 9, 10)
# Each with whether it has kernels for single images.
NETS = {
    "lenet5": (lambda: MODELS["lenet5"](input_shape=(1, 28, 28), classes=47), (1, 28, 28), True),
    "lenet5_1998": (lambda: MODELS["lenet5_1998"](input_shape=(1, 28, 28), classes=10), (1, 28, 28), True),
    "mlp": (lambda: MODELS["mlp"](input_shape=COLOUR, classes=17), COLOUR, True),
    "linear": (lambda: MODELS["linear"](input_shape=GRAY, classes=5), GRAY, True),
    "resnet8": (lambda: MODELS["resnet8"](input_shape=COLOUR, classes=10, width=3), COLOUR, True),
    "winograd": (lambda: MODELS["resnet8"](input_shape=COLOUR, classes=10, width=16), COLOUR, True),
    "winograd, odd numbers": (
        lambda: _sequential(
            Conv2d(3, 17, 3), ReLU(), Conv2d(17, 33, 3, padding=(1, 2)), ReLU(), Flatten(), Linear(33 * 7 * 10, 4)
        ), COLOUR, True,
    ),
    "concat": (
        lambda: MODELS["resnet8"](input_shape=COLOUR, classes=10, width=3, shortcut="identity"), COLOUR, True,
    ),
    "layers": (lambda: MODELS["layers"](input_shape=GRAY, classes=3, layers=LAYERS), GRAY, True),
    "branches": (_Branches, COLOUR, True),
    "groups": (
        lambda: _sequential(
            Conv2d(3, 6, 3, groups=3), ReLU(), Conv2d(6, 4, (2, 3), stride=2, padding=(1, 0), groups=2, bias=False),
            Conv2d(4, 40, 1, groups=2), Conv2d(40, 40, 2, padding=1, groups=40), Flatten(), Linear(40 * 5 * 4, 4),
        ), COLOUR, True,
    ),
    "mobilenet_v1": (lambda: MODELS["mobilenet_v1"](input_shape=COLOUR, classes=10, width=4), COLOUR, True),
    "inception": (
        lambda: _sequential(
            Conv2d(3, 9, 3, padding=1), MaxPool2d(3, 2, 1), Inception(9, 5, 6, 17, 3, 18, 7, "kaiming"),
            Inception(47, 16, 17, 33, 2, 3, 4, "kaiming"), GlobalAvgPool2d(), Dropout(0.4), Linear(56, 3),
        ), COLOUR, True,
    ),
    "one channel": (lambda: _sequential(Conv2d(1, 1, 3), ReLU(), Flatten(), Linear(11 * 9, 4)), GRAY, False),
}  # fmt: skip


def _inference(model, shape, backend) -> Inference:
    rng = np.random.default_rng(3)
    values = {
        name: rng.uniform(0.5, 1.5, p.shape) if "running_var" in name else rng.normal(0, 0.2, p.shape)
        for name, p in model.state().items()
    }
    values = {name: value.astype(np.float32) for name, value in values.items()}
    mean, std = (0.1, 0.5) if shape[0] == 1 else ((0.1, 0.2, 0.3), (0.5, 0.5, 0.25))
    return Inference(model, backend, shape, mean, std, lambda: values, LOSSES["cross_entropy"]())


def _pixels(count: int, shape) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (count, *shape), np.uint8)


@pytest.mark.parametrize("name", NETS)
def test_probabilities_have_the_same_bits_in_every_batch(name):
    build, shape, alone = NETS[name]
    inference, pixels = _inference(build(), shape, NumbaBackend()), _pixels(33, shape)
    together = inference.probabilities(pixels)
    for count in range(1, 34):
        np.testing.assert_array_equal(inference.probabilities(pixels[:count]), together[:count], err_msg=str(count))
    assert inference._ready(inference._few).alone is alone
    assert not inference._ready(16).alone


@pytest.mark.parametrize("name", ["resnet8", "winograd", "mobilenet_v1"])
def test_a_normalisation_in_a_store_never_changes_a_bit(name, monkeypatch):
    build, shape, _ = NETS[name]
    pixels = _pixels(33, shape)
    found = _inference(build(), shape, NumbaBackend()).probabilities(pixels)
    monkeypatch.setattr(Lowering, "_fuses", lambda *_: False)
    np.testing.assert_array_equal(_inference(build(), shape, NumbaBackend()).probabilities(pixels), found)


@pytest.mark.parametrize(("model", "few"), [("resnet20", 12), ("mobilenet_v1", 12), ("resnet18", 4), ("alexnet", 2)])
def test_fewer_images_of_a_large_net_are_computed_one_by_one(model, few):
    inference = _inference(MODELS[model]((3, 32, 32), 10), (3, 32, 32), None)
    assert [inference._passed(count) for count in (1, few, few + 1, 16)] == [few, few, 16, 16]


@pytest.mark.parametrize("name", NETS)
def test_probabilities_are_those_of_the_reference(name):
    build, shape, _ = NETS[name]
    pixels = _pixels(5, shape)
    expected = _inference(build(), shape, BACKENDS["numpy"]("float64")).probabilities(pixels)
    np.testing.assert_allclose(_inference(build(), shape, NumbaBackend()).probabilities(pixels), expected, atol=2e-5)
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-6)


def test_more_images_than_a_pass_takes_and_images_that_lie_transposed():
    build, shape, _ = NETS["linear"]
    inference, pixels = _inference(build(), shape, NumbaBackend()), _pixels(LONGEST + 47, shape)
    together = inference.probabilities(pixels)
    assert together.shape == (LONGEST + 47, 5)
    for i in (0, LONGEST - 1, LONGEST, LONGEST + 31, LONGEST + 46):
        np.testing.assert_array_equal(inference.probabilities(pixels[i : i + 1])[0], together[i])
    lying = np.ascontiguousarray(pixels.swapaxes(-1, -2)).swapaxes(-1, -2)
    np.testing.assert_array_equal(inference.probabilities(lying), together)


def test_threads_that_ask_at_once_get_the_answers_to_their_own_images():
    build, shape, _ = NETS["lenet5"]
    inference, pixels = _inference(build(), shape, NumbaBackend()), _pixels(24, shape)
    expected = [inference.probabilities(pixels[i : i + 1]) for i in range(24)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: inference.probabilities(pixels[i % 24 : i % 24 + 1]), range(400)))
    for i, probabilities in enumerate(found):
        np.testing.assert_array_equal(probabilities, expected[i % 24])


def test_new_weights_are_taken_after_they_are_announced():
    build, shape, _ = NETS["mlp"]
    inference, pixels = _inference(build(), shape, NumbaBackend()), _pixels(20, shape)
    before = [inference.probabilities(pixels[:count]) for count in (1, 20)]
    values = inference._weights()
    values["fc1.weight"] *= -1
    inference.forget()
    after = [inference.probabilities(pixels[:count]) for count in (1, 20)]
    np.testing.assert_array_equal(after[0][0], after[1][0])
    assert all((a != b).any() for a, b in zip(before, after, strict=True))


def test_kernels_for_single_images_are_compiled_for_those_alone(monkeypatch):
    build, shape, _ = NETS["lenet5"]
    asked, address_of = [], run.address_of
    monkeypatch.setattr(run, "address_of", lambda kernel: asked.append(kernel.name) or address_of(kernel))
    inference = _inference(build(), shape, NumbaBackend())
    inference.probabilities(_pixels(16, shape))
    assert asked
    assert not [name for name in asked if "single" in name]
    asked.clear()
    inference.probabilities(_pixels(1, shape))
    assert {"gather_single", "emit_single"} <= {*asked}
    assert not {"gather_images", "emit"} & {*asked}
