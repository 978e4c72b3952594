"""From the rows of one block to the whole program: groups, addresses, phases, updates.

Memory holds, one after the other: parameters and buffers, each slot of the optimizer in the parameters' layout, sums
over the whole batch, for every group its gradients in the parameters' layout and its other sums, for every block the
values that cross a phase, and for every worker, who runs one group after the other, scratch: one that a group had just
used is still in the core's cache (a tenth of LeNet-5's step where one thread runs two groups).
"""

from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

import numpy as np

from odyssey_core.backends.numba.instruction import ABSENT, ROW_WIDTH, Kernel
from odyssey_core.backends.numba.kernels.update import norm_of, squares_of, sum_squares, update_of
from odyssey_core.backends.numba.lower import Combined, Lowering
from odyssey_core.backends.numba.operands import Operand, Place, Row, Stage, padded, share
from odyssey_core.backends.numba.tile_sizes import TileSizes
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.errors import ConfigError
from odyssey_core.machine import usable_memory
from odyssey_core.optim import StepRule, Update, WholeRule
from odyssey_core.tensor import Tensor

# Stretches that the parameters are cut into for the update, whatever the number of threads.
UPDATE_GROUPS = 8


class Buffer(NamedTuple):
    """A stretch of memory with a meaning: ``role`` is the space it belongs to."""

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
        memory_size: float32 elements.
        memory: how many of these each use takes, by its name.
        blocks: blocks of images in a step.
        images: of a block.
        apart: float32 elements between the values that two blocks keep from phase to phase.
        workers: how many share out the groups of a phase; the groups of one run one after the other.
        first: the phase that steps begin with; those before are run when parameters are written.
        computing: phases before those that change parameters.
        pixels: (C H W) that a gathered image must have, or None.
        inputs, outputs: columns of values that are given and handed out.
        values: names of the step's numbers, in the order of their columns.
    """

    kernels: list[Kernel]
    table: np.ndarray
    phases: np.ndarray
    buffers: set[Buffer]
    memory_size: int
    memory: dict[str, int]
    blocks: int
    images: int
    apart: int
    workers: int
    first: int
    computing: int
    pixels: int | None
    inputs: int
    outputs: int
    values: tuple[str, ...] = ()

    def listing(self) -> str:
        """The table as text, one row a line: for debugging, and for learning how a step runs."""
        lines = []
        for p, groups in enumerate(self.phases):
            for g, (first, body, end, block, last) in enumerate(groups):
                if first == end:
                    continue
                over = f"blocks {block} to {last - 1}" if first < body else "once"
                lines.append(f"phase {p}, group {g}: {over}")
                for r in range(first, end):
                    lines.append(f" {' ' if r < body else '+'}{r:4d}  {self.describe(r)}")
        return "\n".join(lines)

    def describe(self, row: int) -> str:
        """One row in words: ``conv2d[3, 2] x=0 weight=... channels=1 height=28``."""
        values = self.table[row]
        if not 0 <= values[0] < len(self.kernels):
            return f"unknown opcode {values[0]}"
        kernel, shown = self.kernels[values[0]], []
        for name, value in kernel.instruction.decode(values).items():
            if isinstance(value, tuple):
                start, apart = value
                value = f"{start}+{apart}*block" if apart else start
            shown.append(f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}")
        return " ".join([kernel.name, *shown])


class Piece(NamedTuple):
    """What one row updates.

    Attributes:
        number: counts the pieces, in order of address.
        rule: that is applied.
        start, length: elements of the parameters.
        parameter: number of the parameter where pieces end at parameters' borders, else -1.
    """

    number: int
    rule: WholeRule
    start: int
    length: int
    parameter: int


@dataclass
class Layout:
    """Addresses of everything in memory, in float32 elements."""

    lowering: Lowering
    slots: tuple[str, ...]
    groups: int
    workers: int
    blocks: int
    pieces: int
    memory: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        low = self.lowering
        self.kept_stride = padded(low.kept.size)
        # A cache line apart: no worker's prefetch takes another's.
        self.scratch_stride = padded(low.scratch.size) + LANES
        self.memory = {
            "parameters": low.parameter_size,
            "slots": len(self.slots) * low.parameter_size,
            "sums and packed weights": low.shared_size,
            "gradients": self.groups * low.gradient_size,
            "values that cross phases": self.blocks * self.kept_stride,
            "scratch": self.workers * self.scratch_stride,
            "squares and norms": (2 * self.pieces + 3 * UPDATE_GROUPS) * LANES,
        }
        starts = [0, *np.cumsum(list(self.memory.values())).tolist()]
        self.size = starts[-1]
        self.slot_start, self.shared, self.gradients, self.kept, self.scratch, self.squares = starts[1:-1]

    def slot(self, name: str) -> int:
        """Where a slot of all parameters begins."""
        return self.slot_start + self.slots.index(name) * self.lowering.parameter_size

    def address(self, place: Place, group: int, worker: int) -> tuple[int, int]:
        """Where a place lies for a group of a worker, and how far it lies apart for each block."""
        start = {
            "parameter": 0,
            "shared": self.shared,
            "gradient": self.gradients + group * self.lowering.gradient_size,
            "kept": self.kept,
            "scratch": self.scratch + worker * self.scratch_stride,
        }[place.space]
        return start + place.offset, self.kept_stride if place.space == "kept" else 0


class _Writer:
    """Collects rows, kernels and buffers."""

    def __init__(self, layout: Layout, values: Sequence[str]):
        self.layout, self.values = layout, values
        self.kernels: dict[Kernel, int] = {}
        self.rows: list[list[int]] = []
        self.buffers: set[Buffer] = set()

    def add(self, kernel: Kernel, operands: Mapping[str, tuple[int, int]], numbers: Mapping[str, float]) -> None:
        opcode = self.kernels.setdefault(kernel, len(self.kernels))
        self.rows.append(kernel.instruction.encode(opcode, operands, numbers))

    def add_row(self, row: Row, group: int = 0, worker: int = 0, first_block: int = 0) -> None:
        """A lowered row, for one group."""
        numbers = dict(row.numbers)
        if "first_block" in numbers:
            numbers["first_block"] = first_block
        operands = {name: self._operand(x, group, worker) for name, x in row.operands.items()}
        self.add(row.kernel, operands, numbers)

    def _operand(self, operand: Operand | None, group: int, worker: int) -> tuple[int, int]:
        if operand is None:
            return ABSENT, 0
        start, apart = self.layout.address(operand.place, group, worker)
        for block in range(self.layout.blocks if apart else 1):
            self.buffers.add(Buffer(start + block * apart, operand.shape, operand.place.space))
        return start, apart

    def buffer(self, start: int, shape: tuple[int, ...], role: str) -> tuple[int, int]:
        """An operand at a known address."""
        self.buffers.add(Buffer(start, shape, role))
        return start, 0

    def gradients(self, start: int, length: int, groups: int) -> tuple[dict, dict]:
        """Operands and numbers of a row that reads the gradients of the first ``groups`` groups."""
        layout = self.layout
        begin, stride = layout.gradients + start, layout.lowering.gradient_size
        for g in range(groups):
            self.buffer(begin + g * stride, (length,), "gradient")
        return {"grads": (begin, 0)}, {"length": length, "groups": groups, "stride": stride}

    def add_combined(self, combined: Combined) -> None:
        """Sums what the groups have summed."""
        parts, total = combined.parts, combined.total
        operands, numbers = self.gradients(parts.offset, padded(parts.size), self.layout.groups)
        summed = self.buffer(self.layout.shared + total.offset, (numbers["length"],), "shared")
        self.add(Kernel(combined.instruction, ()), operands | {"summed": summed}, numbers)

    # --- updates -------------------------------------------------------------------------------------------------

    def _squares(self, number: int, *, of_parameters: bool = False, parts: int | None = None) -> tuple[int, int]:
        """Squares of one piece, or of ``parts`` pieces from it on."""
        at = self.layout.squares + (number + of_parameters * self.layout.pieces) * LANES
        return self.buffer(at, (LANES,) if parts is None else (parts, LANES), "gradient")

    def add_squares(self, piece: Piece) -> None:
        """Sums the groups' gradients into those of the first group, and their squares into the piece's own vector."""
        operands, numbers = self.gradients(piece.start, piece.length, self.layout.groups)
        squares = self._squares(piece.number)
        self.add(Kernel(sum_squares, ()), {**operands, "summed": operands["grads"], "squares": squares}, numbers)
        if "parameter_norm" in piece.rule.norms:
            values = self.buffer(piece.start, (piece.length,), "parameter")
            squares = self._squares(piece.number, of_parameters=True)
            self.add(Kernel(squares_of, ()), {"values": values, "squares": squares}, {"length": piece.length})

    def _norm(self, name: str, piece: Piece, pieces: Sequence[Piece], group: int, which: int) -> tuple[int, int]:
        """The row that works out a norm, for the update that follows in the same group."""
        own = [p for p in pieces if name == "all_gradients_norm" or p.parameter == piece.parameter]
        squares = self._squares(own[0].number, of_parameters=name == "parameter_norm", parts=len(own))
        at = self.layout.squares + (2 * self.layout.pieces + 3 * group + which) * LANES
        norm = self.buffer(at, (LANES,), "gradient")
        self.add(Kernel(norm_of, ()), {"squares": squares, "norm": norm}, {"parts": len(own)})
        return norm

    def add_update(self, piece: Piece, pieces: Sequence[Piece], group: int) -> None:
        """All that a step does to a piece."""
        rule = piece.rule
        operands, numbers = self.gradients(piece.start, piece.length, 1 if rule.norms else self.layout.groups)
        for which, name in enumerate(rule.norms):
            operands[name] = self._norm(name, piece, pieces, group, which)
        operands["parameter"] = self.buffer(piece.start, (piece.length,), "parameter")
        for slot in rule.slots:
            operands[slot] = self.buffer(self.layout.slot(slot) + piece.start, (piece.length,), "slot")
        columns = {name: self.values.index(column) for name, column in rule.columns.items()}
        self.add(Kernel(update_of(rule), ()), operands, numbers | dict(rule.constants) | columns)


def plan(
    outputs: Sequence[Tensor],
    parameters: Mapping[str, Tensor],
    updates: Sequence[Update],
    rule: StepRule,
    buffers: Mapping[str, Tensor],
    groups: int,
    workers: int,
    tiles: TileSizes,
    lowered: type[Lowering] = Lowering,
) -> Layout:
    """What lies where in the memory of a step, worked out before anything is compiled or allocated.

    Args:
        outputs, parameters, updates, rule, buffers: as `Backend.compile` takes them.
        groups: of blocks, at most so many; never more than there are blocks. Part of the result.
        workers: at most so many share the groups; no part of the result.
        tiles: register tiles to use.
        lowered: into which form.

    Raises:
        ConfigError: the machine has less memory; the message names the largest batch that fits.
    """
    lowering = lowered(outputs, parameters, updates, buffers, tiles)
    batch = next(x.shape[0] for x in lowering.order if x.batched)
    rules = [rule.around(u.optimizer, u.group) for u in updates]
    pieces = sum(map(len, _stretches(lowering, updates, rules)))
    slots = tuple(sorted({slot for each in rules for slot in each.slots}))

    def of(blocks: int) -> Layout:
        return Layout(lowering, slots, min(groups, blocks), min(workers, groups, blocks), blocks, pieces)

    layout, most = of(-(-batch // lowering.images)), usable_memory()
    if 4 * layout.size > most:
        fits = bisect(range(1, layout.blocks), most, key=lambda blocks: 4 * of(blocks).size)
        smaller = f"trainer.batch_size={fits * LANES} fits" if fits else "not even one of 16 fits"
        raise ConfigError(
            f"a step of {batch} images takes {4 * layout.size / 2**30:.1f} GiB of memory, "
            f"the machine has {most / 2**30:.1f}; {smaller}"
        )
    return layout


def lay_out(layout: Layout, updates: Sequence[Update], rule: StepRule) -> Program:
    """The program of a planned step; ``updates`` and ``rule`` as `plan` took them."""
    lowering = layout.lowering
    rules = [rule.around(u.optimizer, u.group) for u in updates]
    stretches = _stretches(lowering, updates, rules)
    pieces = [piece for stretch in stretches for piece in stretch]
    values = tuple(sorted({column for each in rules for column in each.columns.values()}))
    writer = _Writer(layout, values)
    written = [row for row in lowering.rows if row.stage is Stage.WRITTEN]
    parts = [part for part in (written[i::UPDATE_GROUPS] for i in range(UPDATE_GROUPS)) if part]
    phases = [_once(writer, parts, writer.add_row)] if written else []
    first = 0 if updates else len(phases)
    phases += [phase for level in _levels(lowering) for phase in _walk(writer, level)]
    computing = len(phases)
    if any(each.norms for each in rules):
        phases.append(_once(writer, stretches, writer.add_squares))
    of_group = [[(piece, group) for piece in stretch] for group, stretch in enumerate(stretches)]
    last = _once(writer, of_group, lambda x: writer.add_update(x[0], pieces, x[1]))
    step = [row for row in lowering.rows if row.stage is Stage.STEP]
    if step:
        last += _once(writer, [step], writer.add_row)
    phases += [last] if last else []
    width = max(len(p) for p in phases)
    idle = (len(writer.rows),) * 3 + (0, 0)
    return Program(
        kernels=list(writer.kernels),
        table=np.array(writer.rows, np.int64).reshape(-1, ROW_WIDTH),
        phases=np.array([p + [idle] * (width - len(p)) for p in phases], np.int64),
        buffers=writer.buffers,
        memory_size=layout.size,
        memory=layout.memory,
        blocks=layout.blocks,
        apart=layout.kept_stride,
        images=lowering.images,
        workers=layout.workers,
        first=first,
        computing=computing,
        pixels=lowering.pixels,
        inputs=sum(int(np.prod(x.shape[1:])) for x in lowering.inputs),
        outputs=lowering.output_columns,
        values=values,
    )


def _levels(lowering: Lowering) -> list[int]:
    return sorted({row.level for row in lowering.rows if row.stage in (Stage.BLOCK, Stage.GROUP)})


def _walk(writer: _Writer, level: int) -> Iterable[list[tuple]]:
    """The phase that walks over all blocks for a level, and the one that adds the groups' sums, if blocks read any."""
    layout, phase = writer.layout, []
    own = [row for row in layout.lowering.rows if row.level == level]
    body, tail = ([row for row in own if row.stage is stage] for stage in (Stage.BLOCK, Stage.GROUP))
    for worker in range(layout.workers):
        for g in range(*share(layout.groups, layout.workers, worker)):
            first, last = share(layout.blocks, layout.groups, g)
            start = len(writer.rows)
            for row in (*body, *tail):
                writer.add_row(row, g, worker, first)
            phase.append((start, start + len(body), len(writer.rows), first, last))
    yield phase
    sums = [c for c in layout.lowering.combined.values() if c.level == level]
    if sums:
        yield _once(writer, [[c] for c in sums], writer.add_combined)


