"""The proof, before anything runs, that no row of a program can read or write outside what it may.

For every row: the opcode exists; its integers lie in their ranges and agree with each other; every operand is a stretch
that the lowering set aside, with exactly the shape that the integers demand and inside memory, for every block that the
row runs for; parameters are written by updates alone. For every phase: what one group writes no other group touches,
unless it is scratch of the worker who runs both, so that no result depends on which thread is first; and the groups
share out the blocks, and a row that takes several at once takes those that its group names. What only a run can tell is
bounded by `Executable.run`: indices, labels, and the widths of inputs and outputs.
"""

import math
from collections import defaultdict

import numpy as np

from odyssey_core.backends.numba.instruction import ABSENT, RANGES, ROW_WIDTH, Repeated, Step
from odyssey_core.backends.numba.operands import share
from odyssey_core.backends.numba.program import Program
from odyssey_core.errors import ProgramError

ONE_BLOCK = {"blocks": 1, "block_stride": 0}


def check(program: Program) -> None:
    """Raises ProgramError, naming the row, unless every row of the program is sound."""
    if program.table.ndim != 2 or program.table.shape[1] != ROW_WIDTH:
        raise ProgramError(f"instruction table: expected rows of {ROW_WIDTH} integers, got shape {program.table.shape}")
    known = defaultdict(set)
    for buffer in program.buffers:
        if buffer.offset < 0 or buffer.offset + math.prod(buffer.shape) > program.memory_size:
            raise ProgramError(f"instruction table: {buffer} lies outside the memory of {program.memory_size}")
        known[buffer.offset, buffer.shape].add(buffer.role)
    covered = np.zeros(len(program.table), int)
    for groups in program.phases:
        touched = [_Touched() for _ in groups]
        heads = _heads(program, groups)
        for (first, body, end, block, last), own, head in zip(groups.tolist(), touched, heads, strict=True):
            if not 0 <= first <= body <= end <= len(program.table):
                raise ProgramError(f"instruction table: phase names rows {first}-{body}-{end} of {len(program.table)}")
            if (first < body or block or last) and not 0 <= block < last <= program.blocks:
                raise ProgramError(f"instruction table: a group names blocks {block} to {last} of {program.blocks}")
            covered[first:end] += 1
            at_once = {"blocks": last - block, "block_stride": program.apart}
            for r in range(first, end):
                blocks, several = (range(block, last), ONE_BLOCK) if r < body else (None, at_once)
                _check_row(program, known, r, (own, touched[head]), {"first_block": block, **several}, blocks)
        _check_races(touched)
    if not np.all(covered == 1):
        r = int(np.argmax(covered != 1))
        raise ProgramError(f"instruction table: row {r} belongs to {covered[r]} groups")
    for groups in program.phases:
        _check_blocks(program, groups)


def _check_blocks(program: Program, groups: np.ndarray) -> None:
    """The groups that have rows for each block share out all blocks, in order."""
    following, idle = 0, False
    for first, body, end, block, last in groups.tolist():
        if idle and first < end:
            raise ProgramError(f"instruction table: rows {first} to {end} stand behind a group without rows or blocks")
        idle = first == end
        if first < body:
            if block != following:
                raise ProgramError(
                    f"instruction table: a group names blocks {block} to {last}, expected from {following} on"
                )
            following = last
    if following not in (0, program.blocks):
        raise ProgramError(f"instruction table: groups cover {following} blocks of {program.blocks}")


def _heads(program: Program, groups: np.ndarray) -> list[int]:
    """For each group the first one of its worker, who runs them one after the other."""
    busy = int((groups[:, 2] > groups[:, 0]).sum())
    heads = list(range(len(groups)))
    for worker in range(program.workers):
        first, end = share(busy, program.workers, worker)
        heads[first:end] = [first] * (end - first)
    return heads


class _Touched:
    """Stretches of memory that a group's rows read and write, each with the row.

    Scratch counts as touched by the first group of the worker: that it changes hands between one worker's is meant.
    """

    def __init__(self):
        self.reads, self.writes = {}, {}


