"""The weight's gradient of a 3x3 convolution by the adjoint of Winograd's F(4x4, 3x3): a quarter of the multiply-adds.

dw = G^T [the sum over tiles and images of (B^T x B) . (A dy A^T)] G, see `winograd_tile`.
"""

import math

import numpy as np

from odyssey_core.backends.numba.instruction import Fixed, Index, Repeated, instruction
from odyssey_core.backends.numba.kernels.affine import exchange
from odyssey_core.backends.numba.kernels.conv import transpose_weight
from odyssey_core.backends.numba.kernels.sparse_conv import sparse_gradients
from odyssey_core.backends.numba.kernels.weight_slices import is_large, parts
from odyssey_core.backends.numba.lower import Lowering, lowers
from odyssey_core.backends.numba.operands import Operand, Stage, padded
from odyssey_core.backends.numba.register_patch import tile_fetch, tile_patch
from odyssey_core.backends.numba.register_tile import tile_add, tile_outer, tile_store, tile_zero
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.backends.numba.vector import splat
from odyssey_core.backends.numba.winograd_tile import (
    KERNEL,
    PATCH,
    POSITIONS,
    STEP,
    TAPS,
    corner,
    tiles_of,
    winograd_adjoint,
    winograd_gradient,
    winograd_input,
)
from odyssey_core.tensor import Tensor

NO_FLOOR = np.float32(-np.inf)
# Tiles whose products are summed in registers before they are added to memory: so rounding does not grow with their
# number. Part of the result's definition (order of additions), so it must not depend on the CPU.
STRIP = 4
AREA = LANES * LANES  # what the lanes and sixteen channels of a pixel take


def _scratch(channels: int, pitch: int, strip: int) -> dict[str, int]:
    """float32 elements of the transforms of a strip, planes a vector off a power of two apart, and of a turned tile."""
    v, g = (POSITIONS * (strip * each + 1) * LANES for each in (channels, pitch))
    return {"v": v, "g": g, "turned": STEP * STEP * AREA}


def _shapes(d):
    channels, pitch = d["channels"], padded(d["out"])
    if d["rows"] > channels or d["columns"] * LANES > pitch or LANES % d["lanes"]:
        raise ValueError(f"tile of {d['rows']} x {d['columns']} vectors over {channels} channels x {pitch}")

    def of_blocks(*shape):
        return Repeated(shape, d["blocks"], d["block_stride"])

    return {
        "x": of_blocks(channels, d["height"], d["width"], LANES),
        "grad": of_blocks(d["out"], d["height"], d["width"], LANES),
        **{name: (size,) for name, size in _scratch(channels, pitch, d["strip"]).items()},
        "sums": (POSITIONS, channels, pitch),
    }


