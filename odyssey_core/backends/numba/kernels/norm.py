"""Batch normalisation. Statistics are sums over the batch: each block adds its part, later levels read the total."""

import math

import numpy as np

from odyssey_core.backends.numba.instruction import Constant, Flag, Index, instruction
from odyssey_core.backends.numba.lower import Fusion, Lowering, lowers
from odyssey_core.backends.numba.memory import load, store
from odyssey_core.backends.numba.operands import Stage
from odyssey_core.backends.numba.step_feed import image, lanes
from odyssey_core.backends.numba.traced import LANES, on_lanes
from odyssey_core.backends.numba.vector import fma, splat, sqrt, total, where
from odyssey_core.tensor import Tensor

ZERO, ONE, NO_FLOOR = np.float32(0), np.float32(1), np.float32(-np.inf)


def _shapes(d):
    images, channels = (d["channels"], d["pixels"], LANES), (d["channels"],)
    per_channel = (
        "weight", "bias", "mean", "variance", "grad_weight", "grad_bias", "statistic", "dw",
    )  # fmt: skip
    shapes = dict.fromkeys(("x", "y", "grad", "dx"), images) | dict.fromkeys(per_channel, channels)
    return {**shapes, "of_images": (LANES,)}


@instruction(reads="x of_images", writes="statistic", shapes=_shapes)
def channel_mean(memory, block, x, of_images, statistic, channels, pixels, first_block: Index):
    """statistic += the mean of each channel over pixels, weighted by image."""
    weight = load(memory, of_images) / np.float32(pixels)
    for c in range(channels):
        summed = splat(ZERO)
        for at in range(x + c * pixels * LANES, x + (c + 1) * pixels * LANES, LANES):
            summed = summed + load(memory, at)
        term = total(summed * weight)
        memory[statistic + c] = term if block == first_block else memory[statistic + c] + term


@instruction(reads="x mean of_images", writes="statistic", shapes=_shapes)
def channel_variance(memory, block, x, mean, of_images, statistic, channels, pixels, first_block: Index):
    """statistic += the mean of (x - mean)^2 of each channel over pixels, weighted by image."""
    weight = load(memory, of_images) / np.float32(pixels)
    for c in range(channels):
        summed, middle = splat(ZERO), splat(memory[mean + c])
        for at in range(x + c * pixels * LANES, x + (c + 1) * pixels * LANES, LANES):
            apart = load(memory, at) - middle
            summed = fma(apart, apart, summed)
        term = total(summed * weight)
        memory[statistic + c] = term if block == first_block else memory[statistic + c] + term


@on_lanes
def _inverse_root(variance, eps):
    """1 / sqrt(variance + eps), of numbers."""
    return ONE / sqrt(splat(variance) + splat(eps))


@instruction(reads="x weight bias mean variance", writes="y", shapes=_shapes)
def normalize2d(memory, x, weight, bias, mean, variance, y, channels, pixels, relu: Flag, eps: Constant):
    """y = relu?((x - mean) weight / sqrt(variance + eps) + bias)."""
    low = splat(ZERO if relu else NO_FLOOR)
    for c in range(channels):
        inverse, middle = _inverse_root(memory[variance + c], eps), splat(memory[mean + c])
        scale, shift = splat(memory[weight + c]), splat(memory[bias + c])
        for at in range(c * pixels * LANES, (c + 1) * pixels * LANES, LANES):
            value = fma((load(memory, x + at) - middle) * inverse, scale, shift)
            store(memory, y + at, where(low > value, low, value))


@instruction(reads="x mean variance grad", writes="dw", shapes=_shapes)
def batch_norm2d_grad_weight(
    memory, block, x, mean, variance, grad, dw, channels, pixels, first_block: Index, eps: Constant
):
    """dw += the sum of (x - mean) / sqrt(variance + eps) grad."""
    for c in range(channels):
        summed, middle = splat(ZERO), splat(memory[mean + c])
        for at in range(c * pixels * LANES, (c + 1) * pixels * LANES, LANES):
            summed = fma(load(memory, x + at) - middle, load(memory, grad + at), summed)
        term = total(summed * _inverse_root(memory[variance + c], eps))
        memory[dw + c] = term if block == first_block else memory[dw + c] + term


@instruction(reads="x weight grad mean variance of_images grad_weight grad_bias", writes="dx", shapes=_shapes)
def batch_norm2d_grad_input(
    memory, x, weight, grad, mean, variance, of_images, grad_weight, grad_bias, dx, channels, pixels, eps: Constant
):
    """dx = weight / sqrt(variance + eps) (grad - share (grad_bias + (x - mean) / sqrt(variance + eps) grad_weight)),
    share being each image's part of all values.
    """
    part = load(memory, of_images) / np.float32(pixels)
    for c in range(channels):
        inverse, middle = _inverse_root(memory[variance + c], eps), splat(memory[mean + c])
        scale, slope = inverse * memory[weight + c], inverse * memory[grad_weight + c]
        shift = splat(memory[grad_bias + c])
        for at in range(c * pixels * LANES, (c + 1) * pixels * LANES, LANES):
            through = fma(load(memory, x + at) - middle, slope, shift)
            store(memory, dx + at, scale * (load(memory, grad + at) - part * through))


