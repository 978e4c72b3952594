"""Newton-Schulz iterations, see `optim.muon.orthogonalized`. Every sum is over one index in its order."""

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.instruction import Constant, instruction
from odyssey_core.backends.numba.memory import load, store, transpose
from odyssey_core.backends.numba.operands import padded
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.backends.numba.vector import at_least, fma, splat, sqrt, total
from odyssey_core.optim import muon

ZERO, ONE, SMALLEST = np.float32(0), np.float32(1), np.float32(muon.SMALLEST)
A, B, C = (np.float32(coefficient) for coefficient in muon.COEFFICIENTS)
ITERATIONS = muon.ITERATIONS
ROWS = 4  # of a product that are worked out together


def scratch(out: int, inputs: int) -> dict[str, tuple[int, int]]:
    """Shapes of what the instruction needs beside the matrix; what fills up whole vectors is 0 and stays so."""
    rows, columns = (padded(size) for size in sorted((out, inputs)))
    square = rows, rows
    return {"x": (rows, columns), "turned": (rows, columns), "gram": square, "polynomial": square}


def _shapes(d):
    if d["pitch"] < d["inputs"]:
        raise ValueError(f"rows of {d['inputs']} numbers, {d['pitch']} apart")
    return {**dict.fromkeys(("grads", "directed"), (d["out"] * d["pitch"],)), **scratch(d["out"], d["inputs"])}


def _multiply_adds(d):
    rows, columns = scratch(d["out"], d["inputs"])["x"]
    return ITERATIONS * rows * rows * (2 * columns + rows) // LANES


@register_jitable
def _product(memory, left, across, along, right, depth, target, rows, columns):
    """target[i, j] = the sum of left[i across + k along] right[k, j] over k < depth, for so many rows and columns."""
    for i in range(0, rows, ROWS):
        for j in range(0, columns, LANES):
            s0, s1, s2, s3 = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
            at = left + i * across
            for other in range(right + j, right + j + depth * columns, columns):
                row = load(memory, other)
                s0 = fma(splat(memory[at]), row, s0)
                s1 = fma(splat(memory[at + across]), row, s1)
                s2 = fma(splat(memory[at + 2 * across]), row, s2)
                s3 = fma(splat(memory[at + 3 * across]), row, s3)
                at += along
            to = target + i * columns + j
            store(memory, to, s0)
            store(memory, to + columns, s1)
            store(memory, to + 2 * columns, s2)
            store(memory, to + 3 * columns, s3)


@register_jitable
def _normalized(memory, x, size):
    """x /= max(|x|, SMALLEST)."""
    s = splat(ZERO)
    for at in range(x, x + size, LANES):
        s = fma(load(memory, at), load(memory, at), s)
    norm = at_least(sqrt(splat(total(s))), splat(SMALLEST))
    for at in range(x, x + size, LANES):
        store(memory, at, load(memory, at) / norm)


@instruction(reads="grads", writes="directed x turned gram polynomial", shapes=_shapes, multiply_adds=_multiply_adds)
def orthogonalize(memory, grads, directed, x, turned, gram, polynomial, out, inputs, pitch, scale: Constant):
    """directed = scale times the matrix grads (out, inputs), whose rows lie ``pitch`` apart, made orthogonal."""
    short, long = min(out, inputs), max(out, inputs)
    across, along = pitch if out <= inputs else 1, 1 if out <= inputs else pitch
    rows, columns = (short + LANES - 1) // LANES * LANES, (long + LANES - 1) // LANES * LANES
    for at in range(x, x + rows * columns, LANES):
        store(memory, at, splat(ZERO))
    for i in range(short):
        for j in range(long):
            memory[x + i * columns + j] = memory[grads + i * across + j * along]
    _normalized(memory, x, rows * columns)
    for _ in range(ITERATIONS):
        for i in range(0, rows, LANES):
            for j in range(0, columns, LANES):
                transpose(memory, x + i * columns + j, columns, turned + j * rows + i, rows)
        _product(memory, turned, 1, rows, turned, columns, gram, rows, rows)
        _product(memory, gram, rows, 1, gram, rows, polynomial, rows, rows)
        for at in range(0, rows * rows, LANES):
            value = fma(load(memory, polynomial + at), splat(C), splat(B) * load(memory, gram + at))
            store(memory, polynomial + at, value)
        _product(memory, polynomial, rows, 1, x, rows, turned, rows, columns)
        for at in range(0, rows * columns, LANES):
            store(memory, turned + at, fma(load(memory, x + at), splat(A), load(memory, turned + at)))
        x, turned = turned, x
    for i in range(short):
        for j in range(long):
            memory[directed + i * across + j * along] = scale * memory[x + i * columns + j]
