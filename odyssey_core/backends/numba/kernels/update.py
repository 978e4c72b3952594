"""Optimizer rules on a stretch of the parameters: the groups' gradients are summed in order of group, then applied.

Each rule's formula stands with its class in `odyssey_core.optim`; these are held to it by tests.
"""

import numpy as np
from numba import njit

from odyssey_core.backends.numba.simd import (
    LANES,
    add,
    at_most,
    div,
    float_of,
    fma,
    load,
    mul,
    splat,
    sqrt,
    store,
    sub,
    total,
)
from odyssey_core.backends.numba.table import Instruction

ONE, ZERO, TINY = np.float32(1), np.float32(0), np.float32(1e-6)


@njit
def _gradient(arena, grads, groups, stride, at):
    grad = load(arena, grads + at)
    for g in range(1, groups):
        grad = add(grad, load(arena, grads + g * stride + at))
    return grad


def build_sgd():
    """See `optim.SGD`."""

    def sgd(arena, row, feed, step, block):
        grads, parameter, velocity, length, groups, stride = row[1], row[2], row[3], row[4], row[5], row[6]
        momentum, nesterov, decay = splat(float_of(row[7])), float_of(row[8]), splat(float_of(row[9]))
        lr = splat(-feed.scalars[step, 0])
        for at in range(0, length, LANES):
            p = load(arena, parameter + at)
            grad = fma(decay, p, _gradient(arena, grads, groups, stride, at))
            if velocity >= 0:
                v = fma(momentum, load(arena, velocity + at), grad)
                store(arena, velocity + at, v)
                grad = fma(momentum, v, grad) if nesterov > 0 else v
            store(arena, parameter + at, fma(lr, grad, p))

    return sgd


def build_adam():
    """See `optim.Adam` and `optim.AdamW`."""

    def adam(arena, row, feed, step, block):
        grads, parameter, mean, square = row[1], row[2], row[3], row[4]
        length, groups, stride = row[5], row[6], row[7]
        b1, c1, b2, c2 = float_of(row[8]), float_of(row[9]), float_of(row[10]), float_of(row[11])
        eps, decay, decoupled = float_of(row[12]), float_of(row[13]), float_of(row[14])
        lr, size, correction = feed.scalars[step, 0], splat(-feed.scalars[step, 1]), splat(feed.scalars[step, 2])
        for at in range(0, length, LANES):
            p, grad = load(arena, parameter + at), _gradient(arena, grads, groups, stride, at)
            if decoupled > 0:
                p = sub(p, mul(splat(lr * decay), p))
            else:
                grad = fma(splat(decay), p, grad)
            m = fma(splat(b1), load(arena, mean + at), mul(splat(c1), grad))
            v = fma(splat(b2), load(arena, square + at), mul(mul(splat(c2), grad), grad))
            store(arena, mean + at, m)
            store(arena, square + at, v)
            store(arena, parameter + at, add(p, div(mul(size, m), fma(sqrt(v), correction, splat(eps)))))

    return adam


def build_rmsprop():
    """See `optim.RMSprop`."""

    def rmsprop(arena, row, feed, step, block):
        grads, parameter, square, velocity = row[1], row[2], row[3], row[4]
        length, groups, stride = row[5], row[6], row[7]
        alpha, c, eps = splat(float_of(row[8])), splat(float_of(row[9])), splat(float_of(row[10]))
        decay, momentum = splat(float_of(row[11])), splat(float_of(row[12]))
        lr = splat(-feed.scalars[step, 0])
        for at in range(0, length, LANES):
            p = load(arena, parameter + at)
            grad = fma(decay, p, _gradient(arena, grads, groups, stride, at))
            s = fma(alpha, load(arena, square + at), mul(mul(c, grad), grad))
            store(arena, square + at, s)
            v = fma(momentum, load(arena, velocity + at), div(grad, add(sqrt(s), eps)))
            store(arena, velocity + at, v)
            store(arena, parameter + at, fma(lr, v, p))

    return rmsprop


def build_sum_squares():
    """Sums the groups' gradients for good, and the squares of the sums lane by lane."""

    def sum_squares(arena, row, feed, step, block):
        grads, summed, squares, length, groups, stride = row[1], row[2], row[3], row[4], row[5], row[6]
        s = splat(ZERO)
        for at in range(0, length, LANES):
            grad = _gradient(arena, grads, groups, stride, at)
            store(arena, summed + at, grad)
            s = fma(grad, grad, s)
        store(arena, squares, s)

    return sum_squares


def build_clip():
    """Scales the summed gradients of a stretch by what all stretches' squares say. See `optim.StepRule`."""

    def clip(arena, row, feed, step, block):
        squares, grads, parts, length, limit = row[1], row[2], row[3], row[4], splat(float_of(row[5]))
        s = load(arena, squares)
        for i in range(1, parts):
            s = add(s, load(arena, squares + i * LANES))
        norm = sqrt(splat(total(s)))
        scale = at_most(div(limit, add(norm, splat(TINY))), splat(ONE))
        for at in range(0, length, LANES):
            store(arena, grads + at, mul(scale, load(arena, grads + at)))

    return clip


def build_ema():
    """See `optim.StepRule`."""

    def ema(arena, row, feed, step, block):
        parameter, average, length = row[1], row[2], row[3]
        value = feed.scalars[step, feed.scalars.shape[1] - 1]
        decay, rest = splat(value), splat(ONE - value)
        for at in range(0, length, LANES):
            p = load(arena, parameter + at)
            store(arena, average + at, fma(decay, load(arena, average + at), mul(rest, p)))

    return ema


def _stretches(*names, gradients=True):
    """The layout of a row on ``length`` elements: its operands, and the gradients of each of its groups."""

    def layout(d):
        if d["length"] % LANES or d.get("stride", 0) % LANES:
            raise ValueError(f"length {d['length']} and stride {d.get('stride', 0)} must be whole vectors")
        operands = {f"grads+{g}": (d["length"],) for g in range(d["groups"])} if gradients else {}
        return operands | dict.fromkeys(names, (d["length"],))

    return layout


def _rule(name, build, slots, constants, optional=()):
    writes = ("parameter", *slots)
    return Instruction(
        name, build, ("grads",), writes, GROUPED, _stretches(*writes), constants, optional=optional,
        flags=("stride",), updates=True,
    )  # fmt: skip


GROUPED = ("length", "groups", "stride")
SUM_SQUARES = Instruction(
    "sum_squares", build_sum_squares, ("grads",), ("summed", "squares"), GROUPED,
    lambda d: _stretches("summed")(d) | {"squares": (LANES,)}, flags=("stride",),
)  # fmt: skip
CLIP = Instruction(
    "clip", build_clip, ("squares",), ("grads",), ("parts", "length"),
    lambda d: _stretches("grads", gradients=False)(d) | {"squares": (d["parts"], LANES)}, ("clip_norm",),
)  # fmt: skip
EMA = Instruction(
    "ema", build_ema, ("parameter",), ("average",), ("length",),
    _stretches("parameter", "average", gradients=False), updates=True,
)  # fmt: skip

SGD = _rule("sgd", build_sgd, ("velocity",), ("momentum", "nesterov", "weight_decay"), optional=("velocity",))
ADAM = _rule("adam", build_adam, ("mean", "square"), ("b1", "1-b1", "b2", "1-b2", "eps", "weight_decay", "decoupled"))
RMSPROP = _rule(
    "rmsprop", build_rmsprop, ("square", "velocity"), ("alpha", "1-alpha", "eps", "weight_decay", "momentum")
)
RULES = {"sgd": SGD, "adam": ADAM, "rmsprop": RMSPROP}