def _buffer_shapes(d):
    return dict.fromkeys(("old", "mean", "variance", "y"), (d["channels"],))


@instruction(reads="old mean", writes="y", shapes=_buffer_shapes, updates=True)
def running_mean(memory, old, mean, y, channels, momentum: Constant):
    """y = (1 - momentum) old + momentum mean."""
    for c in range(channels):
        memory[y + c] = (ONE - momentum) * memory[old + c] + momentum * memory[mean + c]


@instruction(reads="old variance", writes="y", shapes=_buffer_shapes, updates=True)
def running_variance(memory, feed, step, old, variance, y, channels, pixels, momentum: Constant):
    """y = (1 - momentum) old + momentum variance n / (n - 1), n values of a channel in the step."""
    count = 0
    for i in range(lanes(feed)):
        count += pixels if image(feed, step, i) >= 0 else 0
    unbiased = np.float32(count) / np.float32(max(count - 1, 1))
    for c in range(channels):
        memory[y + c] = (ONE - momentum) * memory[old + c] + momentum * (memory[variance + c] * unbiased)


def _sizes(x: Tensor) -> dict[str, int]:
    return {"channels": x.shape[1], "pixels": math.prod(x.shape[2:])}


def _values(low: Lowering, x: Tensor):
    return low.laned(x, tuple(_sizes(x).values()))


@lowers("channel_mean")
def _lower_channel_mean(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, of_images = node.inputs
    statistic = low.result(outer).shaped(node.shape)
    low.row(channel_mean, x=_values(low, x), of_images=low.laned(of_images), statistic=statistic, **_sizes(x))


@lowers("channel_variance")
def _lower_channel_variance(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, mean, of_images = node.inputs
    low.row(
        channel_variance, x=_values(low, x), mean=low.total(mean), of_images=low.laned(of_images),
        statistic=low.result(outer).shaped(node.shape), **_sizes(x),
    )  # fmt: skip


@lowers("batch_norm2d", "normalize2d", fuses=[Fusion("relu")])
def _lower_normalize2d(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, weight, bias, mean, variance = node.inputs[:5]
    y = low.result(outer).shaped((*_sizes(x).values(), LANES))
    low.row(
        normalize2d, x=_values(low, x), weight=low.held(weight), bias=low.held(bias), mean=low.total(mean),
        variance=low.total(variance), y=y, **_sizes(x), relu=outer is not node, eps=node.attrs["eps"],
    )  # fmt: skip


@lowers("batch_norm2d_grad_weight")
def _lower_grad_weight(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, mean, variance, grad = node.inputs
    low.row(
        batch_norm2d_grad_weight, x=_values(low, x), mean=low.total(mean), variance=low.total(variance),
        grad=_values(low, grad), dw=low.result(outer).shaped(node.shape), **_sizes(x), eps=node.attrs["eps"],
    )  # fmt: skip


@lowers("batch_norm2d_grad_input")
def _lower_grad_input(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, weight, grad, mean, variance, of_images, grad_weight, grad_bias = node.inputs
    dx = low.result(outer).shaped((*_sizes(x).values(), LANES))
    low.row(
        batch_norm2d_grad_input, x=_values(low, x), weight=low.held(weight), grad=_values(low, grad),
        mean=low.total(mean), variance=low.total(variance), of_images=low.laned(of_images),
        grad_weight=low.total(grad_weight), grad_bias=low.total(grad_bias), dx=dx, **_sizes(x), eps=node.attrs["eps"],
    )  # fmt: skip


def _kept(low: Lowering, node: Tensor, outer: Tensor):
    """The buffer that a node changes, in whose place its new value goes."""
    low.places[outer] = low.places[node.inputs[0]]
    return {"old": low.held(node.inputs[0]), "y": low.held(outer), "channels": node.shape[0]}


@lowers("running_mean")
def _lower_running_mean(low: Lowering, node: Tensor, outer: Tensor) -> None:
    mean, momentum = low.total(node.inputs[1]), node.attrs["momentum"]
    low.row(running_mean, **_kept(low, node, outer), mean=mean, momentum=momentum, stage=Stage.STEP)


@lowers("running_variance")
def _lower_running_variance(low: Lowering, node: Tensor, outer: Tensor) -> None:
    variance = low.total(node.inputs[1])
    low.row(running_variance, **_kept(low, node, outer), variance=variance, **node.attrs, stage=Stage.STEP)
