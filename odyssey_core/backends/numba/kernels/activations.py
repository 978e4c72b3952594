"""Functions of single elements: whole vectors, the lanes not needed of a padded end included; and softmax."""

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.elementary import exp, sigmoid, tanh
from odyssey_core.backends.numba.instruction import Constant, instruction
from odyssey_core.backends.numba.kernels.elementwise import elementwise, shapes
from odyssey_core.backends.numba.lower import Lowering, lowers
from odyssey_core.backends.numba.memory import load, store
from odyssey_core.backends.numba.traced import LANES, on_lanes
from odyssey_core.backends.numba.vector import at_least, at_most, fma, splat, where
from odyssey_core.tensor import Tensor

ZERO, ONE, HALF, TWO, SIX, TWENTY = map(np.float32, (0, 1, 0.5, 2, 6, 20))


@instruction(reads="x", writes="y", shapes=shapes)
def relu(memory, x, y, vectors):
    """max(x, 0)."""
    for at in range(0, vectors * LANES, LANES):
        store(memory, y + at, at_least(load(memory, x + at), ZERO))


@instruction(reads="a b", writes="y", shapes=shapes)
def relu_grad(memory, a, b, y, vectors):
    """b where the result a is above 0, else 0."""
    for at in range(0, vectors * LANES, LANES):
        store(memory, y + at, where(load(memory, a + at) > ZERO, load(memory, b + at), splat(ZERO)))


@instruction(reads="x", writes="y", shapes=shapes)
def relu6(memory, x, y, vectors):
    """min(max(x, 0), 6)."""
    for at in range(0, vectors * LANES, LANES):
        store(memory, y + at, at_most(at_least(load(memory, x + at), ZERO), SIX))


@on_lanes
def _inside(a, b):
    return where((a > ZERO) & (a < SIX), b, ZERO)


@instruction(reads="a b", writes="y", shapes=shapes)
def relu6_grad(memory, a, b, y, vectors):
    """b where the result a lies between 0 and 6, else 0."""
    for at in range(0, vectors * LANES, LANES):
        store(memory, y + at, _inside(load(memory, a + at), load(memory, b + at)))


@instruction(reads="x", writes="y", shapes=shapes)
def leaky_relu(memory, x, y, vectors, negative_slope: Constant):
    """x above 0, else negative_slope x."""
    for at in range(0, vectors * LANES, LANES):
        value = load(memory, x + at)
        store(memory, y + at, where(value > ZERO, value, negative_slope * value))


@instruction(reads="a b", writes="y", shapes=shapes)
def leaky_relu_grad(memory, a, b, y, vectors, negative_slope: Constant):
    """b where the result a is above 0, else negative_slope b."""
    for at in range(0, vectors * LANES, LANES):
        grad = load(memory, b + at)
        store(memory, y + at, where(load(memory, a + at) > ZERO, grad, negative_slope * grad))


@instruction(reads="x", writes="y", shapes=shapes)
def tanh_of(memory, x, y, vectors):
    """The hyperbolic tangent."""
    for at in range(0, vectors * LANES, LANES):
        store(memory, y + at, tanh(load(memory, x + at)))


@instruction(reads="a b", writes="y", shapes=shapes)
def tanh_grad(memory, a, b, y, vectors):
    """(1 - a^2) b of the result a."""
    for at in range(0, vectors * LANES, LANES):
        result = load(memory, a + at)
        store(memory, y + at, (ONE - result * result) * load(memory, b + at))


@instruction(reads="x", writes="y", shapes=shapes)
def sigmoid_of(memory, x, y, vectors):
    """1 / (1 + e**-x)."""
    for at in range(0, vectors * LANES, LANES):
        store(memory, y + at, sigmoid(load(memory, x + at)))


@instruction(reads="a b", writes="y", shapes=shapes)
def sigmoid_grad(memory, a, b, y, vectors):
    """a (1 - a) b of the result a."""
    for at in range(0, vectors * LANES, LANES):
        result = load(memory, a + at)
        store(memory, y + at, result * (ONE - result) * load(memory, b + at))


# The error function's complement as e**-z^2 times a polynomial in 1 / (1 + z / 2), for z >= 0.
# Source: Press et al., "Numerical Recipes", second edition, 1992, section 6.2 (erfcc): relative error below 1.2e-7.
ERFC = tuple(
    np.float32(c)
    for c in (
        0.17087277, -0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368,
        -1.26551223,
    )
)  # fmt: skip
ROOT_HALF, DENSITY = np.float32(0.5**0.5), np.float32((2 * np.pi) ** -0.5)


