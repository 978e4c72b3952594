"""The affine map and its gradients. A weight (out, in) lies in rows of ``in`` rounded up to whole vectors."""

import numpy as np

from odyssey_core.backends.numba.simd import LANES, add, load, splat, store, total, transpose
from odyssey_core.backends.numba.table import Instruction, padded
from odyssey_core.backends.numba.tile import (
    tile_add,
    tile_outer,
    tile_splat,
    tile_store,
    tile_store_where,
    tile_zero,
)

ZERO, NO_FLOOR = np.float32(0), np.float32(-np.inf)


def build_linear(rows):
    """y = relu?(bias + weight x), ``rows`` outputs at a time."""

    def linear(arena, row, feed, step, block):
        x, weight, bias, y = row[1], row[2], row[3], row[4]
        features, out, relu = row[5], row[6], row[7]
        pitch = (features + LANES - 1) // LANES * LANES
        low = splat(ZERO if relu else NO_FLOOR)
        for o0 in range(0, out, rows):
            o = min(o0, out - rows)
            acc = tile_splat(rows, 1, arena, bias + o) if bias >= 0 else tile_zero(rows, 1, LANES)
            q = weight + o * pitch
            for i in range(features):
                acc = tile_outer(acc, arena, q + i, pitch, x + i * LANES, LANES)
            tile_store(acc, arena, y + o * LANES, LANES, LANES, low)

    return linear


def build_linear_grad_input(rows):
    """dx = weight^T grad, ``rows`` inputs at a time."""

    def linear_grad_input(arena, row, feed, step, block):
        grad, weight, gate, dx = row[1], row[2], row[3], row[4]
        features, out = row[5], row[6]
        pitch = (features + LANES - 1) // LANES * LANES
        for i0 in range(0, features, rows):
            i = min(i0, features - rows)
            acc = tile_zero(rows, 1, LANES)
            for o in range(out):
                acc = tile_outer(acc, arena, weight + o * pitch + i, 1, grad + o * LANES, LANES)
            if gate >= 0:
                tile_store_where(acc, arena, dx + i * LANES, LANES, LANES, gate + i * LANES)
            else:
                tile_store(acc, arena, dx + i * LANES, LANES, LANES, splat(NO_FLOOR))

    return linear_grad_input


def build_transpose():
    """y (pixels, 16, pitch) = x (features, pixels, 16) with lanes and features exchanged, zeros up to the pitch."""

    def transpose_lanes(arena, row, feed, step, block):
        x, y, features, pixels = row[1], row[2], row[3], row[4]
        pitch = (features + LANES - 1) // LANES * LANES
        plane = pixels * LANES
        whole = features if features >= LANES else 0
        for p in range(pixels):
            source, target = x + p * LANES, y + p * LANES * pitch
            for lane in range(LANES):
                store(arena, target + lane * pitch + pitch - LANES, splat(ZERO))
                for i in range(whole, features):
                    arena[target + lane * pitch + i] = arena[source + i * plane + lane]
            for i0 in range(0, whole, LANES):
                i = min(i0, features - LANES)
                transpose(arena, source + i * plane, plane, arena, target + i, pitch)

    return transpose_lanes


def build_linear_grad_weight(rows, columns):
    """dw += grad x^T over the lanes: tiles of ``rows`` outputs x ``columns`` vectors of inputs."""

    def linear_grad_weight(arena, row, feed, step, block):
        x, grad, dw = row[1], row[2], row[3]
        features, out, first = row[4], row[5], row[6]
        pitch = (features + LANES - 1) // LANES * LANES
        fresh = block == first
        wide = columns * LANES
        for i0 in range(0, pitch, wide):
            i = min(i0, pitch - wide)
            for o0 in range(0, out, rows):
                o = min(o0, out - rows)
                acc = tile_zero(rows, columns, LANES)
                for lane in range(LANES):
                    acc = tile_outer(acc, arena, grad + o * LANES + lane, LANES, x + lane * pitch + i, LANES)
                at = dw + o * pitch + i
                tile_add(acc, arena, at, pitch, LANES, o0 - o, (i0 - i) // LANES, fresh)

    return linear_grad_weight


def build_grad_bias():
    """db += the sum of grad over pixels and lanes, four interleaved sums a channel."""

    def grad_bias(arena, row, feed, step, block):
        grad, db, channels, pixels, first = row[1], row[2], row[3], row[4], row[5]
        for c in range(channels):
            p = grad + c * pixels * LANES
            s0 = s1 = s2 = s3 = splat(ZERO)
            for i in range(0, pixels - 3, 4):
                s0 = add(s0, load(arena, p + i * LANES))
                s1 = add(s1, load(arena, p + (i + 1) * LANES))
                s2 = add(s2, load(arena, p + (i + 2) * LANES))
                s3 = add(s3, load(arena, p + (i + 3) * LANES))
            for i in range(pixels // 4 * 4, pixels):
                s0 = add(s0, load(arena, p + i * LANES))
            term = total(add(add(s0, s1), add(s2, s3)))
            arena[db + c] = term if block == first else arena[db + c] + term

    return grad_bias


def build_totals():
    """y[i] = the sum over the lanes of x[i]."""

    def totals(arena, row, feed, step, block):
        x, y, count = row[1], row[2], row[3]
        for i in range(count):
            arena[y + i] = total(load(arena, x + i * LANES))

    return totals


def _linear_shapes(d):
    weight = (d["out"], padded(d["features"]))
    return {"x": (d["features"], LANES), "weight": weight, "bias": (d["out"],), "y": (d["out"], LANES)}


def _grad_input_shapes(d):
    s = _linear_shapes(d)
    return {"grad": s["y"], "weight": s["weight"], "gate": s["x"], "dx": s["x"]}


def _grad_weight_shapes(d):
    s = _linear_shapes(d)
    return {"x": (1, LANES, padded(d["features"])), "grad": s["y"], "dw": s["weight"]}


LINEAR = Instruction(
    "linear", build_linear, ("x", "weight", "bias"), ("y",), ("features", "out", "relu"), _linear_shapes,
    optional=("bias",), flags=("relu",),
)  # fmt: skip
LINEAR_GRAD_INPUT = Instruction(
    "linear_grad_input", build_linear_grad_input, ("grad", "weight", "gate"), ("dx",), ("features", "out"),
    _grad_input_shapes, optional=("gate",),
)  # fmt: skip
TRANSPOSE = Instruction(
    "transpose", build_transpose, ("x",), ("y",), ("features", "pixels"),
    lambda d: {
        "x": (d["features"], d["pixels"], LANES),
        "y": (d["pixels"], LANES, padded(d["features"])),
    },
)  # fmt: skip
LINEAR_GRAD_WEIGHT = Instruction(
    "linear_grad_weight", build_linear_grad_weight, ("x", "grad"), ("dw",), ("features", "out", "first_block"),
    _grad_weight_shapes, flags=("first_block",),
)  # fmt: skip
GRAD_BIAS = Instruction(
    "grad_bias", build_grad_bias, ("grad",), ("db",), ("channels", "pixels", "first_block"),
    lambda d: {"grad": (d["channels"], d["pixels"], LANES), "db": (d["channels"],)}, flags=("first_block",),
)  # fmt: skip
TOTALS = Instruction(
    "totals", build_totals, ("x",), ("y",), ("count",), lambda d: {"x": (d["count"], LANES), "y": (d["count"],)}
)
