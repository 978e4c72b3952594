"""The affine map and its gradients. A weight (out, in) lies in rows of ``in`` rounded up to whole vectors."""

import math

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.instruction import Fixed, Flag, Index, instruction
from odyssey_core.backends.numba.lower import Fusion, Lowering, lowers
from odyssey_core.backends.numba.memory import load, store, transpose
from odyssey_core.backends.numba.operands import Operand, padded, stored_shape
from odyssey_core.backends.numba.register_tile import (
    tile_add,
    tile_lines,
    tile_outer,
    tile_splat,
    tile_store,
    tile_store_where,
    tile_zero,
)
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.backends.numba.vector import splat, total
from odyssey_core.tensor import Tensor

ZERO, NO_FLOOR = np.float32(0), np.float32(-np.inf)
# A weight whose rows are long lies in memory, not in a cache, and its rows fall into few sets of the first cache: as
# many are read side by side as a set has places for, and of the gradient's terms as many rows after the other.
WIDE, WAYS, DEPTH = 1 << 11, 8, 16


def _shapes(d, span):
    """Shapes of an affine map's parts; raises ValueError for a tile larger than what it walks over."""
    if not 0 < d["rows"] <= d[span]:
        raise ValueError(f"tile of {d['rows']} rows over {span} of {d[span]}")
    x, y, weight = (d["features"], LANES), (d["out"], LANES), (d["out"], padded(d["features"]))
    return {"x": x, "y": y, "weight": weight, "bias": (d["out"],), "grad": y, "gate": x, "dx": x}


def _multiply_adds(d) -> int:
    return d["features"] * d["out"]


@instruction(reads="x weight bias?", writes="y", shapes=lambda d: _shapes(d, "out"), multiply_adds=_multiply_adds)
def linear(memory, x, weight, bias, y, features, out, relu: Flag, rows: Fixed):
    """y = relu?(bias + weight x), ``rows`` outputs at a time."""
    pitch = (features + LANES - 1) // LANES * LANES
    low = splat(ZERO if relu else NO_FLOOR)
    for o0 in range(0, out, rows):
        o = min(o0, out - rows)
        acc = tile_splat(rows, 1, memory, bias + o) if bias >= 0 else tile_zero(rows, 1, LANES)
        q = weight + o * pitch
        for i in range(features):
            acc = tile_outer(acc, memory, q + i, pitch, x + i * LANES, LANES)
        tile_store(acc, memory, y + o * LANES, LANES, LANES, low)


def _grad_input_shapes(d):
    if d["depth"] < d["out"] and d["features"] % d["rows"]:
        raise ValueError(f"tiles of {d['rows']} rows overlap over {d['features']}, and would be added twice")
    return _shapes(d, "features")


@instruction(reads="grad weight gate?", writes="dx", shapes=_grad_input_shapes, multiply_adds=_multiply_adds)
def linear_grad_input(memory, grad, weight, gate, dx, features, out, depth, rows: Fixed):
    """dx = weight^T grad, ``rows`` inputs at a time, ``depth`` outputs after the other."""
    pitch = (features + LANES - 1) // LANES * LANES
    for o0 in range(0, out, depth):
        end = min(out, o0 + depth)
        for i0 in range(0, features, rows):
            i = min(i0, features - rows)
            acc = tile_zero(rows, 1, LANES) if o0 == 0 else tile_lines(rows, 1, LANES, memory, dx + i * LANES, LANES)
            for o in range(o0, end):
                acc = tile_outer(acc, memory, weight + o * pitch + i, 1, grad + o * LANES, LANES)
            if gate >= 0 and end == out:
                tile_store_where(acc, memory, dx + i * LANES, LANES, LANES, gate + i * LANES)
            else:
                tile_store(acc, memory, dx + i * LANES, LANES, LANES, splat(NO_FLOOR))


@instruction(
    reads="x",
    writes="y",
    shapes=lambda d: {
        "x": (d["features"], d["pixels"], LANES),
        "y": (d["pixels"], LANES, padded(d["features"])),
    },
)
def transpose_lanes(memory, x, y, features, pixels):
    """y (pixels, 16, pitch) = x (features, pixels, 16) with lanes and features exchanged, zeros up to the pitch."""
    pitch = (features + LANES - 1) // LANES * LANES
    plane = pixels * LANES
    whole = features if features >= LANES else 0
    for p in range(pixels):
        source, target = x + p * LANES, y + p * LANES * pitch
        for lane in range(LANES):
            store(memory, target + lane * pitch + pitch - LANES, splat(ZERO))
            for i in range(whole, features):
                memory[target + lane * pitch + i] = memory[source + i * plane + lane]
        for i0 in range(0, whole, LANES):
            i = min(i0, features - LANES)
            transpose(memory, source + i * plane, plane, target + i, pitch)


@register_jitable
def exchange(memory, source, plane, count, target):
    """Writes of one pixel what up to sixteen features have, ``plane`` apart: 16 lanes of 16 features, 0 behind them."""
    if count == LANES:
        transpose(memory, source, plane, target, LANES)
    else:
        for lane in range(LANES):
            store(memory, target + lane * LANES, splat(ZERO))
            for i in range(count):
                memory[target + lane * LANES + i] = memory[source + i * plane + lane]


