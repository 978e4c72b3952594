"""From a graph to the rows of one image, whose lanes are its channels."""

import math
from collections import defaultdict

from odyssey_core.backends.numba.instruction import INSTRUCTIONS
from odyssey_core.backends.numba.lower import Lowering, Rules
from odyssey_core.backends.numba.operands import Operand, padded
from odyssey_core.backends.numba.traced import HALF, LANES
from odyssey_core.tensor import Tensor

SINGLE_RULES: Rules = defaultdict(list)


def pitch(channels: int, pixels: int) -> int:
    """Elements from pixel to pixel of an image whose channels stand side by side: vectors, or halves of one.

    Where there is one channel alone, pixels follow each other.
    """
    if channels == 1 and pixels > 1:
        return 1
    return HALF if channels <= HALF else (channels + LANES - 1) // LANES * LANES


def extent(channels: int, pixels: int) -> int:
    """Elements of such an image. Behind half vectors lies room for what is read and written in whole ones."""
    each = pitch(channels, pixels)
    return padded(pixels * each + (HALF if each == HALF else 0))


class SingleLowering(Lowering):
    """The rows of one image, whose lanes are its channels: a value is (pixels, pitch), as `pitch` says.

    For a few images alone; inference only. Every sum has the order that it has in blocks of sixteen images.
    """

    rules, images = SINGLE_RULES, 1

    @staticmethod
    def sizes(node: Tensor) -> tuple[int, int]:
        """Channels, or features, and pixels of a value."""
        return node.shape[1], math.prod(node.shape[2:])

    def size(self, node: Tensor) -> int:
        return extent(*self.sizes(node))

    def value(self, node: Tensor) -> Operand:
        """The value of a batched node."""
        return self.places[node].shaped((self.size(node),))

    def made(self, node: Tensor) -> Operand:
        """Memory for a node's value."""
        self.result(node)
        return self.value(node)

    def emit(self, node: Tensor, size: int, column: int) -> None:
        if self.sizes(node)[1] > 1:
            self.refuse(node)
        self.row(INSTRUCTIONS["emit_single"], x=self.places[node].shaped((size,)), size=size, column=column)
