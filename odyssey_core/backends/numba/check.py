"""The proof, before anything runs, that no row of a program can read or write outside what it may.

For every row: the opcode exists; its dimensions are positive and agree with each other; every operand is a stretch that
the lowering set aside, with exactly the shape that the dimensions demand and inside the arena; parameters are written
by updates alone. For every phase: what one group writes no other group touches, unless it is scratch of the worker who
runs both, so that no result depends on which thread is first; and the groups share out the blocks. What only a run can
tell is bounded by `Executable.run`: indices, labels, and the widths of inputs and outputs.
"""

import math
from collections import defaultdict

import numpy as np

from odyssey_core.backends.numba.simd import HALF, LANES
from odyssey_core.backends.numba.table import ABSENT, ROW_WIDTH, Program, padded, share
from odyssey_core.errors import ProgramError

LIMIT = 2**31


def check(program: Program) -> None:
    """Raises ProgramError, naming the row, unless every row of the program is sound."""
    if program.table.ndim != 2 or program.table.shape[1] != ROW_WIDTH:
        raise ProgramError(f"instruction table: expected rows of {ROW_WIDTH} integers, got shape {program.table.shape}")
    known = defaultdict(set)
    for buffer in program.buffers:
        if buffer.offset < 0 or buffer.offset + math.prod(buffer.shape) > program.arena_size:
            raise ProgramError(f"instruction table: {buffer} lies outside the arena of {program.arena_size}")
        known[buffer.offset, buffer.shape].add(buffer.role)
    covered = np.zeros(len(program.table), int)
    for groups in program.phases:
        touched = [_Touched() for _ in groups]
        heads = _heads(program, groups)
        for (first, body, end, block, _), own, head in zip(groups.tolist(), touched, heads, strict=True):
            if not 0 <= first <= body <= end <= len(program.table):
                raise ProgramError(f"instruction table: phase names rows {first}-{body}-{end} of {len(program.table)}")
            covered[first:end] += 1
            for r in range(first, end):
                _check_row(program, known, r, (own, touched[head]), block)
                if r >= body and program.kernels[program.table[r, 0]].instruction.per_block:
                    raise ProgramError(f"instruction table, row {r}, {program.describe(r)}: may not follow the blocks")
        _check_races(touched)
    if not np.all(covered == 1):
        r = int(np.argmax(covered != 1))
        raise ProgramError(f"instruction table: row {r} belongs to {covered[r]} groups")
    for groups in program.phases:
        _check_blocks(program, groups)


def _check_blocks(program: Program, groups: np.ndarray) -> None:
    """The groups that have rows for blocks share out all blocks, in order; the others name none."""
    following, idle = 0, False
    for first, body, end, block, last in groups.tolist():
        if idle and first < end:
            raise ProgramError(f"instruction table: rows {first} to {end} stand behind a group without rows or blocks")
        idle = first == end
        expected = following if first < body else 0
        if block != expected or (last <= block if first < body else last != block):
            raise ProgramError(
                f"instruction table: a group names blocks {block} to {last}, expected from {expected} on"
            )
        following = last if first < body else following
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
    """Stretches of the arena that a group's rows read and write, each with the row.

    Scratch counts as touched by the first group of the worker: that it changes hands between one worker's is meant.
    """

    def __init__(self):
        self.reads, self.writes = {}, {}


