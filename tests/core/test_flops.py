"""Counting useful arithmetic: LeNet-5 by hand."""

import pytest

from odyssey_core import ops
from odyssey_core.autodiff import gradients
from odyssey_core.flops import flops
from odyssey_core.models import MODELS

# Multiply-adds of one image: outputs x the inputs behind each of them.
CONV1, CONV2 = 6 * 24 * 24 * (1 * 5 * 5), 16 * 8 * 8 * (6 * 5 * 5)
LINEAR = 256 * 120 + 120 * 84 + 84 * 47


@pytest.mark.parametrize("batch", [1, 32])
def test_lenet5_by_hand(batch):
    model = MODELS["lenet5"]((1, 28, 28), 47)
    parameters = list(model.parameters().values())
    logits = model(ops.images((batch, 1, 28, 28)))
    losses = ops.cross_entropy(logits, ops.labels(batch))
    assert flops([logits]) == batch * 2 * (CONV1 + CONV2 + LINEAR) == batch * 569_496
    # Backward as much again for the weights and for the inputs, but the images need no gradient.
    training = 3 * (CONV1 + CONV2 + LINEAR) - CONV1
    assert flops([losses, *gradients(losses, parameters)]) == batch * 2 * training == batch * 1_535_688


def test_strides_and_borders_count_what_comes_out():
    x = ops.images((4, 3, 9, 9))
    y = ops.conv2d(x, ops.parameter("w", (8, 3, 3, 3)), stride=2, padding=1)
    assert y.shape == (4, 8, 5, 5)
    assert flops([y]) == 2 * (4 * 8 * 5 * 5) * (3 * 3 * 3)


def test_a_shared_node_counts_once():
    x = ops.input_("x", (2, 10))
    y = ops.linear(x, ops.parameter("w", (5, 10)))
    assert flops([ops.add(y, y), y]) == 2 * 2 * 5 * 10
