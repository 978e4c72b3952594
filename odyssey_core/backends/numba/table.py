"""The instruction table: what a kernel's row means, and the program that a graph is lowered to."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.core.types import NamedTuple as NumbaNamedTuple

from odyssey_core.backends.numba.simd import LANES

ROW_WIDTH = 24
ABSENT = -1


class StepFeed(NamedTuple):
    """What every kernel can see beside the arena; fields as in `backends.base.Feed`, C-contiguous.

    ``order`` is (steps, blocks * 16), ``outputs`` (steps, blocks * 16, F). ``key`` is (low word of the seed, high word,
    epoch).
    """

    order: np.ndarray
    pixels: np.ndarray
    labels: np.ndarray
    scalars: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    key: np.ndarray


FEED_TYPE = NumbaNamedTuple(
    (
        types.int64[:, ::1],
        types.uint8[:, ::1],
        types.int64[::1],
        types.float32[:, ::1],
        types.float32[:, :, ::1],
        types.float32[:, :, ::1],
        types.int64[::1],
    ),
    StepFeed,
)
# (arena, row, feed, step of the call, block of sixteen images)
KERNEL_SIGNATURE = types.void(types.float32[::1], types.int64[::1], FEED_TYPE, types.intp, types.intp)


@dataclass(frozen=True)
class Instruction:
    """One kind of row: ``[opcode, reads..., writes..., dims..., constants...]``, the rest zero.

    Attributes:
        name: for the listing and for messages.
        build: ``(*variant) -> kernel``, the loop for a tile size or a window size, to be compiled.
        reads: operands read, offsets into the arena; one in ``optional`` may be absent (-1).
        writes: operands written.
        dims: integers.
        constants: float32 numbers, stored as their bits.
        layout: ``(dims) -> {operand: shape}``; raises ValueError where dims contradict each other.
        flags: dims that may be 0.
        per_block: reads the feed at its block, so it cannot stand after the blocks.
        updates: writes parameters and slots, where every other instruction writes scratch and gradients alone.
    """

    name: str
    build: Callable[..., Any]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    dims: tuple[str, ...]
    layout: Callable[[dict[str, int]], dict[str, tuple[int, ...]]]
    constants: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    updates: bool = False
    per_block: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of a row's columns after the opcode."""
        return (*self.reads, *self.writes, *self.dims, *self.constants)


class Kernel(NamedTuple):
    """An instruction in one of its compiled variants."""

    instruction: Instruction
    variant: tuple[int, ...]

    def compiled(self):
        """The jitted function; the same object for the same kernel."""
        return _compiled(self)


@cache
def _compiled(kernel: Kernel):
    function = kernel.instruction.build(*kernel.variant)
    function.__qualname__ = "_".join(map(str, (kernel.instruction.name, *kernel.variant)))
    return njit(nogil=True)(function)  # `loading` keeps what is compiled


class Buffer(NamedTuple):
    """A stretch of the arena with a meaning: ``role`` is parameter, slot, gradient or scratch."""

    offset: int
    shape: tuple[int, ...]
    role: str


@dataclass
class Program:
    """A lowered graph.

    Attributes:
        kernels: by opcode.
        table: (rows, ROW_WIDTH) int64.
        phases: (phases, groups, 5) int64: first row, end of the rows run for each block, end of the rows run once
            after the blocks, first block, end of the blocks. A barrier stands between phases. Groups without rows
            stand last.
        buffers: every stretch that a row may name.
        arena_size: float32 elements.
        blocks: blocks of sixteen images in a step.
        workers: how many share out the groups of a phase; the groups of one run one after the other.
        pixels: (C H W) that a gathered image must have, or None.
    """

    kernels: list[Kernel]
    table: np.ndarray
    phases: np.ndarray
    buffers: set[Buffer]
    arena_size: int
    blocks: int
    workers: int = 1
    pixels: int | None = None
    inputs: int = 0
    outputs: int = 0

    def columns(self, instruction: str) -> int:
        """Width of what ``ingest`` reads or ``emit`` writes."""
        return self.inputs if instruction == "ingest" else self.outputs

    def listing(self) -> str:
        """The table as text, one row a line: for debugging, and for learning how a step runs."""
        lines = []
        for p, groups in enumerate(self.phases):
            for g, (first, body, end, block, last) in enumerate(groups):
                lines.append(f"phase {p}, group {g}: blocks {block} to {last - 1}")
                for r in range(first, end):
                    mark = " " if r < body else "+"
                    lines.append(f" {mark}{r:4d}  {self.describe(r)}")
        return "\n".join(lines)

    def describe(self, row: int) -> str:
        """One row in words: ``conv2d(3, 2) x=0 weight=... C=1 H=28``."""
        values = self.table[row]
        if not 0 <= values[0] < len(self.kernels):
            return f"unknown opcode {values[0]}"
        instruction, variant = self.kernels[values[0]]
        bits = values[1 + len(instruction.fields) - len(instruction.constants) :].astype(np.int32).view(np.float32)
        shown = [
            f"{n}={v}" for n, v in zip(instruction.fields, values[1:], strict=False) if n not in instruction.constants
        ]
        shown += [f"{n}={v:g}" for n, v in zip(instruction.constants, bits, strict=False)]
        return f"{instruction.name}{list(variant) if variant else ''} {' '.join(shown)}"


def padded(count: int) -> int:
    """The count rounded up to whole vectors."""
    return -(-count // LANES) * LANES


def share(count: int, parts: int, part: int) -> tuple[int, int]:
    """First and end of one part's run of ``count`` things, cut into parts as equal as they can be."""
    return part * count // parts, (part + 1) * count // parts
