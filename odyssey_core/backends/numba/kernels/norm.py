"""Batch normalisation. Statistics are sums over the batch: each block adds its part, later levels read the total."""

import math

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.instruction import Constant, Flag, Index, Repeated, instruction
from odyssey_core.backends.numba.lower import Fusion, Lowering, lowers
from odyssey_core.backends.numba.memory import load, store
from odyssey_core.backends.numba.operands import Operand, Stage, padded
from odyssey_core.backends.numba.step_feed import image, lanes
from odyssey_core.backends.numba.traced import LANES, on_lanes
from odyssey_core.backends.numba.vector import fma, splat, sqrt, total, where
from odyssey_core.ops.activations import RELU
from odyssey_core.ops.affine import GRAD_BIAS
from odyssey_core.ops.elementwise import ADD
from odyssey_core.ops.norm import BATCH_NORM2D_GRAD_WEIGHT, NORMALIZE2D
from odyssey_core.tensor import Tensor

ZERO, ONE, NO_FLOOR = np.float32(0), np.float32(1), np.float32(-np.inf)


def _shapes(d):
    images, channels = (d["channels"], d["pixels"], LANES), (d["channels"],)
    per_channel = ("weight", "bias", "mean", "variance", "grad_weight", "grad_bias", "dw", "db")
    shapes = dict.fromkeys(("x", "y", "beside", "grad", "dx"), images) | dict.fromkeys(per_channel, channels)
    return {**shapes, "of_images": (LANES,), "moments": (_moments_size(d["channels"]),)}


def _moments_size(channels: int) -> int:
    """Elements of the means, of the sums of squares around them, and of the weight that both have."""
    return 2 * padded(channels) + LANES