@instruction(
    reads="x",
    writes="y",
    shapes=lambda d: {
        "x": (d["features"], d["pixels"], LANES),
        "y": (padded(d["features"]) // LANES, d["pixels"], LANES, LANES),
    },
)
def exchange_lanes(memory, x, y, features, pixels):
    """y (vectors of features, pixels, 16 lanes, 16 features) = x with lanes and features exchanged, filled with zeros.

    What some of the features take lies together, where `transpose_lanes` keeps those of a pixel together.
    """
    plane, target = pixels * LANES, y
    for i0 in range(0, features, LANES):
        for source in range(x + i0 * plane, x + (i0 + 1) * plane, LANES):
            exchange(memory, source, plane, min(LANES, features - i0), target)
            target += LANES * LANES


def _grad_weight_shapes(d):
    if d["columns"] * LANES > padded(d["features"]):
        raise ValueError(f"tile of {d['columns']} vectors over {d['features']} features")
    s = _shapes(d, "out")
    return {"x": (1, LANES, padded(d["features"])), "grad": s["y"], "dw": s["weight"]}


@instruction(reads="x grad", writes="dw", shapes=_grad_weight_shapes, multiply_adds=_multiply_adds)
def linear_grad_weight(memory, block, x, grad, dw, features, out, first_block: Index, rows: Fixed, columns: Fixed):
    """dw += grad x^T over the lanes: tiles of ``rows`` outputs x ``columns`` vectors of inputs."""
    pitch = (features + LANES - 1) // LANES * LANES
    fresh = block == first_block
    wide = columns * LANES
    for i0 in range(0, pitch, wide):
        i = min(i0, pitch - wide)
        for o0 in range(0, out, rows):
            o = min(o0, out - rows)
            acc = tile_zero(rows, columns, LANES)
            for lane in range(LANES):
                acc = tile_outer(acc, memory, grad + o * LANES + lane, LANES, x + lane * pitch + i, LANES)
            at = dw + o * pitch + i
            tile_add(acc, memory, at, pitch, LANES, o0 - o, (i0 - i) // LANES, fresh)


@instruction(
    reads="grad",
    writes="db",
    shapes=lambda d: {"grad": (d["channels"], d["pixels"], LANES), "db": (d["channels"],)},
)
def grad_bias(memory, block, grad, db, channels, pixels, first_block: Index):
    """db += the sum of grad over pixels and lanes, in four chains."""
    for c in range(channels):
        s0, s1, s2, s3 = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
        p = grad + c * pixels * LANES
        for i in range(0, pixels // 4 * 4, 4):
            s0 = s0 + load(memory, p + i * LANES)
            s1 = s1 + load(memory, p + (i + 1) * LANES)
            s2 = s2 + load(memory, p + (i + 2) * LANES)
            s3 = s3 + load(memory, p + (i + 3) * LANES)
        for i in range(pixels // 4 * 4, pixels):
            s0 = s0 + load(memory, p + i * LANES)
        term = total((s0 + s1) + (s2 + s3))
        memory[db + c] = term if block == first_block else memory[db + c] + term


@instruction(reads="x", writes="y", shapes=lambda d: {"x": (d["count"], LANES), "y": (d["count"],)})
def totals(memory, x, y, count):
    """y[i] = the sum over the lanes of x[i]."""
    for i in range(count):
        memory[y + i] = total(load(memory, x + i * LANES))


def is_wide(weight: Tensor) -> bool:
    """Whether the rows of an affine map's weight are so long that no cache holds many."""
    return weight.shape[1] >= WIDE


@lowers("linear", fuses=[Fusion("relu")])
def _lower_linear(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, weight, *bias = node.inputs
    out, features = weight.shape
    rows = low.tiles.outer(out, 1)[0]
    if is_wide(weight):
        rows = min(rows, WAYS)
    low.row(
        linear, x=low.laned(x, (features,)), weight=low.held(weight), bias=low.held(bias[0]) if bias else None,
        y=low.result(outer).shaped((out, LANES)), features=features, out=out, relu=outer is not node, rows=rows,
    )  # fmt: skip


@lowers("linear_grad_input", fuses=[Fusion("relu_grad", operand=1)])
def _lower_grad_input(low: Lowering, node: Tensor, outer: Tensor) -> None:
    grad, weight = node.inputs
    out, features = weight.shape
    rows, depth = low.tiles.outer(features, 1)[0], out
    even = max(r for r in range(1, rows + 1) if features % r == 0)
    if is_wide(weight) and even >= WAYS:
        rows, depth = even, DEPTH
    low.row(
        linear_grad_input, grad=low.laned(grad, (out,)), weight=low.held(weight),
        gate=low.laned(outer.inputs[0], (features,)) if outer is not node else None,
        dx=low.result(outer).shaped((features, LANES)), features=features, out=out,
        depth=depth, rows=rows,
    )  # fmt: skip


@lowers("linear_grad_weight")
def _lower_grad_weight(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, grad = node.inputs
    out, features = node.shape
    place = low.temporary(LANES * padded(features))
    source = place.shaped((1, LANES, padded(features)))
    low.row(transpose_lanes, x=low.laned(x, (features, 1)), y=source, features=features, pixels=1)
    rows, columns = low.tiles.outer(out, padded(features) // LANES)
    low.row(
        linear_grad_weight, x=source, grad=low.laned(grad, (out,)),
        dw=low.result(outer).shaped(stored_shape(node.shape)), features=features, out=out, rows=rows, columns=columns,
    )  # fmt: skip
    low.release(place)


def add_grad_bias(low: Lowering, outer: Tensor, values: Operand, channels: int) -> None:
    """The row that sums values (channels, ..., 16) of a gradient."""
    pixels = math.prod(values.shape[1:-1])
    db = low.result(outer).shaped((channels,))
    low.row(grad_bias, grad=values.place.shaped((channels, pixels, LANES)), db=db, channels=channels, pixels=pixels)


@lowers("grad_bias")
def _lower_grad_bias(low: Lowering, node: Tensor, outer: Tensor) -> None:
    (grad,) = node.inputs
    add_grad_bias(low, outer, low.laned(grad), grad.shape[1])
