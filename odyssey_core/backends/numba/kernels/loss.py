"""Softmax cross-entropy on lanes."""

import numpy as np
from numba import njit

from odyssey_core.backends.numba.mathematics import exp, log
from odyssey_core.backends.numba.simd import (
    LANES,
    add,
    at_least,
    div,
    float_of,
    fma,
    insert,
    load,
    mul,
    splat,
    store,
    sub,
)
from odyssey_core.backends.numba.table import Instruction

ZERO, ONE = np.float32(0), np.float32(1)


@njit
def _softmax_parts(arena, logits, classes):
    """The largest logit of each lane, and the sum of exp(logit - largest)."""
    largest = load(arena, logits)
    for k in range(1, classes):
        largest = at_least(largest, load(arena, logits + k * LANES))
    summed = splat(ZERO)
    for k in range(classes):
        summed = add(summed, exp(sub(load(arena, logits + k * LANES), largest)))
    return largest, summed


def build_cross_entropy():
    """The loss of each lane: log-sum-exp - (1 - s) logit[target] - s mean(logits); 0 for a lane without an image."""

    def cross_entropy(arena, row, feed, step, block):
        logits, losses, classes, smoothing = row[1], row[2], row[3], float_of(row[4])
        largest, summed = _softmax_parts(arena, logits, classes)
        loss = add(largest, log(summed))
        chosen, alive = splat(ZERO), splat(ZERO)
        for lane in range(LANES):
            image = feed.order[step, block * LANES + lane]
            if image >= 0:
                chosen = insert(chosen, lane, arena[logits + feed.labels[image] * LANES + lane])
                alive = insert(alive, lane, ONE)
        loss = fma(splat(-(ONE - smoothing)), chosen, loss)
        if smoothing > ZERO:
            every = splat(ZERO)
            for k in range(classes):
                every = add(every, load(arena, logits + k * LANES))
            loss = fma(splat(-smoothing / np.float32(classes)), every, loss)
        store(arena, losses, mul(loss, alive))

    return cross_entropy


def build_cross_entropy_grad():
    """(softmax(logits) - q) grad, q = (1 - s) onehot(target) + s / classes."""

    def cross_entropy_grad(arena, row, feed, step, block):
        logits, grad, dz, classes, smoothing = row[1], row[2], row[3], row[4], float_of(row[5])
        largest, summed = _softmax_parts(arena, logits, classes)
        weight = load(arena, grad)
        scale = div(weight, summed)
        every = mul(weight, splat(-smoothing / np.float32(classes)))
        for k in range(classes):
            share = exp(sub(load(arena, logits + k * LANES), largest))
            store(arena, dz + k * LANES, fma(share, scale, every))
        for lane in range(LANES):
            image = feed.order[step, block * LANES + lane]
            if image >= 0:
                arena[dz + feed.labels[image] * LANES + lane] -= (ONE - smoothing) * arena[grad + lane]

    return cross_entropy_grad


CROSS_ENTROPY = Instruction(
    "cross_entropy", build_cross_entropy, ("logits",), ("losses",), ("classes",),
    lambda d: {"logits": (d["classes"], LANES), "losses": (LANES,)}, constants=("label_smoothing",), per_block=True,
)  # fmt: skip
CROSS_ENTROPY_GRAD = Instruction(
    "cross_entropy_grad", build_cross_entropy_grad, ("logits", "grad"), ("dz",), ("classes",),
    lambda d: {"logits": (d["classes"], LANES), "grad": (LANES,), "dz": (d["classes"], LANES)},
    constants=("label_smoothing",), per_block=True,
)  # fmt: skip
