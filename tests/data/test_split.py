"""The validation split and the order of an epoch."""

import numpy as np
import pytest

from odyssey_core.data import epoch_order, stratified_split
from odyssey_core.errors import ConfigError


def test_split_by_hand():
    # 5 of 12 images; classes of 6, 4 and 2 have shares 2.5, 1.67 and 0.83: 2 + 1 + 0 and two more to classes 2 and 1.
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    train, validation = stratified_split(labels, 5, seed=3)
    assert np.bincount(labels[validation]).tolist() == [2, 2, 1]
    assert sorted([*train, *validation]) == list(range(12))
    assert train.dtype == validation.dtype == np.int64


@pytest.mark.parametrize("size", [47, 100, 4999, 20_000])
def test_split_is_exact_sorted_and_proportional(size):
    labels = np.random.default_rng(0).integers(0, 47, 30_000) ** 2 // 47
    train, validation = stratified_split(labels, size, seed=0)
    assert len(validation) == size and len(train) == 30_000 - size
    assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()
    assert len(np.intersect1d(train, validation)) == 0
    exact = np.bincount(labels) * size / 30_000
    assert (np.abs(np.bincount(labels[validation], minlength=len(exact)) - exact) < 1).all()


def test_split_depends_on_seed_alone():
    labels = np.arange(1000) % 10
    first, again, other = (stratified_split(labels, 100, seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_a_class_that_does_not_occur():
    train, validation = stratified_split(np.array([0, 0, 2, 2]), 2, seed=0)
    assert len(train) == len(validation) == 2


@pytest.mark.parametrize("size", [-1, 0, 9, 100, 5000])
def test_split_size_out_of_range(size):
    message = rf"validation split: expected between 10 .* and 99 images \(there are 100 .*\), got {size}; change"
    with pytest.raises(ConfigError, match=message):
        stratified_split(np.arange(100) % 10, size, seed=0)


@pytest.mark.parametrize(("count", "batch", "steps"), [(10, 4, 3), (8, 4, 2), (5, 5, 1), (3, 1, 3)])
def test_order_has_every_index_once(count, batch, steps):
    indices = np.arange(count) * 7
    order = epoch_order(indices, batch, seed=0, epoch=0)
    assert order.shape == (steps, batch) and order.dtype == np.int64
    flat = order.reshape(-1)
    assert sorted(flat[:count]) == indices.tolist() and (flat[count:] == -1).all()


def test_order_differs_by_epoch_and_seed_and_is_shuffled():
    indices = np.arange(1000)
    orders = [epoch_order(indices, 10, seed, epoch).reshape(-1) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (orders[a] == orders[b]).mean() < 0.02
    assert (orders[0] == indices).mean() < 0.02
    assert np.array_equal(orders[1], epoch_order(indices, 10, 0, 1).reshape(-1))


@pytest.mark.parametrize("batch", [-1, 0, 11])
def test_batch_size_out_of_range(batch):
    with pytest.raises(ConfigError, match=rf"batch_size: expected between 1 and 10 \(the number .*\), got {batch}"):
        epoch_order(np.arange(10), batch, seed=0, epoch=0)
