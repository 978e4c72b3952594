"""The gradient of a convolution's input: tiles of pixels that see the same taps of the kernel.

With a stride of s these are every s-th pixel of a row; together they are a convolution of stride 1 of the gradient.
"""

import numpy as np
from numba.extending import register_jitable

from odyssey_core.backends.numba.instruction import Fixed, Index, instruction
from odyssey_core.backends.numba.kernels import conv
from odyssey_core.backends.numba.kernels.packed import packed, packed_size, pixels_at_once
from odyssey_core.backends.numba.lower import Fusion, Lowering, lowers
from odyssey_core.backends.numba.register_tile import tile_outer, tile_store, tile_store_where, tile_zero
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.backends.numba.vector import splat
from odyssey_core.tensor import Tensor

NO_FLOOR = np.float32(-np.inf)


def _border(length: int, out: int, kernel: int, stride: int, padding: int) -> int:
    """Zeros that the gradient needs on either side of it, so that every pixel of a tile sees as many taps."""
    before = -((padding - kernel + stride) // stride)
    return max(0, before, (length - 1 + padding) // stride - (out - 1))


def _borders(d) -> tuple[int, int]:
    sides = "height", "width"
    return tuple(
        _border(d[side], d[f"out_{side}"], d[f"kernel_{side}"], d["stride"], d[f"pad_{side}"]) for side in sides
    )


def _shapes(d):
    s = conv.shapes({**d, "groups": 1})
    (_, high, wide, _), groups = s["x"], d["groups"]
    if not (0 < d["rows"] <= d["channels"] and 0 < d["columns"] <= max(1, wide // d["stride"])):
        raise ValueError(f"tile of {d['rows']} x {d['columns']} over {d['channels']} channels and {wide} pixels")
    if (d["border_height"], d["border_width"]) != _borders(d):
        raise ValueError(f"border of {d['border_height']} x {d['border_width']}, the gradient needs {_borders(d)}")
    dx = (groups * d["channels"], high, wide, LANES)
    bordered = d["out_height"] + 2 * d["border_height"], d["out_width"] + 2 * d["border_width"]
    size = packed_size(groups, d["channels"], d["out"] * d["kernel_height"] * d["kernel_width"], d["rows"])
    return {"grad": (groups * d["out"], *bordered, LANES), "weight": (size,), "gate": dx, "dx": dx}


@register_jitable
def _first(place, kernel, stride):
    """The first output pixel that saw a pixel of the bordered input, by which tap, and how many did.

    Above the image it may be negative.
    """
    first = (place - kernel + stride) // stride
    tap = place - first * stride
    return first, tap, tap // stride + 1 if tap >= 0 else 0


@instruction(reads="grad weight gate?", writes="dx", shapes=_shapes, multiply_adds=conv.multiply_adds)
def conv2d_grad_input(
    memory, grad, weight, gate, dx, channels, height, width, out, out_height, out_width, stride, groups, span,
    pad_height: Index, pad_width: Index, border_height: Index, border_width: Index, rows: Fixed, columns: Fixed,
    kernel_height: Fixed, kernel_width: Fixed,
):  # fmt: skip
    """dx: tiles of ``rows`` channels x ``columns`` pixels, ``stride`` apart, all channels of ``span`` at a time.

    The gradient lies in a border of zeros, the weight as `packed` has it, transposed. dx is 0 where the gate, if there
    is one, is not above 0.
    """
    taps, tiles = out * kernel_height * kernel_width, (channels + rows - 1) // rows
    high, wide = (out_height + 2 * border_height) * LANES, out_width + 2 * border_width
    plane = height * width * LANES
    for group in range(groups):
        for y in range(height):
            i, k, down = _first(y + pad_height, kernel_height, stride)
            for x0 in range(min(stride, width)):
                j, m, across = _first(x0 + pad_width, kernel_width, stride)
                pixels = (width - x0 + stride - 1) // stride
                start = grad + (group * out * high + (i + border_height) * LANES) * wide
                start += (j + border_width) * LANES
                for s0 in range(0, pixels, span):
                    for tile in range(tiles):
                        c = min(tile * rows, channels - rows)
                        for t0 in range(s0, min(pixels, s0 + span), columns):
                            t = min(t0, pixels - columns)
                            acc = tile_zero(rows, columns, LANES)
                            q0 = weight + ((group * tiles + tile) * taps + k * kernel_width + m) * rows
                            p0 = start + t * LANES
                            for _ in range(out):
                                q, p = q0, p0
                                for _ in range(down):
                                    for b in range(across):
                                        at = p + b * LANES
                                        acc = tile_outer(acc, memory, q - b * stride * rows, 1, at, LANES)
                                    q, p = q - stride * kernel_width * rows, p + wide * LANES
                                q0, p0 = q0 + kernel_height * kernel_width * rows, p0 + high * wide
                            at = (((group * channels + c) * height + y) * width + x0 + t * stride) * LANES
                            if gate >= 0:
                                tile_store_where(acc, memory, dx + at, plane, stride * LANES, gate + at)
                            else:
                                tile_store(acc, memory, dx + at, plane, stride * LANES, splat(NO_FLOOR))


@lowers("conv2d_grad_input", fuses=[Fusion("relu_grad", operand=1)])
def _lower(low: Lowering, node: Tensor, outer: Tensor) -> None:
    grad, weight = node.inputs
    groups, stride, (pad_height, pad_width) = node.attrs["groups"], node.attrs["stride"], node.attrs["padding"]
    sizes = {
        **conv.sizes(node.shape, grad.shape, node), "pad_height": pad_height, "pad_width": pad_width,
        "kernel_height": weight.shape[2], "kernel_width": weight.shape[3],
    }  # fmt: skip
    border = _borders(sizes)
    dx = low.result(outer).shaped((*node.shape[1:], LANES))
    source, _, place = conv.bordered(low, grad, border)
    rows, columns = low.tiles.outer(sizes["channels"], max(1, node.shape[3] // stride))
    pixels = pixels_at_once(columns, weight.shape[0] // groups * max(1, weight.shape[2] // stride))
    low.row(
        conv2d_grad_input, grad=source, weight=packed(low, weight, groups, rows, transposed=True), dx=dx, **sizes,
        groups=groups, rows=rows, columns=columns, span=pixels, border_height=border[0], border_width=border[1],
        gate=low.laned(outer.inputs[0], node.shape[1:]) if outer is not node else None,
    )  # fmt: skip
    low.release(place)
