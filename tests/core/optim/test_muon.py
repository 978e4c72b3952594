"""Muon's orthogonal matrices, LAMB's ratios: worked-out values, and the compiled kernel beside the reference."""

import math

import numpy as np
import pytest

from odyssey_core.backends.numba.kernels.orthogonal import orthogonalize, scratch
from odyssey_core.optim.lamb import lamb
from odyssey_core.optim.muon import orthogonalized, scale

SHAPES = [(1, 1), (3, 20), (20, 3), (5, 2, 3, 3)]


def _drawn(shape):
    return np.random.default_rng(3).normal(size=shape)


@pytest.mark.parametrize("shape", [*SHAPES, (17, 17)], ids=str)
def test_singular_values_come_close_to_one_and_vectors_stay(shape):
    matrix = _drawn(shape).reshape(shape[0], -1)
    found = orthogonalized(_drawn(shape)).reshape(matrix.shape) / scale(*matrix.shape)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    between = left.T @ found @ right.T
    large = values > values[0] / 10
    assert large.all() or min(shape) == 17
    assert np.diag(between)[large].min() > 0.65
    assert np.diag(between).max() < 1.25
    np.testing.assert_allclose(between, np.diag(np.diag(between)), atol=1e-12)


def test_a_matrix_of_one_number_is_worked_out():
    """x = 3.4445 x - 4.775 x^3 + 2.0315 x^5 from 1 on, five times."""
    x = 1.0
    for _ in range(5):
        x = 3.4445 * x - 4.775 * x**3 + 2.0315 * x**5
    assert orthogonalized(np.array([[-7.0]])) == pytest.approx(-x)
    np.testing.assert_allclose(orthogonalized(np.full((4, 1, 1), 2.0)), np.full((4, 1, 1), x), rtol=1e-12)
    assert (orthogonalized(np.zeros((2, 3))) == 0).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kernel_makes_what_the_reference_makes(shape):
    """In plain Python, which compiled kernels equal to the bit; rows that lie apart, memory full of NaN around them."""
    out, inputs = shape[0], math.prod(shape[1:])
    pitch, starts = inputs + 3, [0]
    for needed in scratch(out, inputs).values():
        starts.append(starts[-1] + math.prod(needed))
    grads, memory = starts[-1], np.full(starts[-1] + out * pitch, np.nan, np.float32)
    rows = memory[grads:].reshape(out, pitch)
    rows[:, :inputs] = _drawn(shape).reshape(out, inputs)
    orthogonalize.kernel(memory, grads, grads, *starts[:-1], out, inputs, pitch, np.float32(scale(out, inputs)))
    expected = orthogonalized(_drawn(shape)).reshape(out, inputs)
    np.testing.assert_allclose(rows[:, :inputs], expected, atol=2e-5)
    assert np.isnan(rows[:, inputs:]).all()


def test_lamb_goes_a_part_of_the_parameters_norm():
    """|p| / |u| is 5; where the parameter or the step is all 0, it is taken for 1."""
    moved = lamb(np.array([3.0, 4.0]), np.array([0.6, 0.8]), lr=0.1, parameter_norm=5.0, gradient_norm=1.0)
    np.testing.assert_allclose(moved, [2.7, 3.6])
    moved = lamb(np.zeros(2), np.array([3.0, 4.0]), lr=0.1, parameter_norm=0.0, gradient_norm=5.0)
    np.testing.assert_allclose(moved, [-0.3, -0.4])
    still = lamb(np.array([30.0, 40.0]), np.zeros(2), lr=0.1, parameter_norm=50.0, gradient_norm=0.0)
    assert still.tolist() == [30.0, 40.0]