@register_jitable
def _summed(memory, at, pixels):
    """The sum of a channel's vectors, in four chains."""
    s0, s1, s2, s3 = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
    for i in range(at, at + pixels // 4 * 4 * LANES, 4 * LANES):
        s0 = s0 + load(memory, i)
        s1 = s1 + load(memory, i + LANES)
        s2 = s2 + load(memory, i + 2 * LANES)
        s3 = s3 + load(memory, i + 3 * LANES)
    for i in range(at + pixels // 4 * 4 * LANES, at + pixels * LANES, LANES):
        s0 = s0 + load(memory, i)
    return (s0 + s1) + (s2 + s3)


@on_lanes
def _square_added(x, middle, summed):
    """summed + (x - middle)^2."""
    return fma(x - middle, x - middle, summed)


@register_jitable
def _squares(memory, at, pixels, middle):
    """The sum of a channel's squares around ``middle``, in four chains."""
    s0, s1, s2, s3 = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
    for i in range(at, at + pixels // 4 * 4 * LANES, 4 * LANES):
        s0 = _square_added(load(memory, i), middle, s0)
        s1 = _square_added(load(memory, i + LANES), middle, s1)
        s2 = _square_added(load(memory, i + 2 * LANES), middle, s2)
        s3 = _square_added(load(memory, i + 3 * LANES), middle, s3)
    for i in range(at + pixels // 4 * 4 * LANES, at + pixels * LANES, LANES):
        s0 = _square_added(load(memory, i), middle, s0)
    return (s0 + s1) + (s2 + s3)


@instruction(reads="x of_images", writes="moments", shapes=_shapes)
def channel_moments(memory, block, x, of_images, moments, channels, pixels, first_block: Index):
    """Takes the block into the mean of each channel and into its sum of squares around the mean, weighted by image.

    Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979:
    exact for any mean, in one walk over the blocks.
    """
    weight, pitch = load(memory, of_images), (channels + LANES - 1) // LANES * LANES
    share, own = weight / np.float32(pixels), total(weight)
    before = ZERO if block == first_block else memory[moments + 2 * pitch]
    after = before + own
    part = own / after if after > ZERO else ZERO
    for c in range(channels):
        at, place = x + c * pixels * LANES, moments + c
        mean = total(_summed(memory, at, pixels) * share) / own if own > ZERO else ZERO
        squares = total(_squares(memory, at, pixels, splat(mean)) * share)
        if before > ZERO:
            apart = mean - memory[place]
            mean = memory[place] + apart * part
            squares = memory[place + pitch] + squares + apart * apart * (before * part)
        memory[place], memory[place + pitch] = mean, squares
    memory[moments + 2 * pitch] = after


def _groups_shapes(d):
    length = d["length"]
    if length % (2 * LANES) != LANES or d["stride"] % LANES:
        raise ValueError(
            f"length {length} and stride {d['stride']} must be whole vectors, and length twice as many + 1"
        )
    return {"grads": Repeated((length,), d["groups"], d["stride"]), "summed": (length,)}


@instruction(reads="grads", writes="summed", shapes=_groups_shapes)
def moments_of_groups(memory, grads, summed, length, groups, stride: Index):
    """The means and the variances of the groups taken together, in order of group; the same formulas."""
    pitch = (length - LANES) // 2
    for c in range(0, pitch, LANES):
        mean, squares = load(memory, grads + c), load(memory, grads + pitch + c)
        before = memory[grads + 2 * pitch]
        for k in range(1, groups):
            other = grads + k * stride
            own = memory[other + 2 * pitch]
            after = before + own
            part = own / after if after > ZERO else ZERO
            apart = load(memory, other + c) - mean
            mean = fma(apart, splat(part), mean)
            squares = squares + load(memory, other + pitch + c) + apart * apart * (before * part)
            before = after
        store(memory, summed + c, mean)
        store(memory, summed + pitch + c, squares / before if before > ZERO else squares)
        store(memory, summed + 2 * pitch, splat(before))


@on_lanes
def _inverse_root(variance, eps):
    """1 / sqrt(variance + eps), of numbers."""
    return ONE / sqrt(splat(variance) + splat(eps))


@instruction(reads="x weight bias mean variance beside?", writes="y", shapes=_shapes)
def normalize2d(memory, x, weight, bias, mean, variance, beside, y, channels, pixels, relu: Flag, eps: Constant):
    """y = relu?((x - mean) weight / sqrt(variance + eps) + bias + beside)."""
    low = splat(ZERO if relu else NO_FLOOR)
    for c in range(channels):
        inverse, middle = _inverse_root(memory[variance + c], eps), splat(memory[mean + c])
        scale, shift = splat(memory[weight + c]), splat(memory[bias + c])
        if beside >= 0:
            for at in range(c * pixels * LANES, (c + 1) * pixels * LANES, LANES):
                value = fma((load(memory, x + at) - middle) * inverse, scale, shift) + load(memory, beside + at)
                store(memory, y + at, where(low > value, low, value))
        else:
            for at in range(c * pixels * LANES, (c + 1) * pixels * LANES, LANES):
                value = fma((load(memory, x + at) - middle) * inverse, scale, shift)
                store(memory, y + at, where(low > value, low, value))


@instruction(reads="x mean variance grad", writes="dw db?", shapes=_shapes)
def batch_norm2d_grad_weight(
    memory, block, x, mean, variance, grad, dw, db, channels, pixels, first_block: Index, eps: Constant
):
    """dw += the sum of (x - mean) / sqrt(variance + eps) grad, db += the sum of grad where it is asked for."""
    for c in range(channels):
        summed, plain, middle = splat(ZERO), splat(ZERO), splat(memory[mean + c])
        for at in range(c * pixels * LANES, (c + 1) * pixels * LANES, LANES):
            value = load(memory, grad + at)
            summed, plain = fma(load(memory, x + at) - middle, value, summed), plain + value
        term = total(summed * _inverse_root(memory[variance + c], eps))
        memory[dw + c] = term if block == first_block else memory[dw + c] + term
        if db >= 0:
            memory[db + c] = total(plain) if block == first_block else memory[db + c] + total(plain)


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


def _normalization_shapes(d):
    rows = (padded(d["channels"]),)
    return dict.fromkeys(("weight", "bias", "mean", "variance"), rows) | {"norm": (4, *rows)}


@instruction(reads="weight bias mean variance", writes="norm", shapes=_normalization_shapes)
def normalization(memory, weight, bias, mean, variance, norm, channels, eps: Constant):
    """norm (4, channels) = mean, 1 / sqrt(variance + eps), weight, bias: what `tile_normalized` takes."""
    pitch = (channels + LANES - 1) // LANES * LANES
    for c in range(0, pitch, LANES):
        store(memory, norm + c, load(memory, mean + c))
        store(memory, norm + pitch + c, _inverse_root(load(memory, variance + c), eps))
        store(memory, norm + 2 * pitch + c, load(memory, weight + c))
        store(memory, norm + 3 * pitch + c, load(memory, bias + c))


def _buffer_shapes(d):
    return dict.fromkeys(("old", "mean", "variance", "y"), (d["channels"],))


@instruction(reads="old mean", writes="y", shapes=_buffer_shapes, updates=frozenset("y"))
def running_mean(memory, old, mean, y, channels, momentum: Constant):
    """y = (1 - momentum) old + momentum mean."""
    for c in range(channels):
        memory[y + c] = (ONE - momentum) * memory[old + c] + momentum * memory[mean + c]


@instruction(reads="old variance", writes="y", shapes=_buffer_shapes, updates=frozenset("y"))
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


@lowers("channel_moments")
def _lower_channel_moments(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, of_images = node.inputs
    low.combined_by[outer] = moments_of_groups
    moments = low.result(outer, size=_moments_size(x.shape[1]))
    low.row(
        channel_moments, x=_values(low, x), of_images=low.laned(of_images), moments=moments.shaped((moments.size,)),
        **_sizes(x),
    )  # fmt: skip


def _moments(low: Lowering, node: Tensor) -> dict[str, Operand]:
    """The mean and the variance of each channel over the whole batch."""
    place, channels = low.total(node).place, node.shape[1]
    starts = {"mean": 0, "variance": padded(channels)}
    return {name: place.part(start, channels).shaped((channels,)) for name, start in starts.items()}


def _normalize(low: Lowering, node: Tensor, outer: Tensor, mean: Operand, variance: Operand) -> None:
    x, weight, bias = node.inputs[:3]
    nodes, shape = low.chain(outer), (*_sizes(x).values(), LANES)
    added = [y for each in nodes if each.op is ADD for y in each.inputs if y not in nodes]
    place = low.result(outer, reuse=added[0] if added else None)
    low.row(
        normalize2d, x=_values(low, x), weight=low.held(weight), bias=low.held(bias), mean=mean, variance=variance,
        beside=_values(low, added[0]) if added else None, y=place.shaped(shape), **_sizes(x),
        relu=outer.op is RELU, eps=node.attrs["eps"],
    )  # fmt: skip


def in_store(low: Lowering, outer: Tensor) -> dict[str, Operand | bool | None]:
    """What a convolution does to its value where it stores ``outer``: norm and relu of its row.

    The numbers that a normalisation takes are worked out once, when parameters are written.
    """
    node, norm = next((x for x in low.chain(outer) if x.op is NORMALIZE2D), None), None
    if node:
        channels = node.shape[1]
        norm = low.shared(4 * padded(channels)).shaped((4, padded(channels)))
        named = zip(("weight", "bias", "mean", "variance"), node.inputs[1:], strict=True)
        given = {name: low.places[x].shaped((padded(channels),)) for name, x in named}
        low.row(normalization, **given, norm=norm, channels=channels, eps=node.attrs["eps"], stage=Stage.WRITTEN)
    return {"norm": norm, "relu": outer.op is RELU}


_FUSES = Fusion("relu"), Fusion("add"), Fusion("add", operand=1)


@lowers("batch_norm2d", fuses=_FUSES)
def _lower_batch_norm2d(low: Lowering, node: Tensor, outer: Tensor) -> None:
    _normalize(low, node, outer, **_moments(low, node.inputs[3]))


@lowers("normalize2d", fuses=_FUSES)
def _lower_normalize2d(low: Lowering, node: Tensor, outer: Tensor) -> None:
    _normalize(low, node, outer, *map(low.held, node.inputs[3:]))


def _biases(low: Lowering) -> dict[Tensor, Tensor]:
    """For the gradients of the weights of batch norms those of their biases, and the other way round."""
    alone, found = {}, {}
    for node in low.order:
        if node.op is BATCH_NORM2D_GRAD_WEIGHT:
            alone[node.inputs[2]] = node
        elif node.op is GRAD_BIAS and node.inputs[0] in alone:
            weight = alone.pop(node.inputs[0])
            found |= {weight: node, node: weight}
    return found


@lowers("batch_norm2d_grad_weight")
def _lower_grad_weight(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, moments, grad = node.inputs
    bias = low.once(_biases).get(node)
    low.row(
        batch_norm2d_grad_weight, x=_values(low, x), grad=_values(low, grad), dw=low.result(outer).shaped(node.shape),
        db=low.result(bias).shaped(node.shape) if bias else None, **_moments(low, moments), **_sizes(x),
        eps=node.attrs["eps"],
    )  # fmt: skip


@lowers("grad_bias", when=lambda low, node, outer: node in low.once(_biases))
def _lower_grad_bias(low: Lowering, node: Tensor, outer: Tensor) -> None:
    """It is summed beside the gradient of the weight."""


@lowers("batch_norm2d_grad_input")
def _lower_grad_input(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, weight, grad, moments, of_images, grad_weight, grad_bias = node.inputs
    dx = low.result(outer, reuse=grad).shaped((*_sizes(x).values(), LANES))
    low.row(
        batch_norm2d_grad_input, x=_values(low, x), weight=low.held(weight), grad=_values(low, grad),
        **_moments(low, moments), of_images=low.laned(of_images), grad_weight=low.total(grad_weight),
        grad_bias=low.total(grad_bias), dx=dx, **_sizes(x), eps=node.attrs["eps"],
    )  # fmt: skip


def _kept(low: Lowering, node: Tensor, outer: Tensor):
    """The buffer that a node changes, in whose place its new value goes."""
    low.places[outer] = low.places[node.inputs[0]]
    return {"old": low.held(node.inputs[0]), "y": low.held(outer), "channels": node.shape[0]}


@lowers("running_mean")
def _lower_running_mean(low: Lowering, node: Tensor, outer: Tensor) -> None:
    mean, momentum = _moments(low, node.inputs[1])["mean"], node.attrs["momentum"]
    low.row(running_mean, **_kept(low, node, outer), mean=mean, momentum=momentum, stage=Stage.STEP)


@lowers("running_variance")
def _lower_running_variance(low: Lowering, node: Tensor, outer: Tensor) -> None:
    variance = _moments(low, node.inputs[1])["variance"]
    low.row(running_variance, **_kept(low, node, outer), variance=variance, **node.attrs, stage=Stage.STEP)
