"""What a lowered row says before its addresses are known."""

from dataclasses import dataclass, field
from enum import Enum
from math import prod
from typing import NamedTuple

from odyssey_core.backends.numba.instruction import Instruction, Kernel
from odyssey_core.backends.numba.traced import LANES


@dataclass(frozen=True)
class Place:
    """Where a value lies: an offset within its space, in float32 elements.

    Spaces, and how many of each there are:
        parameter, slot: one; changed by updates alone.
        shared: one; sums over the whole batch, or parameters in another order, for every block in a later phase; the
            gradients of large weights.
        gradient: one for each group of blocks, kept from block to block.
        kept: one for each block of sixteen images; values that a later phase reads.
        scratch: one for each worker; values of the block that is run.
    """

    space: str
    offset: int
    size: int

    def shaped(self, shape: tuple[int, ...]) -> "Operand":
        return Operand(self, tuple(shape))

    def part(self, start: int, size: int) -> "Place":
        """A stretch of it."""
        return Place(self.space, self.offset + start, size)


@dataclass(frozen=True)
class Operand:
    """A place seen as an array of some shape."""

    place: Place
    shape: tuple[int, ...]


class Combined(NamedTuple):
    """What blocks read in a later level of a sum over the batch: where the groups' parts lie, and where their sum goes.

    The instruction makes the one of the others, as `sum_groups` does.
    """

    level: int
    parts: Place
    total: Place
    instruction: Instruction


class Stage(Enum):
    """When a row runs: for each block, for each group when its blocks are done, for several blocks at once when all of
    its level are, once when all levels are, or once for all steps when parameters are written.
    """

    BLOCK, GROUP, SLICE, STEP, WRITTEN = range(5)


class Task(NamedTuple):
    """Rows of `Stage.SLICE` that run one after the other, on one worker.

    Attributes:
        number: tells them from others.
        blocks: first and end of those that they take; None for all.
    """

    number: int
    blocks: tuple[int, int] | None


@dataclass
class Row:
    """A row before its addresses are known.

    Attributes:
        kernel, operands, numbers: what it computes; an operand may be absent.
        level: which of the walks over all blocks it belongs to.
        stage: how often it runs in that.
        task: that a row of `Stage.SLICE` belongs to.
    """

    kernel: Kernel
    operands: dict[str, Operand | None]
    numbers: dict[str, float]
    level: int
    stage: "Stage"
    task: Task


@dataclass
class Scratch:
    """First fit over a growing stretch; addresses and sizes in float32 elements, whole vectors."""

    size: int = 0
    free: list[tuple[int, int]] = field(default_factory=list)  # (start, end), ascending, never touching each other

    def take(self, size: int) -> int:
        """The start of ``size`` free elements."""
        size = padded(size)
        for i, (start, end) in enumerate(self.free):
            if end - start >= size:
                self.free[i : i + 1] = [(start + size, end)] if end - start > size else []
                return start
        at_the_end = self.free and self.free[-1][1] == self.size
        start = self.free.pop()[0] if at_the_end else self.size
        self.size = start + size
        return start

    def release(self, start: int, size: int) -> None:
        """Gives elements back."""
        self.free = sorted([*self.free, (start, start + padded(size))])
        for i in range(len(self.free) - 1, 0, -1):
            if self.free[i - 1][1] == self.free[i][0]:
                self.free[i - 1 : i + 1] = [(self.free[i - 1][0], self.free[i][1])]


def padded(count: int) -> int:
    """The count rounded up to whole vectors."""
    return -(-count // LANES) * LANES


def share(count: int, parts: int, part: int) -> tuple[int, int]:
    """First and end of one part's run of ``count`` things, cut into parts as equal as they can be."""
    return part * count // parts, (part + 1) * count // parts


def parts_for(count: int, most: int, workers: int) -> int:
    """Into how many parts to cut ``count`` things: none of more than ``most``, and each worker gets as many parts."""
    return min(count, -(-count // (most * workers)) * workers)


def stored_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """How a parameter lies in memory: the rows of a matrix are rounded up to whole vectors."""
    return (shape[0], padded(shape[1])) if len(shape) == 2 else tuple(shape)


def stored_size(shape: tuple[int, ...]) -> int:
    """Elements of a parameter in memory, whole vectors."""
    return padded(prod(stored_shape(shape)))
