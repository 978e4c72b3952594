"""Weights' gradients that are summed in slices when a level's walk over the blocks is done."""

import numpy as np
import pytest
from harness import numba_backend

from odyssey_core import ops
from odyssey_core.backends.numba.kernels import weight_slices
from odyssey_core.data.dataset import Images
from odyssey_core.learner import Learner
from odyssey_core.nn import BatchNorm2d, Conv2d, Linear, Module
from odyssey_core.optim import SGD
from odyssey_core.testing.graph import reference

RNG = np.random.default_rng(0)
DATA = Images(RNG.integers(0, 256, (32, 3, 5, 5), np.uint8), RNG.integers(0, 4, 32))


class Gate(Module):
    """What the large convolution reads is multiplied by the last step of a level, in memory of the same size."""

    def __init__(self):
        self.gate, self.frozen = Conv2d(3, 16, 3, padding=1), Conv2d(3, 16, 3, padding=1)
        self.norm, self.large = BatchNorm2d(16), Conv2d(16, 40, 3, padding=1)
        self.mix, self.norm2, self.fc = Conv2d(72, 16, 1), BatchNorm2d(16), Linear(16, 4)

    def forward(self, x):
        gate, x = self.gate(x), ops.relu(self.frozen(x))
        h = ops.concat(x * gate, self.norm(gate), self.large(x))
        return self.fc(ops.global_avg_pool2d(self.norm2(self.mix(h))))


class Twice(Module):
    """One linear layer used twice: its gradient is a sum of two."""

    def __init__(self):
        self.linear, self.fc = Linear(75, 75), Linear(75, 4)

    def forward(self, x):
        return self.fc(ops.tanh(self.linear(ops.tanh(self.linear(ops.flatten(x))))))


@pytest.mark.parametrize(("model", "frozen"), [(Gate, "frozen.*"), (Twice, None)])
def test_gradients_are_the_references(model, frozen, monkeypatch):
    monkeypatch.setattr(weight_slices, "LARGE", 200)
    groups = ({"match": frozen, "lr": 0.0},) if frozen else ()
    found = []
    for backend in (reference, numba_backend):
        learner = Learner(model(), SGD(0.1, groups=groups), backend(), input_shape=(3, 5, 5), batch_size=32, std=0.5)
        found.append(learner.gradients(DATA, np.arange(32)))
    for name, expected in found[0].items():
        largest = max(np.abs(expected).max(), 1e-3)  # biases before a batch norm have no gradient but rounding
        np.testing.assert_allclose(found[1][name], expected, rtol=0, atol=1e-4 * largest, err_msg=name)
