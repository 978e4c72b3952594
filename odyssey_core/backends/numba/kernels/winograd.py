"""Winograd's F(4x4, 3x3): convolutions of 3 x 3 taps and stride 1, and the gradient of their input.

The output is cut into tiles of 4 x 4 pixels. A tile's input, 6 x 6 pixels, is transformed; then each of the 36
positions is a matrix product of its own, of the transformed weight and the transformed input of a strip of tiles, and
what they give is transformed back. That takes 36 multiply-adds where a direct convolution takes 144. Memory between:

- transformed weight (groups of sixteen rows, position, channel, 16), written whenever the parameters are;
- v (position, channel, tile of the strip, 16 images) and m (position, row, tile of the strip, 16 images).

Where a block of images has few tiles, a strip takes those of several blocks: the transformed weight of 512 x 512
channels is 38 MB, which each strip reads from memory.

Sums run over channels in order, in one chain of multiply-adds, so neither strips nor register tiles change a bit. The
gradient of the input is the same with the weight turned round and its channels exchanged.
"""

import math

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.instruction import Fixed, Flag, Index, Repeated, instruction
from odyssey_core.backends.numba.kernels.norm import in_store
from odyssey_core.backends.numba.kernels.sparse_conv import sparse_gradients
from odyssey_core.backends.numba.lower import Fusion, Lowering, lowers
from odyssey_core.backends.numba.operands import Operand, Stage, padded, parts_for
from odyssey_core.backends.numba.register_patch import tile_expect, tile_fetch, tile_patch
from odyssey_core.backends.numba.register_tile import (
    tile_gather,
    tile_normalized,
    tile_outer,
    tile_splat,
    tile_store,
    tile_store_where,
    tile_sum,
    tile_zero,
)
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.backends.numba.vector import splat
from odyssey_core.backends.numba.winograd_tile import (
    KERNEL,
    PATCH,
    POSITIONS,
    STEP,
    TAPS,
    corner,
    takes,
    tiles_of,
    winograd_input,
    winograd_output,
    winograd_taps,
)
from odyssey_core.ops.activations import RELU_GRAD
from odyssey_core.ops.elementwise import ADD
from odyssey_core.ops.norm import NORMALIZE2D
from odyssey_core.ops.pool import MAX_POOL2D_GRAD
from odyssey_core.tensor import Tensor

ZERO, NO_FLOOR = np.float32(0), np.float32(-np.inf)
# A bias is added where the output's transform takes it to every pixel: at the point 1 in both directions.
BIAS_AT = PATCH + 1
# Tiles transformed at once: what lies between fits the second cache up to 64 channels, and one load of a weight serves
# a register tile's four.
STRIP = 4
PAD = 1  # vectors between planes of v and m: planes a power of two apart fall into one set of the cache


def output_sides(d) -> tuple[int, int]:
    """Height and width of the output, from a row's integers."""
    high, wide = (d[side] + 2 * d[f"pad_{side}"] - TAPS + 1 for side in ("height", "width"))
    return high, wide