def _check_row(program: Program, known: dict, r: int, touched: tuple[_Touched, _Touched], first_block: int) -> None:
    row = program.table[r].tolist()

    def fail(why: str):
        raise ProgramError(f"instruction table, row {r}, {program.describe(r)}: {why}")

    if not 0 <= row[0] < len(program.kernels):
        fail(f"opcode must lie in [0, {len(program.kernels)}), got {row[0]}")
    instruction, variant = program.kernels[row[0]]
    names = instruction.fields
    fields = dict(zip(names, row[1:], strict=False))
    if any(row[1 + len(names) :]):
        fail("columns behind the last field must be 0")
    dims = {name: fields[name] for name in instruction.dims}
    for name, value in dims.items():
        if not (0 if name in instruction.flags else 1) <= value < LIMIT * (2 if name in ("stream", "threshold") else 1):
            fail(f"{name} out of range: {value}")
    if dims.get("first_block", first_block) != first_block:
        fail(f"first_block must be the group's first, {first_block}")
    for name in ("relu", "gated"):
        if dims.get(name, 0) not in (0, 1):
            fail(f"{name} must be 0 or 1, got {dims[name]}")
    for name, width in (("column", program.columns(instruction.name)), ("size", program.pixels)):
        if name == "column" and name in dims and dims[name] + dims["size"] > width:
            fail(f"columns {dims[name]} to {dims[name] + dims['size']} of {width}")
        size = math.prod(dims.values())
        if name == "size" and instruction.name in ("gather", "gather_affine") and size != width:
            fail(f"images of {width} pixels, the row says {size}")
    if dims.get("groups", 1) > program.blocks:
        fail(f"gradients of {dims['groups']} groups, the program has {program.blocks} blocks")
    try:
        shapes = instruction.layout({**dims, "variant": variant})
    except ValueError as error:
        fail(str(error))
    _check_tile(instruction.name, variant, dims, fail)
    for name, shape in _operands(instruction, shapes):
        offset = _offset(fields, name)
        if offset == ABSENT and name in instruction.optional:
            continue
        roles = known.get((offset, shape))
        if roles is None:
            fail(f"{name}: no buffer of shape {shape} starts at {offset}")
        written = name in instruction.writes
        if written and instruction.updates != bool(roles & {"parameter", "slot"}):
            fail(f"{name}: may not write {sorted(roles)}")
        owner = touched[roles == {"scratch"}]
        (owner.writes if written else owner.reads)[offset, offset + math.prod(shape)] = r


def _operands(instruction, shapes: dict):
    """(operand, shape) for every operand; the gradients of several groups count one by one."""
    wanted = {*instruction.reads, *instruction.writes}
    return [(name, shape) for name, shape in shapes.items() if name.partition("+")[0] in wanted]


def _offset(fields: dict, name: str) -> int:
    base, _, group = name.partition("+")
    return fields[base] + int(group or 0) * fields.get("stride", 0) if group else fields[base]


def _check_tile(name: str, variant: tuple, dims: dict, fail) -> None:
    """A tile larger than what it walks over would start before it."""
    spans = {
        "conv2d": ("out", "out_width"),
        "conv2d_grad_input": ("channels",),
        "conv2d_grad_weight": ("out",),
        "linear": ("out",),
        "linear_grad_input": ("features",),
        "linear_grad_weight": ("out",),
    }.get(name, ())
    for span, size in zip(spans, variant, strict=False):
        if size > dims[span]:
            fail(f"tile of {size} over {span} of {dims[span]}")
    if name == "conv2d_grad_weight" and (variant[1] > variant[4] or LANES % variant[2]):
        fail(f"tile of {variant[1]} taps x {variant[2]} lanes over {variant[4]} taps and {LANES} lanes")
    if name == "conv2d_grad_weight_wide" and (variant[0] > variant[3] or variant[1] * LANES > padded(dims["out"])):
        fail(f"tile of {variant[0]} taps x {variant[1]} vectors over {variant[3]} taps and {dims['out']} channels")
    if name == "pooled_grad_weight":
        columns, first, end, high, wide = variant
        if not 0 <= first < end <= high or columns * HALF > wide * dims["pixel"] + HALF - 1:
            fail(f"rows {first} to {end} by {columns} vectors of a kernel {high}x{wide} of {dims['pixel']} floats")
    if name == "linear_grad_weight" and variant[1] * LANES > padded(dims["features"]):
        fail(f"tile of {variant[1]} vectors over {dims['features']} features")


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
