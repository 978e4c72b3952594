"""What a lowered row says before its addresses are known."""

from dataclasses import dataclass

import numpy as np

from odyssey_core.backends.numba.table import Kernel, padded


@dataclass(frozen=True)
class Place:
    """Where a value lies: an offset within its space (``parameter``, ``gradient`` or ``scratch``)."""

    space: str
    offset: int
    size: int

    def shaped(self, shape: tuple[int, ...]) -> "Operand":
        return Operand(self, tuple(shape))


@dataclass(frozen=True)
class Operand:
    """A place seen as an array of some shape."""

    place: Place
    shape: tuple[int, ...]


@dataclass
class Row:
    """A row before its addresses are known."""

    kernel: Kernel
    operands: dict[str, Operand | None]
    numbers: dict[str, int]
    after_blocks: bool = False


def stored_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """How a parameter lies in the arena: the rows of a matrix are rounded up to whole vectors."""
    return (shape[0], padded(shape[1])) if len(shape) == 2 else tuple(shape)


def float_bits(value: float) -> int:
    """A float32 as the integer that a row holds."""
    return int(np.float32(value).view(np.int32))
