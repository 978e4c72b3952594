"""From the rows of one block to the whole program: groups, addresses, phases, updates.

The arena holds, one after the other: parameters, each slot of the optimizer in the parameters' layout, for every group
its gradients in the same layout, and for every worker, who runs one group after the other, scratch: one that a group
had just used is still in the core's cache (a tenth of LeNet-5's step where one thread runs two groups); at the end the
sums of squares that clipping needs.
"""

from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np

from odyssey_core.backends.numba.kernels.update import CLIP, EMA, RULES, SUM_SQUARES
from odyssey_core.backends.numba.lower import Lowering
from odyssey_core.backends.numba.places import Operand, Place, Row, float_bits
from odyssey_core.backends.numba.simd import LANES
from odyssey_core.backends.numba.table import ABSENT, ROW_WIDTH, Buffer, Kernel, Program, padded, share
from odyssey_core.optim import Optimizer, StepRule, Update

# Stretches that the parameters are cut into for the update, whatever the number of threads.
UPDATE_GROUPS = 8


class Piece(NamedTuple):
    """What one row updates: ``length`` elements of the parameters from ``start`` on; ``number`` counts the pieces."""

    number: int
    optimizer: Optimizer
    start: int
    length: int


class Layout:
    """Addresses of everything in the arena."""

    def __init__(
        self, lowering: Lowering, updates: Sequence[Update], rule: StepRule, groups: int, workers: int, pieces: int
    ):
        self.groups, self.rule = groups, rule
        self.parameter_size = lowering.parameter_size
        slots = sorted({slot for u in updates for slot in (*u.optimizer.slots(), *rule.slots())})
        self.slots = {slot: (i + 1) * self.parameter_size for i, slot in enumerate(slots)}
        self.gradients = (1 + len(slots)) * self.parameter_size
        self.gradient_stride = lowering.gradient_size
        self.scratch = self.gradients + groups * self.gradient_stride
        self.scratch_stride = padded(lowering.scratch.size) + LANES  # a cache line apart: no worker's prefetch takes it
        self.squares = self.scratch + workers * self.scratch_stride
        self.parts = pieces if rule.clip_norm is not None else 0
        self.size = self.squares + self.parts * LANES

    def address(self, place: Place, group: int, worker: int) -> int:
        """Where a place lies for a group of a worker."""
        if place.space == "parameter":
            return place.offset
        if place.space == "gradient":
            return self.gradients + group * self.gradient_stride + place.offset
        return self.scratch + worker * self.scratch_stride + place.offset


class _Writer:
    """Collects rows, kernels and buffers."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.kernels: dict[Kernel, int] = {}
        self.rows: list[list[int]] = []
        self.buffers: set[Buffer] = set()

    def add(self, kernel: Kernel, fields: dict[str, int]) -> None:
        opcode = self.kernels.setdefault(kernel, len(self.kernels))
        row = [opcode, *(fields[name] for name in kernel.instruction.fields)]
        self.rows.append(row + [0] * (ROW_WIDTH - len(row)))

    def add_row(self, row: Row, group: int, worker: int, first_block: int) -> None:
        fields = dict(row.numbers)
        if "first_block" in fields:
            fields["first_block"] = first_block
        for name, operand in row.operands.items():
            fields[name] = ABSENT if operand is None else self._operand(operand, group, worker)
        self.add(row.kernel, fields)

    def _operand(self, operand: Operand, group: int, worker: int) -> int:
        address = self.layout.address(operand.place, group, worker)
        self.buffers.add(Buffer(address, operand.shape, operand.place.space))
        return address

    def add_squares(self, piece: Piece) -> None:
        """Sums the groups' gradients into those of the first group, and their squares into the piece's own vector."""
        fields = self._gradients(piece, self.layout.groups)
        squares = self._buffer(self.layout.squares + piece.number * LANES, (LANES,), "gradient")
        self.add(Kernel(SUM_SQUARES, ()), fields | {"summed": fields["grads"], "squares": squares})

    def add_update(self, piece: Piece) -> None:
        """The optimizer's rule, and what goes around it."""
        _, optimizer, start, length = piece
        layout, instruction, rule = self.layout, RULES[optimizer.rule], self.layout.rule
        fields = self._gradients(piece, 1 if layout.parts else layout.groups)
        if layout.parts:
            squares = self._buffer(layout.squares, (layout.parts, LANES), "gradient")
            clip = {"squares": squares, "parts": layout.parts, "clip_norm": float_bits(rule.clip_norm)}
            self.add(Kernel(CLIP, ()), fields | clip)
        fields["parameter"] = self._buffer(start, (length,), "parameter")
        for slot in instruction.writes[1:]:
            fields[slot] = self._slot(slot, start, length) if slot in optimizer.slots() else ABSENT
        fields |= dict(zip(instruction.constants, map(float_bits, optimizer.constants()), strict=True))
        self.add(Kernel(instruction, ()), fields)
        if rule.ema is not None:
            fields["average"] = self._slot("ema", start, length)
            self.add(Kernel(EMA, ()), fields)

    def _gradients(self, piece: Piece, groups: int) -> dict[str, int]:
        """The fields of a row that reads the gradients of the first ``groups`` groups."""
        grads, stride = self.layout.gradients + piece.start, self.layout.gradient_stride
        for g in range(groups):
            self._buffer(grads + g * stride, (piece.length,), "gradient")
        return {"grads": grads, "length": piece.length, "groups": groups, "stride": stride}

    def _slot(self, slot: str, start: int, length: int) -> int:
        return self._buffer(self.layout.slots[slot] + start, (length,), "slot")

    def _buffer(self, address: int, shape: tuple[int, ...], role: str) -> int:
        self.buffers.add(Buffer(address, shape, role))
        return address