@on_lanes
def normal_below(x):
    """The probability that a standard normal number is below x."""
    z = x * ROOT_HALF
    size = at_least(z, ZERO - z)
    t = ONE / (ONE + HALF * size)
    p = splat(ERFC[0])
    for c in ERFC[1:]:
        p = fma(p, t, c)
    half = HALF * t * exp(p - size * size)
    return where(x > ZERO, ONE - half, half)


@instruction(reads="x", writes="y", shapes=shapes)
def gelu(memory, x, y, vectors):
    """x times the probability that a standard normal number is below it."""
    for at in range(0, vectors * LANES, LANES):
        value = load(memory, x + at)
        store(memory, y + at, value * normal_below(value))


@on_lanes
def _gelu_slope(x):
    return normal_below(x) + x * (DENSITY * exp(ZERO - HALF * x * x))


@instruction(reads="a b", writes="y", shapes=shapes)
def gelu_grad(memory, a, b, y, vectors):
    """(P(X <= a) + a times the normal density at a) b, of the operand a."""
    for at in range(0, vectors * LANES, LANES):
        store(memory, y + at, _gelu_slope(load(memory, a + at)) * load(memory, b + at))


@on_lanes
def _tanh_of_softplus(x):
    """((1 + e**x)^2 - 1) / ((1 + e**x)^2 + 1), which is 1 in float32 from 20 on."""
    power = exp(at_most(x, TWENTY))
    squared = power * (power + TWO)
    return squared / (squared + TWO)


@instruction(reads="x", writes="y", shapes=shapes)
def mish(memory, x, y, vectors):
    """x tanh(log(1 + e**x))."""
    for at in range(0, vectors * LANES, LANES):
        value = load(memory, x + at)
        store(memory, y + at, value * _tanh_of_softplus(value))


@on_lanes
def _mish_slope(x):
    factor = _tanh_of_softplus(x)
    return factor + x * (ONE - factor * factor) * sigmoid(x)


@instruction(reads="a b", writes="y", shapes=shapes)
def mish_grad(memory, a, b, y, vectors):
    """The derivative at the operand a, times b."""
    for at in range(0, vectors * LANES, LANES):
        store(memory, y + at, _mish_slope(load(memory, a + at)) * load(memory, b + at))


for _name, _instruction in {
    "relu": relu, "relu_grad": relu_grad, "relu6": relu6, "relu6_grad": relu6_grad, "leaky_relu": leaky_relu,
    "leaky_relu_grad": leaky_relu_grad, "tanh": tanh_of, "tanh_grad": tanh_grad, "sigmoid": sigmoid_of,
    "sigmoid_grad": sigmoid_grad, "gelu": gelu, "gelu_grad": gelu_grad, "mish": mish,
    "mish_grad": mish_grad,
}.items():  # fmt: skip
    lowers(_name)(elementwise(_instruction))


def _rows(d):
    return dict.fromkeys(("x", "y", "grad", "dx"), (d["classes"], LANES))


@register_jitable
def softmax_parts(memory, logits, classes):
    """The largest logit of each lane, and the sum of exp(logit - largest)."""
    largest = load(memory, logits)
    for k in range(1, classes):
        largest = at_least(largest, load(memory, logits + k * LANES))
    summed = splat(ZERO)
    for k in range(classes):
        summed = summed + exp(load(memory, logits + k * LANES) - largest)
    return largest, summed


@instruction(reads="x", writes="y", shapes=_rows)
def softmax(memory, x, y, classes):
    """exp(x) over its sum in each lane."""
    largest, summed = softmax_parts(memory, x, classes)
    for k in range(classes):
        store(memory, y + k * LANES, exp(load(memory, x + k * LANES) - largest) / summed)


@instruction(reads="y grad", writes="dx", shapes=_rows)
def softmax_grad(memory, y, grad, dx, classes):
    """(grad - the sum over classes of y grad) y in each lane."""
    summed = splat(ZERO)
    for k in range(classes):
        summed = fma(load(memory, y + k * LANES), load(memory, grad + k * LANES), summed)
    for k in range(classes):
        store(memory, dx + k * LANES, (load(memory, grad + k * LANES) - summed) * load(memory, y + k * LANES))


@lowers("softmax")
def _lower_softmax(low: Lowering, node: Tensor, outer: Tensor) -> None:
    (x,) = node.inputs
    low.row(softmax, x=low.laned(x), y=low.result(outer).shaped((node.shape[1], LANES)), classes=node.shape[1])


@lowers("softmax_grad")
def _lower_softmax_grad(low: Lowering, node: Tensor, outer: Tensor) -> None:
    y, grad = node.inputs
    dx = low.result(outer).shaped((node.shape[1], LANES))
    low.row(softmax_grad, y=low.laned(y), grad=low.laned(grad), dx=dx, classes=node.shape[1])
