"""What weights' gradients have in common that are summed in slices of output channels, over all blocks of a step."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from odyssey_core.backends.numba.kernels.affine import exchange_lanes
from odyssey_core.backends.numba.lower import Lowering
from odyssey_core.backends.numba.operands import Operand, Place, padded
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.tensor import Tensor

# Elements of a weight from which on its gradient is summed in slices: copies of it for each group of blocks would take
# more than what slices read. Part of the result's definition (order of additions), so it must not depend on the CPU.
LARGE = 2**17
# Input channels that are summed at once: their sums stay in the second cache.
CHANNELS = 64


def is_large(low: Lowering, grad: Tensor) -> bool:
    """Whether a weight's gradient is summed in slices. One that is a part of a shared weight's gradient is not."""
    return math.prod(grad.shape) >= LARGE and not any(grad in node.inputs for node in low.order)


def exchanged(low: Lowering, value: Tensor, place: Place | None = None) -> Operand:
    """A value with channels as lanes: (vectors of channels, pixels, 16, 16), by default kept until the level ends."""
    features, pixels = value.shape[1], math.prod(value.shape[2:])
    place = place or low.until_level_ends(padded(features) * pixels * LANES)
    y = place.shaped((padded(features) // LANES, pixels, LANES, LANES))
    low.row(exchange_lanes, x=low.laned(value, (features, pixels)), y=y, features=features, pixels=pixels)
    return y


class Part(NamedTuple):
    """What is summed at once of the gradient of a convolution's weight.

    Attributes:
        out, channels: how many output and input channels.
        first: of the input channels.
        x: (channels, height, width, 16) of the input.
        grad: what ``out`` channels take of the output's, in its own layout or as `exchanged` has it.
        dw: (out, taps) of the slice, for all input channels.
    """

    out: int
    channels: int
    first: int
    x: Operand
    grad: Place
    dw: Operand


def parts(low: Lowering, node: Tensor, outer: Tensor, grad: Operand) -> Iterator[Part]:
    """The parts of a gradient, slice by slice, of the output's ``grad``, in its own layout or as `exchanged` has it.

    The rows of a slice run one after the other, on one worker.
    """
    x, pixels = node.inputs[0], math.prod(node.inputs[1].shape[2:])
    (out, channels), taps = node.shape[:2], math.prod(node.shape[1:])
    dw, image = low.result(outer), math.prod(x.shape[2:]) * LANES
    for start, end in low.slices(out):
        own = grad.place.part(start * pixels * LANES, (end - start) * pixels * LANES)
        rows = dw.part(start * taps, (end - start) * taps).shaped((end - start, taps))
        for first in range(0, channels, CHANNELS):
            count = min(CHANNELS, channels - first)
            seen = low.laned(x).place.part(first * image, count * image).shaped((count, *x.shape[2:], LANES))
            yield Part(end - start, count, first, seen, own, rows)