def lay_out(
    lowering: Lowering, updates: Sequence[Update], rule: StepRule, batch_size: int, groups: int, workers: int
) -> tuple[Program, Layout]:
    """The program of a lowered graph, and where its arena holds what.

    Args:
        lowering: the rows of one block.
        updates: what follows when all gradients are there.
        rule: what goes around it.
        batch_size: images per step.
        groups: at most so many; never more than there are blocks. Part of the result.
        workers: at most so many share the groups; no part of the result.
    """
    blocks = -(-batch_size // LANES)
    groups = min(groups, blocks)
    workers = min(workers, groups)
    stretches = _stretches(lowering, updates)
    layout = Layout(lowering, updates, rule, groups, workers, sum(map(len, stretches)))
    writer = _Writer(layout)
    phases = [[]]
    body = [row for row in lowering.rows if not row.after_blocks]
    tail = [row for row in lowering.rows if row.after_blocks]
    for worker in range(workers):
        for g in range(*share(groups, workers, worker)):
            first, last = share(blocks, groups, g)
            start = len(writer.rows)
            for row in (*body, *tail):
                writer.add_row(row, g, worker, first)
            phases[0].append((start, start + len(body), len(writer.rows), first, last))
    if layout.parts:
        phases.append(_phase(writer, stretches, writer.add_squares))
    if updates:
        phases.append(_phase(writer, stretches, writer.add_update))
    width = max(len(p) for p in phases)
    idle = (len(writer.rows),) * 3 + (0, 0)
    table = np.array([p + [idle] * (width - len(p)) for p in phases], np.int64)
    program = Program(
        kernels=list(writer.kernels),
        table=np.array(writer.rows, np.int64),
        phases=table,
        buffers=writer.buffers,
        arena_size=layout.size,
        blocks=blocks,
        workers=workers,
        pixels=lowering.pixels,
        inputs=sum(int(np.prod(x.shape[1:])) for x in lowering.inputs),
        outputs=lowering.output_columns,
    )
    return program, layout


def _stretches(lowering: Lowering, updates: Sequence[Update]) -> list[list[Piece]]:
    """Parameters that stand side by side under one rule are updated by one row, cut at the stretches' borders.

    A stretch of parameters that are not trained is left out.
    """
    spans: list[tuple[Optimizer, int, int]] = []
    for u in sorted(updates, key=lambda u: lowering.places[u.parameter].offset):
        place = lowering.places[u.parameter]
        if spans and spans[-1][0] == u.optimizer and spans[-1][2] == place.offset:
            spans[-1] = (u.optimizer, spans[-1][1], place.offset + place.size)
        else:
            spans.append((u.optimizer, place.offset, place.offset + place.size))
    width, numbers = padded(-(-lowering.parameter_size // UPDATE_GROUPS)), count()
    stretches = []
    for i in range(UPDATE_GROUPS):
        cut = [(o, max(low, i * width), min(high, (i + 1) * width)) for o, low, high in spans]
        stretches.append([Piece(next(numbers), o, a, b - a) for o, a, b in cut if a < b])
    return [pieces for pieces in stretches if pieces]


def _phase(writer: _Writer, stretches: list[list[Piece]], add: Callable[[Piece], None]) -> list[tuple]:
    """A group for each stretch. Nothing here belongs to a block: the rows stand after them."""
    phase = []
    for pieces in stretches:
        start = len(writer.rows)
        for piece in pieces:
            add(piece)
        phase.append((start, start, len(writer.rows), 0, 0))
    return phase
