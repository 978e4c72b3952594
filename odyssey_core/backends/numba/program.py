"""From the rows of one block to the whole program: groups, addresses, phases, updates."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import NamedTuple

import numpy as np

from odyssey_core.backends.numba.instruction import ABSENT, ROW_WIDTH, Kernel
from odyssey_core.backends.numba.kernels.orthogonal import orthogonalize, scratch
from odyssey_core.backends.numba.kernels.update import norm_of, squares_of, sum_squares, update_of
from odyssey_core.backends.numba.layout import UPDATE_GROUPS, Layout, Piece, cut_into_stretches, matrix
from odyssey_core.backends.numba.lower import Combined, Lowering
from odyssey_core.backends.numba.operands import Operand, Row, Stage, padded, share, stored_shape
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.optim import StepRule, Update, WholeRule
from odyssey_core.optim.muon import scale


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
            after the blocks, first block, end of the blocks, both 0 where no row is about blocks. A barrier stands
            between phases. Groups without rows stand last.
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

    def add_row(self, row: Row, group: int = 0, worker: int = 0, blocks: range = range(1)) -> None:
        """A lowered row, for the blocks of a group or of a task."""
        filled_in = {"first_block": blocks.start}
        operands = {name: self._operand(x, group, worker) for name, x in row.operands.items()}
        if row.stage is not Stage.BLOCK:
            filled_in |= {"blocks": len(blocks), "block_stride": self.layout.kept_stride}
            operands = {name: (start + blocks.start * apart, 0) for name, (start, apart) in operands.items()}
        self.add(row.kernel, operands, row.numbers | {n: x for n, x in filled_in.items() if n in row.numbers})

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

    def gradients(self, space: str, offset: int, length: int, *, summed: bool = False) -> tuple[dict, dict]:
        """Operands and numbers of a row that reads all parts of a gradient, or of a ``summed`` one the first alone."""
        begin, groups = self.layout.gradient(space, offset)
        groups, stride = 1 if summed else groups, self.layout.lowering.gradient_size
        for g in range(groups):
            self.buffer(begin + g * stride, (length,), space)
        return {"grads": (begin, 0)}, {"length": length, "groups": groups, "stride": stride}

    def add_combined(self, combined: Combined) -> None:
        """Sums what the groups have summed."""
        parts, total = combined.parts, combined.total
        operands, numbers = self.gradients(parts.space, parts.offset, padded(parts.size))
        summed = self.buffer(self.layout.shared + total.offset, (numbers["length"],), "shared")
        self.add(Kernel(combined.instruction, ()), operands | {"summed": summed}, numbers)

    # --- updates -------------------------------------------------------------------------------------------------

    def _squares(self, number: int, *, of_parameters: bool = False, parts: int | None = None) -> tuple[int, int]:
        """Squares of one piece, or of ``parts`` pieces from it on."""
        at = self.layout.squares + (number + of_parameters * self.layout.pieces) * LANES
        return self.buffer(at, (LANES,) if parts is None else (parts, LANES), "gradient")

    def _of_piece(self, piece: Piece, *, summed: bool = False) -> tuple[dict, dict]:
        space, behind = piece.gradient
        return self.gradients(space, piece.start + behind, piece.length, summed=summed)

    def add_squares(self, piece: Piece, *, summed: bool) -> None:
        """Sums the groups' gradients into those of the first group, and their squares into the piece's own vector."""
        operands, numbers = self._of_piece(piece, summed=summed)
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

    def add_update(self, piece: Piece, pieces: Sequence[Piece], group: int, *, summed: bool) -> None:
        """All that a stage of a step does to a piece."""
        rule = piece.rule
        operands, numbers = self._of_piece(piece, summed=summed or bool(rule.norms))
        for which, name in enumerate(rule.norms):
            operands[name] = self._norm(name, piece, pieces, group, which)
        operands["parameter"] = self.buffer(piece.start, (piece.length,), "parameter")
        for slot in rule.slots:
            operands[slot] = self.buffer(self.layout.slot(slot) + piece.start, (piece.length,), "slot")
        columns = {name: self.values.index(column) for name, column in rule.columns.items()}
        self.add(Kernel(update_of(rule), ()), operands, numbers | dict(rule.constants) | columns)

    def add_orthogonal(self, update: Update, at: int) -> None:
        """Makes the direction of a matrix orthogonal, with what that takes from ``at`` on."""
        (out, inputs), place = matrix(update), self.layout.lowering.gradients[update.grad]
        pitch = math.prod(stored_shape(update.parameter.shape)[1:])
        begin, _ = self.layout.gradient(place.space, place.offset)
        grads = self.buffer(begin, (out * pitch,), place.space)
        operands = {"grads": grads, "directed": grads}
        for name, shape in scratch(out, inputs).items():
            operands[name] = self.buffer(at, shape, "gradient")
            at += math.prod(shape)
        numbers = {"out": out, "inputs": inputs, "pitch": pitch, "scale": scale(out, inputs)}
        self.add(Kernel(orthogonalize, ()), operands, numbers)


def lay_out(layout: Layout, updates: Sequence[Update], rule: StepRule) -> Program:
    """The program of a planned step; ``updates`` and ``rule`` as `plan` took them."""
    lowering = layout.lowering
    stages = list(zip(*[rule.stages(u.optimizer, u.group) for u in updates], strict=True))
    values = tuple(sorted({column for rules in stages for each in rules for column in each.columns.values()}))
    writer = _Writer(layout, values)
    written = [row for row in lowering.rows if row.stage is Stage.WRITTEN]
    parts = [part for part in (written[i::UPDATE_GROUPS] for i in range(UPDATE_GROUPS)) if part]
    phases = [_once(writer, parts, writer.add_row)] if written else []
    first = 0 if updates else len(phases)
    phases += [phase for level in _levels(lowering) for phase in _walk(writer, level)]
    computing = len(phases)
    for number, rules in enumerate(stages):
        phases += _stage(writer, updates, rules, summed=number > 0)
    step = [row for row in lowering.rows if row.stage is Stage.STEP]
    if step:
        phases += [[*(phases.pop() if stages else []), *_once(writer, [step], writer.add_row)]]
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


def _stage(
    writer: _Writer, updates: Sequence[Update], rules: Sequence[WholeRule], *, summed: bool
) -> Iterator[list[tuple]]:
    """The phases that apply a rule to each parameter: squares of all where one asks for norms, then the rules, then
    what makes directions orthogonal. ``summed``: an earlier stage has summed the groups' gradients.
    """
    stretches = cut_into_stretches(writer.layout.lowering, updates, rules)
    pieces = [piece for stretch in stretches for piece in stretch]
    if any(each.norms for each in rules):
        yield _once(writer, stretches, partial(writer.add_squares, summed=summed))
    of_group = [[(piece, group) for piece in stretch] for group, stretch in enumerate(stretches)]
    yield _once(writer, of_group, lambda x: writer.add_update(x[0], pieces, x[1], summed=summed))
    matrices, at = [], writer.layout.orthogonal
    for update, rule in zip(updates, rules, strict=True):
        if rule.gives == "g" and update.orthogonal:
            matrices.append((update, at))
            at += sum(map(math.prod, scratch(*matrix(update)).values()))
    if matrices:
        matrices.sort(key=lambda x: -math.prod(x[0].parameter.shape))
        yield _once(writer, [[x] for x in _in_turns(matrices, writer.layout)], lambda x: writer.add_orthogonal(*x))


def _in_turns(tasks: list, layout: Layout) -> list:
    """Workers, who each take a stretch of a list, get its members in turns, so that none gets all of what is larger."""
    return [task for worker in range(layout.workers) for task in tasks[worker :: layout.workers]]


def _levels(lowering: Lowering) -> list[int]:
    return sorted({row.level for row in lowering.rows if row.stage in (Stage.BLOCK, Stage.GROUP, Stage.SLICE)})


def _walk(writer: _Writer, level: int) -> Iterable[list[tuple]]:
    """The phase that walks over all blocks for a level, then those of its slices and of the sums that blocks read."""
    layout, phase = writer.layout, []
    own = [row for row in layout.lowering.rows if row.level == level]
    body, tail = ([row for row in own if row.stage is stage] for stage in (Stage.BLOCK, Stage.GROUP))
    for worker in range(layout.workers):
        for g in range(*share(layout.groups, layout.workers, worker)):
            first, last = share(layout.blocks, layout.groups, g)
            start = len(writer.rows)
            for row in (*body, *tail):
                writer.add_row(row, g, worker, range(first, last))
            phase.append((start, start + len(body), len(writer.rows), first, last))
    if body or tail:
        yield phase
    if sliced := [row for row in own if row.stage is Stage.SLICE]:
        yield _slices(writer, sliced)
    sums = [c for c in layout.lowering.combined.values() if c.level == level]
    if sums:
        yield _once(writer, [[c] for c in sums], writer.add_combined)


def _slices(writer: _Writer, rows: list[Row]) -> list[tuple]:
    """A group of rows for each task."""
    layout, phase = writer.layout, []
    tasks = _in_turns([list(of_task) for _, of_task in groupby(rows, lambda row: row.task)], layout)
    for worker in range(layout.workers):
        for task in tasks[slice(*share(len(tasks), layout.workers, worker))]:
            start, (first, last) = len(writer.rows), task[0].task.blocks or (0, layout.blocks)
            for row in task:
                writer.add_row(row, worker=worker, blocks=range(first, last))
            phase.append((start, start, len(writer.rows), first, last))
    return phase


def _once(writer: _Writer, groups: Iterable, add) -> list[tuple]:
    """A group of rows for each of ``groups``. Nothing here belongs to a block: the rows stand after them."""
    phase = []
    for things in groups:
        start = len(writer.rows)
        for thing in things:
            add(thing)
        phase.append((start, start, len(writer.rows), 0, 0))
    return phase
