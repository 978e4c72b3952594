"""Optimizer rules on a stretch of the parameters: the groups' gradients are summed in order of group, then applied.

Each rule's formula stands with its class in `odyssey_core.optim`; these are held to it by tests.
"""

from numba import njit

from odyssey_core.backends.numba.simd import LANES, add, div, float_of, fma, load, mul, splat, sqrt, store, sub
from odyssey_core.backends.numba.table import Instruction


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
        lr = splat(-feed.scalars[step, 1])
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
        lr, size, correction = feed.scalars[step, 1], splat(-feed.scalars[step, 2]), splat(feed.scalars[step, 3])
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
        lr = splat(-feed.scalars[step, 1])
        for at in range(0, length, LANES):
            p = load(arena, parameter + at)
            grad = fma(decay, p, _gradient(arena, grads, groups, stride, at))
            s = fma(alpha, load(arena, square + at), mul(mul(c, grad), grad))
            store(arena, square + at, s)
            v = fma(momentum, load(arena, velocity + at), div(grad, add(sqrt(s), eps)))
            store(arena, velocity + at, v)
            store(arena, parameter + at, fma(lr, v, p))

    return rmsprop


def _rule(name, build, slots, constants, optional=()):
    def layout(d):
        if d["length"] % LANES or d["stride"] % LANES:
            raise ValueError(f"length {d['length']} and stride {d['stride']} must be whole vectors")
        operands = {f"grads+{g}": (d["length"],) for g in range(d["groups"])}
        return operands | dict.fromkeys(("parameter", *slots), (d["length"],))

    dims = ("length", "groups", "stride")
    writes = ("parameter", *slots)
    return Instruction(
        name, build, ("grads",), writes, dims, layout, constants, optional=optional, flags=("stride",), updates=True
    )


SGD = _rule("sgd", build_sgd, ("velocity",), ("momentum", "nesterov", "weight_decay"), optional=("velocity",))
ADAM = _rule("adam", build_adam, ("mean", "square"), ("b1", "1-b1", "b2", "1-b2", "eps", "weight_decay", "decoupled"))
RMSPROP = _rule(
    "rmsprop", build_rmsprop, ("square", "velocity"), ("alpha", "1-alpha", "eps", "weight_decay", "momentum")
)
RULES = {"sgd": SGD, "adam": ADAM, "rmsprop": RMSPROP}
