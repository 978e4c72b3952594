"""The checks of plug-ins: the library's own parts go through them, and what is wrong does not."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from odyssey_core import ops
from odyssey_core.data import DATASETS, Dataset, Images
from odyssey_core.data.preparation import Preparation
from odyssey_core.errors import ConfigError, DataError
from odyssey_core.models import MODELS
from odyssey_core.optim import OPTIMIZERS, Optimizer
from odyssey_core.tensor import Op
from odyssey_core.testing import check_dataset, check_model, check_op, check_optimizer

SHAPES = {"lenet5": (1, 16, 16), "lenet5_1998": (1, 28, 28)}
NEEDED = {"layers": {"layers": ["conv 4 3 padding 1", "batch_norm", "relu", "max_pool 2", "flatten", "linear classes"]}}
# Whose steps are held to PyTorch's: behind many batch norms of few images differences say little, and take minutes.
BESIDE_PYTORCH = {
    "airbench", "alexnet", "googlenet", "mobilenet_v1", "resnet18", "resnet20", "resnet32", "resnet44", "resnet56",
    "vgg16",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in MODELS if name not in BESIDE_PYTORCH])
def test_models(name):
    check_model(
        lambda shape, classes: MODELS[name](shape, classes, **NEEDED.get(name, {})), SHAPES.get(name, (2, 8, 6))
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name):
    check_optimizer(OPTIMIZERS[name]())


def test_a_data_set():
    check_dataset(DATASETS["digits"])


def _cube(factor: float) -> Op:
    grad = Op("cube_grad", lambda x, g: x.shape, numpy=lambda x, g: factor * x * x * g)
    return Op("cube", lambda x: x.shape, lambda node, g: (grad(node.inputs[0], g),), numpy=lambda x: x**3)


def test_an_operation_of_ones_own_runs_on_the_reference_at_once():
    check_op(_cube(3), (3, 4), backends=["numpy"])
    with pytest.raises(ConfigError, match=r"^backend=numba has no kernel for the operations cube, cube_grad; choose"):
        check_op(_cube(3), (3, 4))


def test_a_composition_runs_everywhere():
    check_op(lambda x, w: ops.relu(ops.linear(x, w)) * 0.5 + ops.tanh(ops.linear(x, w)), (5,), parameters=[(4, 5)])


def test_a_wrong_gradient_rule_is_found():
    with pytest.raises(AssertionError, match="d x0: the gradient rule is off by"):
        check_op(_cube(3.01), (3, 4), backends=["numpy"])


def test_an_operation_with_the_name_of_another_is_refused():
    own = Op("relu", lambda x: x.shape, lambda node, grad: (grad,), numpy=lambda x: x)
    with pytest.raises(ConfigError, match=r"operation relu: odyssey_core\.ops has one of that name, which it is not"):
        check_op(lambda x: own(x), (3,))


def test_a_model_with_logits_of_another_shape_is_found():
    with pytest.raises(AssertionError, match=r"logits: expected shape \(1, 5\), got \(1, 6\)"):
        check_model(lambda shape, classes: MODELS["linear"](shape, classes + 1), (1, 4, 4))


@dataclass(frozen=True)
class Idle(Optimizer):
    lr: float = 0.1

    @property
    def rule(self):
        return idle


def idle(p, g, counter, *, lr):
    return p - lr * g, counter


def test_a_slot_that_nothing_changes_is_found():
    with pytest.raises(AssertionError, match="weight/counter: is the same after 6 steps"):
        check_optimizer(Idle())


def _set(labels, pixels=None):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 1, 3, 3), np.uint8) if pixels is None else pixels
    images = Images(pixels, np.array(labels, np.int64))
    return Dataset("toy", images, images, class_names=("a", "b", "c"))


def test_faults_of_a_data_set_are_found():
    check_dataset(_set([0, 1, 2, 0, 1, 2]))
    with pytest.raises(AssertionError, match="toy: no image to train on of b"):
        check_dataset(_set([0, 2, 2, 0, 0, 2]))
    with pytest.raises(DataError, match="unknown preparation 'squeeze'"):
        check_dataset(replace(_set([0, 1, 2, 0, 1, 2]), preparation=Preparation("squeeze")))
    rng = np.random.default_rng()
    with pytest.raises(AssertionError, match="toy: made twice, it has two digests"):
        check_dataset(lambda: _set([0, 1, 2, 0, 1, 2], rng.integers(0, 256, (6, 1, 3, 3), np.uint8)))