@instruction(
    reads="x grad",
    writes="v g turned sums",
    shapes=_shapes,
    multiply_adds=lambda d: 9 * d["blocks"] * d["height"] * d["width"] * d["channels"] * d["out"],
)
def winograd_grad_weight(
    memory, block, x, grad, v, g, turned, sums, channels, height, width, out, blocks, block_stride: Index,
    first_block: Index, strip: Fixed, rows: Fixed, columns: Fixed, lanes: Fixed,
):  # fmt: skip
    """sums (36, channels, pitch) += (B^T x B) (A dy A^T)^T over tiles and images, ``strip`` tiles at a time.

    Lanes and channels of a tile of dy are exchanged into ``turned``, which stays in the first cache: a copy of all of
    dy took a 70th of the time in which ResNet-20 is trained.
    """
    pitch = (out + LANES - 1) // LANES * LANES
    high, wide = (height + STEP - 1) // STEP, (width + STEP - 1) // STEP
    across, pixels = strip * LANES, height * width
    plane_v, plane_g = (strip * channels + 1) * LANES, (strip * pitch + 1) * LANES
    no_floor = splat(NO_FLOOR)
    for first in range(0, blocks * high * wide, strip):
        count = min(strip, blocks * high * wide - first)
        for t in range(count):
            b, i, j = corner(first + t, high, wide)
            at = x + b * block_stride + ((i - 1) * width + j - 1) * LANES
            following, down, along = corner(first + t + strip, high, wide)
            ahead = x + following * block_stride + ((down + 1) * width + along + 1) * LANES
            for to in range(v + t * LANES, v + t * LANES + channels * across, across):
                for lane in range(0, LANES, lanes):
                    patch = tile_patch(
                        PATCH, PATCH, lanes, memory, at + lane, width * LANES, LANES,
                        max(0, 1 - i), min(PATCH, height + 1 - i), max(0, 1 - j), min(PATCH, width + 1 - j),
                    )  # fmt: skip
                    tile_store(winograd_input(patch), memory, to + lane, PATCH * plane_v, plane_v, no_floor)
                tile_fetch(STEP, STEP, memory, ahead, width * LANES, LANES)  # the next strip's: a tenth of the time
                at, ahead = at + pixels * LANES, ahead + pixels * LANES
            at = grad + b * block_stride + (i * width + j) * LANES
            for o in range(0, pitch, LANES):
                for k in range(min(STEP, height - i)):
                    for m in range(min(STEP, width - j)):
                        pixel = at + (k * width + m) * LANES
                        exchange(memory, pixel, pixels * LANES, min(LANES, out - o), turned + (k * STEP + m) * AREA)
                for image in range(LANES):
                    to = g + (t * LANES + image) * pitch + o
                    for lane in range(0, LANES, lanes):
                        patch = tile_patch(
                            STEP, STEP, lanes, memory, turned + image * LANES + lane, STEP * AREA, AREA,
                            0, height - i, 0, width - j,
                        )  # fmt: skip
                        tile_store(winograd_adjoint(patch), memory, to + lane, PATCH * plane_g, plane_g, no_floor)
                at += pixels * AREA
        fresh = block == first_block and first == 0
        for p in range(POSITIONS):
            for o0 in range(0, pitch, columns * LANES):
                o = min(o0, pitch - columns * LANES)
                for c0 in range(0, channels, rows):
                    c = min(c0, channels - rows)
                    left, right = v + p * plane_v + c * across, g + p * plane_g + o
                    acc = tile_zero(rows, columns, LANES)
                    for k in range(count * LANES):
                        acc = tile_outer(acc, memory, left + k, across, right, LANES)
                        right += pitch
                    at = sums + (p * channels + c) * pitch + o
                    tile_add(acc, memory, at, pitch, LANES, c0 - c, (o0 - o) // LANES, fresh)


def _taps_shapes(d):
    if d["pitch"] % LANES or LANES % d["lanes"]:
        raise ValueError(f"{d['lanes']} lanes of {d['pitch']}")
    return {"sums": (POSITIONS, d["channels"], d["pitch"]), "taps": (9 * d["channels"], d["pitch"])}


@instruction(reads="sums", writes="taps", shapes=_taps_shapes)
def winograd_weight(memory, sums, taps, channels, pitch, lanes: Fixed):
    """taps (channels 3 3, pitch) = G^T sums G."""
    plane = channels * pitch
    for c in range(channels):
        for o in range(0, pitch, lanes):
            positions = tile_patch(
                PATCH, PATCH, lanes, memory, sums + c * pitch + o, PATCH * plane, plane, 0, PATCH, 0, PATCH
            )
            at = taps + 9 * c * pitch + o
            tile_store(winograd_gradient(positions), memory, at, 3 * pitch, pitch, splat(NO_FLOOR))


def takes(low: Lowering, node: Tensor, outer: Tensor) -> bool:
    """Whether tiles take fewer multiply-adds, by at least a quarter, and channels are enough to be worth transforms."""
    x, grad = node.inputs
    out, channels, *kernel = node.shape
    like = node.attrs["stride"], node.attrs["padding"], node.attrs["groups"], tuple(kernel)
    fewer = 5 * POSITIONS * tiles_of(*x.shape[2:]) <= 4 * KERNEL * math.prod(x.shape[2:])
    dense = grad not in low.once(sparse_gradients)
    return like == (1, (1, 1), 1, (TAPS, TAPS)) and fewer and min(out, channels) >= LANES and dense


def _sums(low: Lowering, x: Operand, grad: Operand, sums: Operand, out: int, stage: Stage) -> None:
    """The row of `winograd_grad_weight`."""
    channels, height, width, _ = x.shape
    scratch = {name: low.temporary(size) for name, size in _scratch(channels, padded(out), STRIP).items()}
    shaped = {name: place.shaped((place.size,)) for name, place in scratch.items()}
    rows, columns = low.tiles.panel(channels, padded(out) // LANES)
    low.row(
        winograd_grad_weight, x=x, grad=grad, sums=sums, **shaped, channels=channels, height=height, width=width,
        out=out, strip=STRIP, rows=rows, columns=columns, lanes=low.tiles.lanes, stage=stage,
    )  # fmt: skip
    for place in scratch.values():
        low.release(place)


def _weight(low: Lowering, sums: Operand, dw: Operand, first: int, stage: Stage) -> None:
    """The rows that make of sums what channels from the ``first`` on have in dw."""
    (_, channels, pitch), (out, taps) = sums.shape, dw.shape
    place = low.temporary(9 * channels * pitch)
    of_sums = place.shaped((9 * channels, pitch))
    low.row(
        winograd_weight, sums=sums, taps=of_sums, channels=channels, pitch=pitch, lanes=low.tiles.lanes, stage=stage
    )
    low.row(transpose_weight, x=of_sums, y=dw, out=out, taps=9 * channels, first=9 * first, all=taps, stage=stage)
    low.release(place)


@lowers("conv2d_grad_weight", when=takes)
def _lower_grad_weight(low: Lowering, node: Tensor, outer: Tensor) -> None:
    x, grad = node.inputs
    out, channels = node.shape[:2]
    sums = low.sums(POSITIONS * channels * padded(out)).shaped((POSITIONS, channels, padded(out)))
    _sums(low, low.laned(x), low.laned(grad), sums, out, Stage.BLOCK)
    _weight(low, sums, low.result(outer).shaped((out, 9 * channels)), 0, Stage.GROUP)


@lowers("conv2d_grad_weight", when=lambda *given: takes(*given) and is_large(*given[:2]), sliced=(0, 1))
def _lower_in_slices(low: Lowering, node: Tensor, outer: Tensor) -> None:
    for part in parts(low, node, outer, low.laned(node.inputs[1])):
        place = low.temporary(POSITIONS * part.channels * padded(part.out))
        sums = place.shaped((POSITIONS, part.channels, padded(part.out)))
        grad = part.grad.shaped((part.out, *node.inputs[1].shape[2:], LANES))
        _sums(low, part.x, grad, sums, part.out, Stage.SLICE)
        _weight(low, sums, part.dw, part.first, Stage.SLICE)
        low.release(place)
