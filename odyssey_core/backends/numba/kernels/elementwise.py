"""Operations on each element: whole vectors, the lanes not needed of a padded end included."""

import numpy as np
from numba import njit

from odyssey_core.backends.numba import mathematics
from odyssey_core.backends.numba.random import philox, seeded
from odyssey_core.backends.numba.simd import (
    LANES,
    add,
    at_least,
    float_of,
    load,
    mul,
    splat,
    store,
    sub,
    u_splat,
    where_below,
    where_greater,
)
from odyssey_core.backends.numba.table import Instruction

ZERO, ONE = np.float32(0), np.float32(1)


@njit
def _relu(x):
    return at_least(x, splat(ZERO))


@njit
def _relu_grad(y, grad):
    return where_greater(y, splat(ZERO), grad, splat(ZERO))


@njit
def _tanh_grad(y, grad):
    return mul(sub(splat(ONE), mul(y, y)), grad)


@njit
def _sigmoid_grad(y, grad):
    return mul(mul(y, sub(splat(ONE), y)), grad)


def _unary(function):
    def build():
        def unary(arena, row, feed, step, block):
            x, y, vectors = row[1], row[2], row[3]
            for i in range(vectors):
                store(arena, y + i * LANES, function(load(arena, x + i * LANES)))

        return unary

    return build


def _binary(function):
    def build():
        def binary(arena, row, feed, step, block):
            a, b, y, vectors = row[1], row[2], row[3], row[4]
            for i in range(vectors):
                store(arena, y + i * LANES, function(load(arena, a + i * LANES), load(arena, b + i * LANES)))

        return binary

    return build


def build_dropout():
    """y = x scale where word ``element % 4`` of Philox's block ``element // 4`` reaches the threshold, else 0."""

    def dropout(arena, row, feed, step, block):
        x, y, vectors, stream, threshold, scale = row[1], row[2], row[3], row[4], row[5], splat(float_of(row[6]))
        limit = u_splat(np.uint32(threshold))
        images = seeded(feed.order, step, block * LANES)
        for i in range(0, vectors, 4):
            drawn = philox(
                np.uint32(i // 4), images, np.uint32(feed.key[2]), np.uint32(stream), feed.key[0], feed.key[1]
            )
            for k in range(4):
                if i + k < vectors:
                    at = (i + k) * LANES
                    word = drawn[0] if k == 0 else drawn[1] if k == 1 else drawn[2] if k == 2 else drawn[3]
                    kept = mul(load(arena, x + at), scale)
                    store(arena, y + at, where_below(word, limit, splat(ZERO), kept))

    return dropout


def _shapes(d):
    shape = (d["vectors"], LANES)
    return {"x": shape, "a": shape, "b": shape, "y": shape}


def _define(name, build, reads):
    return Instruction(name, build, reads, ("y",), ("vectors",), _shapes)


RELU = _define("relu", _unary(_relu), ("x",))
TANH = _define("tanh", _unary(mathematics.tanh), ("x",))
SIGMOID = _define("sigmoid", _unary(mathematics.sigmoid), ("x",))
ADD = _define("add", _binary(add), ("a", "b"))
MULTIPLY = _define("multiply", _binary(mul), ("a", "b"))
RELU_GRAD = _define("relu_grad", _binary(_relu_grad), ("a", "b"))
TANH_GRAD = _define("tanh_grad", _binary(_tanh_grad), ("a", "b"))
SIGMOID_GRAD = _define("sigmoid_grad", _binary(_sigmoid_grad), ("a", "b"))
DROPOUT = Instruction(
    "dropout", build_dropout, ("x",), ("y",), ("vectors", "stream", "threshold"), _shapes,
    constants=("scale",), flags=("stream", "threshold"), per_block=True,
)  # fmt: skip