def _check_row(
    program: Program,
    known: dict,
    r: int,
    touched: tuple[_Touched, _Touched],
    of_group: dict[str, int],
    blocks: range | None,
) -> None:
    """``of_group`` are the numbers that a group demands; ``blocks`` those that the row runs for, None for once."""

    def fail(why: str):
        raise ProgramError(f"instruction table, row {r}, {program.describe(r)}: {why}")

    opcode = int(program.table[r, 0])
    if not 0 <= opcode < len(program.kernels):
        fail(f"opcode must lie in [0, {len(program.kernels)}), got {opcode}")
    kernel = program.kernels[opcode]
    instruction = kernel.instruction
    if program.table[r, instruction.width :].any():
        fail("columns behind the last argument must be 0")
    if blocks is None and instruction.per_block:
        fail("may not follow the blocks")
    arguments = instruction.decode(program.table[r])
    if wrong := [name for name, x in arguments.items() if isinstance(x, float) and not math.isfinite(x)]:
        fail(f"{wrong[0]} must be finite")
    numbers = {n: x for n, x in arguments.items() if instruction.kinds[n] is not None and not isinstance(x, float)}
    _check_numbers(program, instruction, numbers, of_group, fail)
    try:
        shapes = instruction.shapes({**numbers, **kernel.fixed})
    except ValueError as error:
        fail(str(error))
    for name in instruction.operands:
        start, apart = arguments[name]
        if start == ABSENT and name in instruction.optional:
            if apart:
                fail(f"{name}: absent, but {apart} apart")
            continue
        if apart not in (0, program.apart):
            fail(f"{name}: blocks lie {program.apart} apart, got {apart}")
        if blocks is None and apart:
            fail(f"{name}: differs from block to block, where no block is run")
        shape, count, stride = shapes[name] if isinstance(shapes[name], Repeated) else (shapes[name], 1, 0)
        if count > program.blocks:
            fail(f"{name}: {count} of them, the program has {program.blocks} blocks")
        for at in [start + b * apart + k * stride for b in (blocks if apart else (0,)) for k in range(count)]:
            roles = known.get((at, shape))
            if roles is None:
                fail(f"{name}: no buffer of shape {shape} starts at {at}")
            written = name in instruction.writes
            if written and (name in instruction.updates) != bool(roles & {"parameter", "slot"}):
                fail(f"{name}: may not write {sorted(roles)}")
            owner = touched[roles == {"scratch"}]
            (owner.writes if written else owner.reads)[at, at + math.prod(shape)] = r


def _check_numbers(program: Program, instruction, numbers: dict[str, int], of_group: dict[str, int], fail) -> None:
    for name, value in numbers.items():
        least, end = RANGES[instruction.kinds[name]]
        if not least <= value < end:
            fail(f"{name} must lie in [{least}, {end}), got {value}")
        if instruction.kinds[name] is Step and value >= len(program.values):
            fail(f"{name} must lie in [0, {len(program.values)}), got {value}")
    for name, expected in of_group.items():
        if numbers.get(name, expected) != expected:
            fail(f"{name} must be the group's, {expected}")
    if why := instruction.bounds(program, numbers):
        fail(why)


def _check_races(groups: list[_Touched]) -> None:
    """No group may touch what another writes in the same phase."""
    events = sorted(
        (start, end, g, r, write)
        for g, touched in enumerate(groups)
        for write, spans in ((True, touched.writes), (False, touched.reads))
        for (start, end), r in spans.items()
    )
    # The stretch reaching furthest so far, of any kind and of writes alone, with the best of another group beside it.
    reach: dict[bool, list[tuple[int, int, int]]] = {True: [], False: []}
    for start, end, g, r, write in events:
        against = [x for kind in ((True, False) if write else (True,)) for x in reach[kind]]
        for other_end, other, other_row in against:
            if other != g and other_end > start:
                raise ProgramError(
                    f"instruction table, rows {other_row} and {r}: groups {other} and {g} race at {start}"
                )
        best = {x[1]: x for x in reach[write]}
        if g not in best or best[g][0] < end:
            best[g] = (end, g, r)
        reach[write] = list(best.values())