def _once(writer: _Writer, groups: Iterable, add) -> list[tuple]:
    """A group of rows for each of ``groups``. Nothing here belongs to a block: the rows stand after them."""
    phase = []
    for things in groups:
        start = len(writer.rows)
        for thing in things:
            add(thing)
        phase.append((start, start, len(writer.rows), 0, 0))
    return phase


def _stretches(lowering: Lowering, updates: Sequence[Update], rules: Sequence[WholeRule]) -> list[list[Piece]]:
    """Parameters that stand side by side under one rule are updated by one row, cut at the stretches' borders.

    A rule that asks for norms of a parameter gets rows that end where parameters do. A stretch of parameters that are
    not trained is left out.
    """
    spans: list[tuple[WholeRule, int, int, int]] = []
    for u, rule in sorted(zip(updates, rules, strict=True), key=lambda x: lowering.places[x[0].parameter].offset):
        place, alone = lowering.places[u.parameter], bool({"parameter_norm", "gradient_norm"} & {*rule.norms})
        if not alone and spans and spans[-1][0] == rule and spans[-1][2] == place.offset:
            spans[-1] = (rule, spans[-1][1], place.offset + place.size, -1)
        else:
            spans.append((rule, place.offset, place.offset + place.size, len(spans) if alone else -1))
    width, numbers = padded(-(-lowering.parameter_size // UPDATE_GROUPS)), count()
    stretches = []
    for i in range(UPDATE_GROUPS):
        cut = [(rule, max(low, i * width), min(high, (i + 1) * width), n) for rule, low, high, n in spans]
        stretches.append([Piece(next(numbers), rule, a, b - a, n) for rule, a, b, n in cut if a < b])
    return [pieces for pieces in stretches if pieces]
