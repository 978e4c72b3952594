"""Weights in the order in which the tiles of a convolution read them: rows of a tile side by side, then its next term.

Where a tile's rows lie apart, each takes a register for its address, or a line of the cache for one number.
"""

import math

from odyssey_core.backends.numba.instruction import Flag, instruction
from odyssey_core.backends.numba.lower import Lowering
from odyssey_core.backends.numba.operands import Operand, Stage
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.tensor import Tensor

# Floats of what all tiles of output channels are multiplied by before the next ones are: 64 KB.
PATCH = 1 << 14


def packed_size(groups: int, out: int, terms: int, rows: int) -> int:
    """Elements of packed weights: for each tile of ``rows`` of ``out`` rows its terms; the last tiles may overlap."""
    return groups * -(-out // rows) * rows * terms


def _shapes(d):
    if d["rows"] > d["out"]:
        raise ValueError(f"tile of {d['rows']} rows over {d['out']}")
    first, second = (d["channels"], d["out"]) if d["transposed"] else (d["out"], d["channels"])
    x = (d["groups"] * first, second, d["area"])
    return {"x": x, "y": (packed_size(d["groups"], d["out"], d["channels"] * d["area"], d["rows"]),)}


@instruction(reads="x", writes="y", shapes=_shapes)
def pack(memory, x, y, groups, out, channels, area, rows, transposed: Flag):
    """y (groups, tiles, channels, area, rows) = x (groups, out, channels, area), or (groups, channels, out, area)."""
    apart, along = (area, out * area) if transposed else (channels * area, area)
    for g in range(groups):
        for o0 in range(0, out, rows):
            first = x + g * out * channels * area + min(o0, out - rows) * apart
            for c in range(channels):
                for k in range(area):
                    for o in range(rows):
                        memory[y] = memory[first + o * apart + c * along + k]
                        y += 1


def pixels_at_once(columns: int, vectors: int) -> int:
    """Whole tiles of pixels that stay in the cache while weights pass; each pixel reads so many vectors of its own."""
    return columns * max(1, PATCH // (vectors * columns * LANES))


def _known(low: Lowering) -> dict[tuple[Tensor, int, bool], Operand]:
    """Packed weights, each once: filled while rows are made."""
    return {}


def packed(low: Lowering, weight: Tensor, groups: int, rows: int, *, transposed: bool = False) -> Operand:
    """The weight (out, in / groups, ...) for tiles of ``rows`` output channels; of input channels where transposed."""
    known, key = low.once(_known), (weight, rows, transposed)
    if key not in known:
        out, channels, area = weight.shape[0] // groups, weight.shape[1], math.prod(weight.shape[2:])
        x = low.places[weight].shaped((weight.shape[0], channels, area))
        if transposed:
            out, channels = channels, out
        size = packed_size(groups, out, channels * area, rows)
        known[key] = low.shared(size).shaped((size,))
        low.row(
            pack, x=x, y=known[key], groups=groups, out=out, channels=channels, area=area, rows=rows,
            transposed=transposed, stage=Stage.WRITTEN,
        )  # fmt: skip
    return known[key]
