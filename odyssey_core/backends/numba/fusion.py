"""Which nodes of a graph share work when it is lowered."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from odyssey_core.backends.numba.kernels.pooled import whole
from odyssey_core.tensor import Tensor

GATES = {"max_pool2d_grad", "linear_grad_input", "conv2d_grad_input"}
FLOORS = {"conv2d", "linear"}
OF_CONV = {"conv2d_grad_weight", "conv2d_grad_input"}


class Patches(NamedTuple):
    """How the images lie whose patches a convolution saw that a max-pool follows.

    Attributes:
        windows: (output channels, height, width) of what the pool leaves.
        kernel: (height, width) of the convolution's.
        stride: of the convolution.
        height, width: of an image, its border of zeros included.
        pixel: floats that a pixel takes.
    """

    windows: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: int
    height: int
    width: int
    pixel: int


def joined(order: Sequence[Tensor], uses: Counter) -> dict[Tensor, Tensor]:
    """relu into the store of what it follows, and relu's derivative into the store of the gradient it gates."""
    fused = {}
    for node in order:
        if node.op.name == "relu":
            inner = node.inputs[0]
            possible = inner.op.name in FLOORS
        elif node.op.name == "relu_grad":
            inner = node.inputs[1]
            possible = inner.op.name in GATES and (
                inner.op.name != "max_pool2d_grad" or inner.inputs[0] is node.inputs[0]
            )
        else:
            continue
        if possible and uses[inner] == 1:
            fused[inner] = node
    return fused


def sparse(order: Sequence[Tensor], uses: Counter, fused: dict[Tensor, Tensor]) -> dict[Tensor, Patches]:
    """Gradients of max-pools that only a convolution's gradients read, and that are zero in most places.

    Three quarters is most: from there on a list of what is not zero costs less than the zeros.
    """
    readers: dict[Tensor, list[Tensor]] = {}
    for node in order:
        for x in node.inputs:
            readers.setdefault(x, []).append(node)
    found = {}
    for node in order:
        if node.op.name == "max_pool2d_grad":
            grad, (x, y, _) = fused.get(node, node), node.inputs
            reading = readers.get(grad, [])
            convolutions = [r for r in reading if r.op.name in OF_CONV]
            patches = {_patches(y, r) for r in convolutions}
            rare = 4 * math.prod(y.shape[2:]) <= math.prod(x.shape[2:])
            alone = uses[grad] == len(reading) and {r.op.name for r in reading} <= {*OF_CONV, "grad_bias"}
            if rare and alone and len({p._replace(pixel=whole(p.pixel)) for p in patches}) == 1:
                found[grad] = max(patches, key=lambda p: p.pixel)
    return found


def _patches(pooled: Tensor, reader: Tensor) -> Patches:
    """How the images lie for one of the convolution's two gradients."""
    weights = reader.op.name == "conv2d_grad_weight"
    _, channels, height, width = (reader.inputs[0] if weights else reader).shape
    kernel = (reader if weights else reader.inputs[1]).shape[2:]
    border = 2 * reader.attrs["padding"][0]
    # An input's gradient is added to in whole vectors, one channel's too.
    pixel = 1 if weights and channels == 1 else whole(channels)
    return Patches(pooled.shape[1:], kernel, reader.attrs["stride"], height + border, width + border, pixel)
