import math
import re

import pytest

from odyssey_core import ops
from odyssey_core.errors import ConfigError, ShapeError
from odyssey_core.initial import Dirac
from odyssey_core.models import MODELS
from odyssey_core.nn import INITIALIZERS, Normal, Uniform


def _count(model) -> int:
    return sum(math.prod(p.shape) for p in model.parameters().values())


# Worked out by hand: weights + biases, layer by layer.
COUNTS = [
    ("lenet5", (1, 28, 28), 47, {}, 150 + 6 + 2400 + 16 + 30720 + 120 + 10080 + 84 + 3948 + 47),
    ("lenet5", (1, 28, 28), 10, {}, 44426),
    ("lenet5", (3, 32, 32), 10, {"dropout": 0.5}, 62006),
    ("lenet5_1998", (1, 28, 28), 10, {}, 156 + 2416 + 48120 + 10164 + 850),
    ("mlp", (1, 28, 28), 47, {"hidden": (100,)}, 78500 + 4747),
    ("mlp", (1, 2, 2), 3, {"hidden": ()}, 15),
    ("linear", (1, 28, 28), 10, {}, 7850),
    # Convolutions and batch norms of the stem and the three stages, 1x1 shortcuts of the last two; the linear layer.
    (
        "resnet8", (3, 32, 32), 10, {},
        432 + 32 + (2 * 2304 + 64) + (4608 + 9216 + 512 + 192) + (18432 + 36864 + 2048 + 384) + 650,
    ),
    ("airbench", (3, 32, 32), 10, {"size": 93}, 569_656),
    # Whitening, the convolutions of three blocks, the linear layer, factors and biases of six batch norms.
    (
        "airbench", (3, 32, 32), 10, {},
        312 + 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256) + 2560 + 4 * (64 + 256 + 256),
    ),
    ("airbench", (3, 32, 32), 10, {"size": 95}, 4_606_520),
    ("airbench", (3, 32, 32), 10, {"size": 93, "width": 32}, 146_744),
    ("airbench", (1, 28, 28), 47, {"size": 93}, 40 + 9 * (8 * 64 + 64 * 64 + 64 * 128 + 3 * 128 * 128) + 6016 + 1280),
    (
        "resnet8", (1, 8, 8), 10, {"width": 4},
        36 + 8 + (2 * 144 + 16) + (288 + 576 + 32 + 48) + (1152 + 2304 + 128 + 96) + 170,
    ),
    # As published, or counted by others (kuangliu/pytorch-cifar; those of the first version of this program).
    ("resnet20", (3, 32, 32), 10, {}, 269_722),
    ("resnet20", (3, 32, 32), 10, {"shortcut": "projection"}, 272_474),
    ("resnet32", (3, 32, 32), 10, {}, 464_154),
    ("resnet44", (3, 32, 32), 10, {}, 658_586),
    ("resnet56", (3, 32, 32), 10, {}, 853_018),
    ("resnet18", (3, 32, 32), 10, {}, 11_173_962),
    ("vgg16", (3, 32, 32), 10, {}, 15_245_130),
    ("vgg16", (3, 32, 32), 10, {"batch_norm": True}, 15_245_130 + 4224),  # two for each channel, less a bias
    ("mobilenet_v1", (3, 32, 32), 10, {}, 3_217_226),
    ("mobilenet_v1", (3, 32, 32), 10, {"stem_stride": 2}, 3_217_226),
    ("googlenet", (3, 32, 32), 10, {}, 5_841_578),
    ("alexnet", (3, 32, 32), 10, {}, 21_622_154),
    # Larger images: 6x6 pixels before the first linear layer, as in the paper, whose convolutions are in two groups.
    ("alexnet", (3, 224, 224), 1000, {}, 21_622_154 + (36 - 1) * 256 * 4096 + 990 * 4097),
]  # fmt: skip


@pytest.mark.parametrize(("name", "shape", "classes", "config", "count"), COUNTS)
def test_parameter_counts(name, shape, classes, config, count):
    model = MODELS[name](input_shape=shape, classes=classes, **config)
    assert _count(model) == count
    assert model(ops.images((5, *shape))).shape == (5, classes)


def test_lenet5_has_the_parameters_of_the_first_version():
    model = MODELS["lenet5"](input_shape=(1, 28, 28), classes=47)
    assert _count(model) == 47_571
    assert {name: p.shape for name, p in model.parameters().items()} == {
        "conv1.weight": (6, 1, 5, 5), "conv1.bias": (6,), "conv2.weight": (16, 6, 5, 5), "conv2.bias": (16,),
        "fc1.weight": (120, 256), "fc1.bias": (120,), "fc2.weight": (84, 120), "fc2.bias": (84,),
        "fc3.weight": (47, 84), "fc3.bias": (47,),
    }  # fmt: skip
    initial = {name: p.attrs["initial"] for name, p in model.parameters().items()}
    assert initial["conv2.weight"] == Uniform(math.sqrt(6 / 150))
    assert initial["fc1.bias"] == Uniform(0.0)


@pytest.mark.parametrize(
    ("init", "initial"),
    [
        ("kaiming", Uniform(math.sqrt(6 / 20))),
        ("kaiming_normal", Normal(math.sqrt(2 / 20))),
        ("xavier", Uniform(math.sqrt(6 / 23))),
        ("lecun", Uniform(math.sqrt(3 / 20))),
        ("pytorch", Uniform(math.sqrt(1 / 20))),
        ("dirac", Dirac(Uniform(math.sqrt(1 / 20)))),
    ],
)
def test_initializers(init, initial):
    model = MODELS["linear"](input_shape=(1, 4, 5), classes=3, init=init)
    assert model.parameters()["fc.weight"].attrs["initial"] == initial


def test_every_initializer_is_tested():
    assert set(INITIALIZERS) == {"kaiming", "kaiming_normal", "xavier", "lecun", "pytorch", "dirac"}


@pytest.mark.parametrize("name", MODELS)
def test_the_smallest_images_that_are_taken_run(name):
    smallest = {"airbench": 25, "lenet5": 16, "lenet5_1998": 28, "vgg16": 32, "alexnet": 31}.get(name, 1)
    needed = {"layers": {"layers": ["flatten", "linear classes"]}}.get(name, {})
    model = MODELS[name](input_shape=(2, smallest, smallest), classes=4, **needed)
    assert model(ops.images((3, 2, smallest, smallest))).shape == (3, 4)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("lenet5", (1, 15, 28), "lenet5: images must be at least 16x16 pixels, got 15x28; choose model=mlp"),
        ("airbench", (3, 24, 32), "airbench: images must be at least 25x25 pixels, got 24x32; choose model=resnet8"),
        ("lenet5", (1, 28, 4), "lenet5: images must be at least 16x16 pixels, got 28x4"),
        ("lenet5_1998", (1, 27, 28), "lenet5_1998: images must be at least 28x28 pixels, got 27x28"),
        ("vgg16", (3, 32, 31), "vgg16: images must be at least 32x32 pixels, got 32x31; choose model=resnet20"),
        ("alexnet", (3, 30, 40), "alexnet: images must be at least 31x31 pixels, got 30x40; choose model=resnet20"),
    ],
)
def test_images_that_are_too_small_are_refused(name, shape, message):
    with pytest.raises(ShapeError, match=re.escape(message)):
        MODELS[name](input_shape=shape, classes=10)


def test_mlp_refuses_empty_layers():
    with pytest.raises(ConfigError, match=r"model\.hidden: expected an integer at least 1, got \(3, 0\)"):
        MODELS["mlp"](input_shape=(1, 4, 4), classes=2, hidden=(3, 0))
