"""From the rows of one block to the whole program: groups, addresses, phases, updates.

The arena holds, one after the other: parameters, each slot of the optimizer in the parameters' layout, and for every
group its gradients in the same layout and its scratch.
"""

from collections.abc import Sequence

import numpy as np

from odyssey_core.backends.numba.kernels.update import RULES
from odyssey_core.backends.numba.lower import Lowering, Operand, Place, Row, float_bits
from odyssey_core.backends.numba.simd import LANES
from odyssey_core.backends.numba.table import ABSENT, ROW_WIDTH, Buffer, Kernel, Program, padded
from odyssey_core.optim import Optimizer, Update

# Stretches that the parameters are cut into for the update, whatever the number of threads.
UPDATE_GROUPS = 8


class Layout:
    """Addresses of everything in the arena."""

    def __init__(self, lowering: Lowering, updates: Sequence[Update], groups: int):
        self.parameter_size = lowering.parameter_size
        slots = sorted({slot for u in updates for slot in u.optimizer.slots()})
        self.slots = {slot: (i + 1) * self.parameter_size for i, slot in enumerate(slots)}
        self.gradients = (1 + len(slots)) * self.parameter_size
        self.gradient_stride = lowering.gradient_size
        self.scratch = self.gradients + groups * self.gradient_stride
        # Groups' scratch a cache line apart from a multiple of 4096 bytes: rows of two groups never share a set.
        self.scratch_stride = padded(lowering.scratch.size) + LANES
        self.size = self.scratch + groups * self.scratch_stride

    def address(self, place: Place, group: int) -> int:
        """Where a place lies for a group."""
        if place.space == "parameter":
            return place.offset
        if place.space == "gradient":
            return self.gradients + group * self.gradient_stride + place.offset
        return self.scratch + group * self.scratch_stride + place.offset


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

    def add_row(self, row: Row, group: int, first_block: int) -> None:
        fields = dict(row.numbers)
        if "first_block" in fields:
            fields["first_block"] = first_block
        for name, operand in row.operands.items():
            fields[name] = ABSENT if operand is None else self._operand(operand, group)
        self.add(row.kernel, fields)

    def _operand(self, operand: Operand, group: int) -> int:
        address = self.layout.address(operand.place, group)
        self.buffers.add(Buffer(address, operand.shape, operand.place.space))
        return address

    def add_update(self, optimizer: Optimizer, start: int, length: int, groups: int) -> None:
        """One rule over ``length`` elements of the parameters from ``start`` on."""
        layout, instruction = self.layout, RULES[optimizer.rule]
        self.buffers.add(Buffer(start, (length,), "parameter"))
        for g in range(groups):
            self.buffers.add(Buffer(layout.gradients + g * layout.gradient_stride + start, (length,), "gradient"))
        fields = {"parameter": start, "grads": layout.gradients + start}
        fields |= {"length": length, "groups": groups, "stride": layout.gradient_stride}
        for slot in instruction.writes[1:]:
            held = slot in optimizer.slots()
            fields[slot] = layout.slots[slot] + start if held else ABSENT
            if held:
                self.buffers.add(Buffer(fields[slot], (length,), "slot"))
        fields |= dict(zip(instruction.constants, map(float_bits, optimizer.constants()), strict=True))
        self.add(Kernel(instruction, ()), fields)


def lay_out(lowering: Lowering, updates: Sequence[Update], batch_size: int, groups: int) -> tuple[Program, Layout]:
    """The program of a lowered graph, and where its arena holds what.

    Args:
        lowering: the rows of one block.
        updates: what follows when all gradients are there.
        batch_size: images per step.
        groups: at most so many; never more than there are blocks.
    """
    blocks = -(-batch_size // LANES)
    groups = min(groups, blocks)
    layout = Layout(lowering, updates, groups)
    writer = _Writer(layout)
    phases = [[]]
    body = [row for row in lowering.rows if not row.after_blocks]
    tail = [row for row in lowering.rows if row.after_blocks]
    for g in range(groups):
        first, last = g * blocks // groups, (g + 1) * blocks // groups
        start = len(writer.rows)
        for row in (*body, *tail):
            writer.add_row(row, g, first)
        phases[0].append((start, start + len(body), len(writer.rows), first, last))
    if updates:
        phases.append(_update_phase(writer, lowering, updates, groups))
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
        pixels=lowering.pixels,
        inputs=sum(int(np.prod(x.shape[1:])) for x in lowering.inputs),
        outputs=lowering.output_columns,
    )
    return program, layout


def _update_phase(writer: _Writer, lowering: Lowering, updates: Sequence[Update], groups: int) -> list[tuple]:
    """Parameters that stand side by side under one rule are updated by one row, cut at the stretches' borders."""
    spans: list[tuple[Optimizer, int, int]] = []
    for u in sorted(updates, key=lambda u: lowering.places[u.parameter].offset):
        place = lowering.places[u.parameter]
        if spans and spans[-1][0] == u.optimizer and spans[-1][2] == place.offset:
            spans[-1] = (u.optimizer, spans[-1][1], place.offset + place.size)
        else:
            spans.append((u.optimizer, place.offset, place.offset + place.size))
    stretch = padded(-(-lowering.parameter_size // UPDATE_GROUPS))
    phase = []
    for i in range(UPDATE_GROUPS):
        start = len(writer.rows)
        for optimizer, low, high in spans:
            a, b = max(low, i * stretch), min(high, (i + 1) * stretch)
            if a < b:
                writer.add_update(optimizer, a, b - a, groups)
        # Nothing here belongs to a block: the rows stand after them.
        phase.append((start, start, len(writer.rows), 0, 0))
    return phase