def _shapes(d):
    high, wide = output_sides(d)
    if high < 1 or wide < 1:
        raise ValueError(f"no output of {d['height']}x{d['width']} pixels")
    tiles = d["blocks"] * tiles_of(high, wide)
    if d["columns"] > tiles // -(-tiles // d["strip"]) or LANES % d["rows"] or LANES % d["lanes"]:
        raise ValueError(f"tile of {d['rows']} x {d['columns']} over {tiles} in strips of {d['strip']}")
    x, y = (
        Repeated((channels, *sides, LANES), d["blocks"], d["block_stride"])
        for channels, *sides in ((d["channels"], d["height"], d["width"]), (d["out"], high, wide))
    )
    rows = padded(d["out"])
    return {
        "x": x, "y": y, "beside": y, "gate": y, "bias": (rows,),
        "norm": (4, rows), "weight": (rows // LANES, POSITIONS, d["channels"], LANES),
        "v": (POSITIONS, d["strip"] * d["channels"] + PAD, LANES), "m": (POSITIONS, d["strip"] * rows + PAD, LANES),
    }  # fmt: skip


def _multiply_adds(d) -> int:
    """Those of the direct convolution, by which kernels are compared."""
    return d["blocks"] * KERNEL * d["channels"] * math.prod(_shapes(d)["y"].shape[:3])


@register_jitable
def _following(b, i, j, high, wide):
    """Those of the next tile, of outputs of high x wide pixels: a division for each took a tenth of the time."""
    if j + STEP < wide:
        return b, i, j + STEP
    return (b, i + STEP, 0) if i + STEP < high else (b + 1, 0, 0)


@instruction(reads="x weight bias? norm? beside? gate?", writes="y v m", shapes=_shapes, multiply_adds=_multiply_adds)
def winograd(
    memory, x, weight, bias, norm, beside, gate, y, v, m, channels, height, width, out, blocks, block_stride: Index,
    pad_height: Index, pad_width: Index, relu: Flag, strip, rows: Fixed, columns: Fixed, lanes: Fixed,
):  # fmt: skip
    """y = relu?(norm?(bias + weight * x) + beside), or 0 where the gate is closed: register tiles of ``rows`` x
    ``columns`` tiles, transforms of ``lanes`` images, one register.
    """
    low, no_floor = splat(ZERO if relu else NO_FLOOR), splat(NO_FLOOR)
    high, wide = height + 2 * pad_height - 2, width + 2 * pad_width - 2
    down, across, padded_out = (high + STEP - 1) // STEP, (wide + STEP - 1) // STEP, (out + LANES - 1) // LANES * LANES
    tiles, plane_v = blocks * down * across, (strip * channels + PAD) * LANES
    parts, plane_m, pitch = (tiles + strip - 1) // strip, (strip * padded_out + PAD) * LANES, width * LANES
    for part in range(parts):
        first, end = part * tiles // parts, (part + 1) * tiles // parts
        (start, row, column), line = corner(first, down, across), (end - first) * LANES
        for c in range(channels):
            b, i, j = start, row, column
            for t in range(0, line, LANES):  # what the next channel has there is fetched meanwhile
                at = x + b * block_stride + ((c * height + i - pad_height) * width + j - pad_width) * LANES
                tile_fetch(STEP, STEP, memory, at + ((height + 2) * width + 2) * LANES, pitch, LANES)
                top, bottom = max(0, pad_height - i), min(PATCH, height + pad_height - i)
                left, right = max(0, pad_width - j), min(PATCH, width + pad_width - j)
                for lane in range(0, LANES, lanes):
                    patch = tile_patch(PATCH, PATCH, lanes, memory, at + lane, pitch, LANES, top, bottom, left, right)
                    to = v + c * line + t + lane
                    tile_store(winograd_input(patch), memory, to, PATCH * plane_v, plane_v, no_floor)
                b, i, j = _following(b, i, j, high, wide)
        for p in range(POSITIONS):
            for t0 in range(0, line, columns * LANES):
                t = min(t0, line - columns * LANES)
                for o in range(0, out, rows):
                    acc = tile_zero(rows, columns, LANES)
                    if bias >= 0 and p == BIAS_AT:
                        acc = tile_splat(rows, columns, memory, bias + o)
                    q = weight + (o // LANES * POSITIONS + p) * channels * LANES + o % LANES
                    for at in range(v + p * plane_v + t, v + p * plane_v + t + channels * line, line):
                        acc = tile_outer(acc, memory, q, 1, at, LANES)
                        q += LANES
                    tile_store(acc, memory, m + p * plane_m + o * line + t, line, LANES, no_floor)
        for o in range(out):
            b, i, j = start, row, column
            for product in range(m + o * line, m + (o + 1) * line, LANES):
                at = b * block_stride + ((o * high + i) * wide + j) * LANES
                tile_expect(STEP, STEP, memory, y + at + high * wide * LANES, wide * LANES, LANES)  # the next channel's
                for lane in range(at, at + LANES, lanes):
                    pixels = winograd_output(tile_patch(
                        PATCH, PATCH, lanes, memory, product + lane - at, PATCH * plane_m, plane_m, 0, PATCH, 0, PATCH
                    ))  # fmt: skip
                    if norm >= 0:
                        pixels = tile_normalized(pixels, memory, norm + o, 0, padded_out)
                    if beside >= 0:
                        pixels = tile_sum(pixels, tile_patch(
                            STEP, STEP, lanes, memory, beside + lane, wide * LANES, LANES, 0, high - i, 0, wide - j
                        ))  # fmt: skip
                    if gate >= 0:
                        tile_store_where(pixels, memory, y + lane, wide * LANES, LANES, gate + lane, high - i, wide - j)
                    else:
                        tile_store(pixels, memory, y + lane, wide * LANES, LANES, low, high - i, wide - j)
                b, i, j = _following(b, i, j, high, wide)


def _weight_shapes(d):
    rows, depth = (d["channels"], d["out"]) if d["turned"] else (d["out"], d["channels"])
    if d["group"] * LANES >= rows:
        raise ValueError(f"group {d['group']} of {rows} rows")
    return {"weight": (d["out"], d["channels"], TAPS, TAPS), "transformed": (POSITIONS, depth, LANES)}


@instruction(reads="weight", writes="transformed", shapes=_weight_shapes)
def winograd_kernels(memory, weight, transformed, out, channels, group: Index, turned: Flag):
    """transformed = G g G^T of sixteen output channels; or of sixteen input channels, its kernels turned round."""
    count, depth, apart, deep, step, begin = out, channels, channels * KERNEL, KERNEL, 1, 0
    if turned:
        count, depth, apart, deep, step, begin = channels, out, KERNEL, channels * KERNEL, -1, KERNEL - 1
    for k in range(depth):
        at = weight + group * LANES * apart + k * deep + begin
        taps = tile_gather(TAPS, TAPS, memory, at, TAPS * step, step, apart, min(LANES, count - group * LANES))
        to = transformed + k * LANES
        tile_store(winograd_taps(taps), memory, to, PATCH * depth * LANES, depth * LANES, splat(NO_FLOOR))


def _transformed(low: Lowering) -> dict[tuple[Tensor, bool], Operand]:
    """Transformed weights, each once: filled while rows are made."""
    return {}


def transformed_weight(low: Lowering, weight: Tensor, turned: bool) -> Operand:
    """Transformed, once for all that use it: its kernels, or ``turned`` round with input and output exchanged."""
    known = low.once(_transformed)
    if (weight, turned) not in known:
        out, channels = weight.shape[:2]
        rows, depth = (channels, out) if turned else (out, channels)
        groups, size = padded(rows) // LANES, POSITIONS * depth * LANES
        place = low.shared(groups * size)
        for g in range(groups):
            low.row(
                winograd_kernels, weight=low.held(weight), out=out, channels=channels, group=g, turned=turned,
                transformed=place.part(g * size, size).shaped((POSITIONS, depth, LANES)), stage=Stage.WRITTEN,
            )  # fmt: skip
        known[weight, turned] = place.shaped((groups, POSITIONS, depth, LANES))
    return known[weight, turned]


def _sets(low: Lowering, node: Tensor) -> tuple[int, int]:
    """How many blocks there are, and sets of them that share a strip: fewer than blocks where these have few tiles."""
    blocks = -(-node.shape[0] // low.images)
    return blocks, parts_for(blocks, max(1, STRIP // tiles_of(*node.shape[2:])), low.workers)


def _add(
    low: Lowering, x: Tensor, node: Tensor, outer: Tensor, weight: Operand, padding: tuple[int, int],
    bias: Operand | None = None, gate: Operand | None = None, norm: Operand | None = None, relu: bool = False,
) -> None:  # fmt: skip
    """The rows that compute ``outer``, in memory between that no other row needs."""
    _, channels, height, width = x.shape
    sizes = {
        "channels": channels, "height": height, "width": width, "out": node.shape[1], "pad_height": padding[0],
        "pad_width": padding[1],
    }  # fmt: skip
    nodes = low.chain(outer)
    added = next((x for each in nodes if each.op is ADD for x in each.inputs if x not in nodes), None)
    beside = low.laned(added) if added else None
    given = {
        "x": low.laned(x), "weight": weight, "bias": bias, "norm": norm, "beside": beside, "gate": gate, "relu": relu,
    }  # fmt: skip
    reuse = None if added is x else added  # tiles overlap in x: what the next one reads may not be written over
    y, (all_blocks, sets) = low.result(outer, reuse=reuse).shaped((*node.shape[1:], LANES)), _sets(low, node)
    stage = Stage.SLICE if sets < all_blocks else Stage.BLOCK
    for blocks in low.together(all_blocks, sets) if stage is Stage.SLICE else (1,):
        tiles = blocks * tiles_of(*node.shape[2:])
        strip = min(tiles, STRIP)
        rows, columns, lanes = low.tiles.product(tiles // -(-tiles // strip))
        of_set = {**sizes, "strip": strip, "rows": rows, "columns": columns, "lanes": lanes}
        shapes = _shapes({**of_set, "blocks": blocks, "block_stride": 0})
        v, m = (low.temporary(POSITIONS * shapes[name][1] * LANES) for name in ("v", "m"))
        low.row(winograd, **given, y=y, v=v.shaped(shapes["v"]), m=m.shaped(shapes["m"]), **of_set, stage=stage)
        low.release(m)
        low.release(v)


def _takes(low: Lowering, node: Tensor, outer: Tensor) -> bool:
    """Whether the shapes suit, and what is convolved is not a gradient of which there are lists."""
    return takes(node.shape, node.inputs[1].shape, node.attrs) and node.inputs[0] not in low.once(sparse_gradients)


def _takes_together(low: Lowering, node: Tensor, outer: Tensor) -> bool:
    blocks, sets = _sets(low, node)
    return _takes(low, node, outer) and sets < blocks


def _normalized(inner: Tensor, outer: Tensor) -> bool:
    """Whether a normalisation is computed in the store of a convolution that is computed this way."""
    y = inner.inputs[0]
    return inner.op is NORMALIZE2D and takes(y.shape, y.inputs[1].shape, y.attrs)


_STORES = Fusion("normalize2d"), Fusion("add", 0, _normalized), Fusion("add", 1, _normalized), Fusion("relu")


@lowers("conv2d", fuses=_STORES, when=_takes_together, sliced=(0,))
@lowers("conv2d", fuses=_STORES, when=_takes)
def _lower_conv2d(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, weight, *bias = node.inputs
    given = low.places[bias[0]].shaped((padded(node.shape[1]),)) if bias else None
    kernels = transformed_weight(low, weight, turned=False)
    _add(low, x, node, outer, kernels, node.attrs["padding"], given, **in_store(low, outer))


def _dense(inner: Tensor, outer: Tensor) -> bool:
    """Whether a gradient of an input is computed this way whatever is known of lists: max-pools alone make them."""
    (grad, weight), x = inner.inputs, inner
    made = grad.inputs[1] if grad.op is RELU_GRAD else grad
    return takes(x.shape, weight.shape, inner.attrs) and made.op is not MAX_POOL2D_GRAD


_FUSES = Fusion("relu_grad", 1), Fusion("add", 0, _dense), Fusion("add", 1, _dense)


@lowers("conv2d_grad_input", fuses=_FUSES, when=_takes_together, sliced=(0,))
@lowers("conv2d_grad_input", fuses=_FUSES, when=_takes)
def _lower_grad_input(low: Lowering, node: Tensor, outer: Tensor) -> None:
    grad, weight = node.inputs
    padding = tuple(TAPS - 1 - p for p in node.attrs["padding"])
    gate = low.laned(outer.inputs[0], node.shape[1:]) if outer.op is RELU_GRAD else None
    _add(low, grad, node, outer, transformed_weight(low, weight, turned=True), padding, gate=gate)
