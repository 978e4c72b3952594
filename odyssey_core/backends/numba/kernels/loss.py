"""Losses on lanes: softmax cross-entropy and the squared error of one-hot vectors."""

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.elementary import exp, log
from odyssey_core.backends.numba.instruction import Constant, instruction
from odyssey_core.backends.numba.kernels.activations import softmax_parts
from odyssey_core.backends.numba.lower import Lowering, lowers
from odyssey_core.backends.numba.memory import load, store
from odyssey_core.backends.numba.step_feed import image, label
from odyssey_core.backends.numba.traced import LANES, on_lanes
from odyssey_core.backends.numba.vector import at_least, fma, insert, splat, where
from odyssey_core.tensor import Tensor

ZERO, ONE, TWO = np.float32(0), np.float32(1), np.float32(2)


def _shapes(d):
    logits, losses = (d["classes"], LANES), (LANES,)
    return {"logits": logits, "losses": losses, "grad": losses, "dz": logits}


@instruction(reads="logits", writes="losses", shapes=_shapes)
def cross_entropy(memory, feed, step, block, logits, losses, classes, label_smoothing: Constant):
    """The loss of each lane: log-sum-exp - (1 - s) logit[label] - s mean(logits); 0 for a lane without an image.

    The largest logit is taken off before anything is added, so that a small loss keeps its digits.
    """
    largest, summed = softmax_parts(memory, logits, classes)
    chosen, alive = splat(ZERO), splat(ZERO)
    for lane in range(LANES):
        which = image(feed, step, block * LANES + lane)
        if which >= 0:
            chosen = insert(chosen, lane, memory[logits + label(feed, which) * LANES + lane])
            alive = insert(alive, lane, ONE)
    loss = fma(-(ONE - label_smoothing), chosen - largest, log(summed))
    if label_smoothing > ZERO:
        every = splat(ZERO)
        for k in range(classes):
            every = every + (load(memory, logits + k * LANES) - largest)
        loss = fma(-label_smoothing / np.float32(classes), every, loss)
    store(memory, losses, loss * alive)


@instruction(reads="logits grad", writes="dz", shapes=_shapes)
def cross_entropy_grad(memory, feed, step, block, logits, grad, dz, classes, label_smoothing: Constant):
    """(softmax(logits) - q) grad, q = (1 - s) onehot(label) + s / classes."""
    largest, summed = softmax_parts(memory, logits, classes)
    weight = load(memory, grad)
    scale = weight / summed
    every = weight * (-label_smoothing / np.float32(classes))
    for k in range(classes):
        store(memory, dz + k * LANES, fma(exp(load(memory, logits + k * LANES) - largest), scale, every))
    for lane in range(LANES):
        which = image(feed, step, block * LANES + lane)
        if which >= 0:
            at = dz + label(feed, which) * LANES + lane
            memory[at] = memory[at] - (ONE - label_smoothing) * memory[grad + lane]


@register_jitable
def _labels(feed, step, block):
    """The label of each lane as a number, -1 for a lane without an image."""
    own = splat(-ONE)
    for lane in range(LANES):
        which = image(feed, step, block * LANES + lane)
        if which >= 0:
            own = insert(own, lane, np.float32(label(feed, which)))
    return own


@on_lanes
def _distance(own, k, value):
    """A logit less what the one-hot label has for class k, which loses nothing where the two are nearly the same."""
    return where(own == k, value - ONE, value)


@instruction(reads="logits", writes="losses", shapes=_shapes)
def squared_error(memory, feed, step, block, logits, losses, classes):
    """The mean over the classes of (logit - onehot(label))^2 in each lane; 0 for a lane without an image."""
    own, summed = _labels(feed, step, block), splat(ZERO)
    for k in range(classes):
        apart = _distance(own, splat(np.float32(k)), load(memory, logits + k * LANES))
        summed = fma(apart, apart, summed)
    store(memory, losses, where(own < ZERO, splat(ZERO), summed) / np.float32(classes))


@instruction(reads="logits grad", writes="dz", shapes=_shapes)
def squared_error_grad(memory, feed, step, block, logits, grad, dz, classes):
    """2 / classes (logit - onehot(label)) grad; 0 for a lane without an image."""
    own = _labels(feed, step, block)
    scale = where(own < ZERO, splat(ZERO), load(memory, grad) * (TWO / np.float32(classes)))
    for k in range(classes):
        apart = _distance(own, splat(np.float32(k)), load(memory, logits + k * LANES))
        store(memory, dz + k * LANES, apart * scale)


@register_jitable
def _of_labels(memory, logits, classes, own):
    """The logit of each lane's label, 0 for a lane without an image."""
    chosen = splat(ZERO)
    for k in range(classes):
        chosen = where(own == splat(np.float32(k)), load(memory, logits + k * LANES), chosen)
    return chosen


@on_lanes
def _margin(own, k, chosen, value):
    """max(0, 1 - chosen + value); 0 where k is the label, or where there is none."""
    return where((own == k) | (own < ZERO), ZERO, at_least(ONE - chosen + value, ZERO))


@instruction(reads="logits", writes="losses", shapes=_shapes)
def multi_margin(memory, feed, step, block, logits, losses, classes):
    """The mean over the classes of the margins that the others miss, in each lane; 0 for a lane without an image."""
    own, summed = _labels(feed, step, block), splat(ZERO)
    chosen = _of_labels(memory, logits, classes, own)
    for k in range(classes):
        summed = summed + _margin(own, splat(np.float32(k)), chosen, load(memory, logits + k * LANES))
    store(memory, losses, summed / np.float32(classes))


@instruction(reads="logits grad", writes="dz", shapes=_shapes)
def multi_margin_grad(memory, feed, step, block, logits, grad, dz, classes):
    """grad / classes where another class misses its margin; for the label, less the sum of those."""
    own, summed = _labels(feed, step, block), splat(ZERO)
    chosen = _of_labels(memory, logits, classes, own)
    weight = load(memory, grad) / np.float32(classes)
    for k in range(classes):
        margin = _margin(own, splat(np.float32(k)), chosen, load(memory, logits + k * LANES))
        missed = where(margin > ZERO, weight, splat(ZERO))
        store(memory, dz + k * LANES, missed)
        summed = summed + missed
    for k in range(classes):
        missed = load(memory, dz + k * LANES)
        store(memory, dz + k * LANES, where(own == splat(np.float32(k)), splat(ZERO) - summed, missed))


def _loss(instruction):
    def lower(low: Lowering, node: Tensor, outer: Tensor) -> None:
        logits = node.inputs[0]
        losses = low.result(outer).shaped((LANES,))
        low.row(instruction, logits=low.laned(logits), losses=losses, classes=logits.shape[1], **node.attrs)

    return lower


def _loss_grad(instruction):
    def lower(low: Lowering, node: Tensor, outer: Tensor) -> None:
        logits, _, grad = node.inputs
        dz = low.result(outer).shaped((logits.shape[1], LANES))
        low.row(
            instruction, logits=low.laned(logits), grad=low.laned(grad), dz=dz, classes=logits.shape[1], **node.attrs
        )

    return lower


lowers("cross_entropy")(_loss(cross_entropy))
lowers("cross_entropy_grad")(_loss_grad(cross_entropy_grad))
lowers("squared_error")(_loss(squared_error))
lowers("squared_error_grad")(_loss_grad(squared_error_grad))
lowers("multi_margin")(_loss(multi_margin))
lowers("multi_margin_grad")(_loss_grad(multi_margin_grad))
