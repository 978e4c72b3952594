"""The check of instruction tables: thousands of corruptions, none of which writes outside memory."""

import copy
import os
import re

import numpy as np
import pytest
from harness import numba_backend
from programs import PROGRAMS

from odyssey_core import ops
from odyssey_core.backends.numba.check import check
from odyssey_core.backends.numba.instruction import Constant
from odyssey_core.backends.numba.operands import padded
from odyssey_core.backends.numba.program import Buffer
from odyssey_core.errors import ProgramError
from odyssey_core.models import MODELS


class Bounded:
    """Memory that refuses what lies outside it, also where NumPy would count from the end."""

    def __init__(self, memory: np.ndarray):
        self.memory = memory

    def __getitem__(self, key):
        return self.memory[self._inside(key)]

    def __setitem__(self, key, value):
        self.memory[self._inside(key)] = value

    def _inside(self, key):
        low, high = (key.start, key.stop - 1) if isinstance(key, slice) else (np.min(key), np.max(key))
        if not 0 <= low <= high < len(self.memory):
            raise IndexError(f"{key} of {len(self.memory)}")
        return key


def _stays_inside(trained, program, r) -> bool:
    """Whether row r, run as plain Python for the blocks that it runs for, touches nothing outside memory."""
    kernel = program.kernels[program.table[r, 0]]
    feed = trained.executable.step_feed(trained.feed)
    memory = Bounded(np.zeros(program.memory_size, np.float32))
    try:
        with np.errstate(all="ignore"):
            for row, block in _blocks_used(program):
                if row == r:
                    kernel.run(program.table[r], memory, feed, 0, block)
    except IndexError:
        return False
    return True


def _corruptions(program, count, seed):
    """(row, column, value): small shifts, other operands' offsets, huge and negative numbers, zero."""
    rng = np.random.default_rng(seed)
    offsets = [b.offset for b in sorted(program.buffers)]
    for _ in range(count):
        r, c = int(rng.integers(len(program.table))), int(rng.integers(0, 32))
        width = program.kernels[program.table[r, 0]].instruction.width
        c = c % width if rng.random() < 0.95 else c
        old = int(program.table[r, c])
        kind = rng.integers(6)
        if kind == 0:
            value = old + int(rng.choice([-64, -16, -2, -1, 1, 2, 15, 16, 64]))
        elif kind == 1:
            value = int(rng.choice(offsets))
        elif kind == 2:
            value = int(rng.integers(0, 64))
        elif kind == 3:
            value = int(rng.integers(-(2**62), 2**62))
        elif kind == 4:
            value = int(rng.choice([-1, 0, 2**31 - 1, 2**31, 2**32, program.memory_size, 2**62, -(2**63)]))
        else:
            value = old * int(rng.integers(2, 5)) if abs(old) < 2**40 else 0
        if value != old:
            yield r, c, value


def _fuzz(trained, count, seed):
    program = trained.program
    rejected, accepted = 0, []
    for r, c, value in _corruptions(program, count, seed):
        table = program.table.copy()
        table[r, c] = value
        corrupted = trained.corrupted(table)
        where = f"row {r}, column {c}: {program.table[r, c]} -> {value}; {program.describe(r)}"
        try:
            check(corrupted)
        except ProgramError as error:
            rejected += 1
            assert re.search(rf"rows? (\d+ and )?{r}\b|rows {r} and", str(error)), f"{where}: {error}"
        else:
            accepted.append((where, corrupted, r))
    for where, corrupted, _ in accepted[:100]:
        assert trained.guarded(corrupted), f"wrote outside memory: {where}"
    for where, corrupted, r in accepted[: 100 if program.memory_size < 100_000 else 0]:
        assert _stays_inside(trained, corrupted, r), f"touches what lies outside memory: {where}"
    return rejected, len(accepted)


@pytest.mark.parametrize(
    ("name", "count", "seed"),
    [
        ("lenet5", 400, 1),
        ("other", 1500, 2),
        ("residual", 600, 3),
        ("wide", 800, 4),
        ("single", 800, 8),
        ("winograd", 400, 9),
        ("slices", 400, 10),
        pytest.param("lenet5", 5000, 5, marks=pytest.mark.slow),
        pytest.param("resnet8", 5000, 6, marks=pytest.mark.slow),
        pytest.param("residual", 5000, 7, marks=pytest.mark.slow),
        pytest.param("resnet20", int(os.environ.get("CORRUPTIONS", "200")), 11, marks=pytest.mark.slow),
    ],
)
def test_corruptions_are_rejected_or_harmless(name, count, seed, trained):
    rejected, accepted = _fuzz(trained(name), count, seed)
    assert rejected + accepted >= 0.9 * count
    assert rejected > 4 * accepted > 0


@pytest.mark.parametrize("name", ["other", "residual", "wide", "single", "winograd", "tiles", "slices"])
def test_sound_programs_stay_inside_and_the_oracle_sees_faults(name, trained):
    sound = trained(name)
    assert sound.guarded(sound.program)
    for r in _kinds(sound).values():
        assert _stays_inside(sound, sound.program, r)
        table = sound.program.table.copy()
        table[r, 1] = sound.program.memory_size - 1  # the first operand, whatever it is
        assert not _stays_inside(sound, sound.corrupted(table), r), sound.program.describe(r)


def _kinds(trained):
    """One row of each instruction."""
    program, found = trained.program, {}
    for r, row in enumerate(program.table):
        found.setdefault(program.kernels[row[0]].instruction.name, r)
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_operand_outside_memory_is_rejected(name, trained):
    program = trained(name).program
    for kind, r in _kinds(trained(name)).items():
        instruction = program.kernels[program.table[r, 0]].instruction
        for c in (instruction.columns[x] for x in instruction.operands):
            for value in (-2, -16, program.memory_size, program.memory_size - 1, 2**40):
                table = program.table.copy()
                table[r, c] = value
                with pytest.raises(ProgramError, match=rf"row {r}, {kind}.*(starts at|blocks lie|differs from)"):
                    check(trained(name).corrupted(table))


def test_an_operand_that_strays_from_block_to_block_is_rejected(trained):
    """Values that cross phases have a place for each block; everything else lies where it lies for all."""
    program = trained("residual").program
    strayed = 0
    for r, row in enumerate(program.table):
        instruction = program.kernels[row[0]].instruction
        for name in instruction.operands:
            table = program.table.copy()
            table[r, instruction.columns[name] + 1] += 16
            strayed += 1
            with pytest.raises(ProgramError, match=rf"row {r}, .*(blocks lie|differs from|absent, but)"):
                check(trained("residual").corrupted(table))
    assert strayed > 100


def test_every_number_that_contradicts_a_shape_is_rejected(trained):
    """LeNet-5 has no size that could change by one and still fit."""
    program = trained("lenet5").program
    loose = {"relu", "gated", "span", "depth", "padding", "column", "pad_height", "pad_width", "lr", "ema_decay"}
    for r in range(len(program.table)):
        instruction = program.kernels[program.table[r, 0]].instruction
        for name, c in instruction.columns.items():
            if instruction.kinds[name] in (None, Constant) or name in loose:
                continue
            for step in (1, -1):
                table = program.table.copy()
                table[r, c] += step
                if name == "groups" and "stride" in instruction.columns and table[r, c] in (1, 2):
                    continue  # fewer or more gradients summed: wrong, but of one shape and inside memory
                rounded = {"linear_grad_weight": "features", "conv2d_grad_weight_wide": "out"}.get(instruction.name)
                if name == rounded and padded(table[r, c]) == padded(program.table[r, c]):
                    continue  # these walk whole vectors of it: the same ones
                with pytest.raises(ProgramError, match=rf"row {r},"):
                    check(trained("lenet5").corrupted(table))


def _blocks_used(program):
    """(row, block) pairs that would run, worked out from the phases alone."""
    for groups in program.phases.tolist():
        for first, body, end, block0, block1 in groups:
            yield from ((r, b) for b in range(block0, block1) for r in range(first, body))
            yield from ((r, block0) for r in range(body, end))


@pytest.mark.parametrize("fill", ["random", "ones"])
def test_rows_that_follow_lists_stay_inside_whatever_is_listed(trained, fill):
    """Places and counts are data: the check cannot know them, so the kernels bound them."""
    lenet5 = trained("lenet5")
    size = lenet5.program.memory_size
    bits = np.random.default_rng(4).integers(0, 2**32, size, np.uint32) if fill == "random" else np.uint32(2**32 - 1)
    memory = np.full(size, bits, np.uint32).view(np.float32)
    rows = [r for name, r in _kinds(lenet5).items() if name.startswith(("sparse", "max_pool2d_argmax"))]
    assert len(rows) == 3
    for r in rows:
        assert lenet5.guarded(lenet5.corrupted(phases=np.array([[[r, r + 1, r + 1, 0, 1]]])), memory), r


def _reads_no_block_beyond(program) -> bool:
    return all(
        0 <= b < program.blocks
        for r, b in _blocks_used(program)
        if program.kernels[program.table[r, 0]].instruction.per_block
    )


@pytest.mark.parametrize("name", ["lenet5", "other", "residual", "single", "slices"])
def test_corrupted_phases(name, trained):
    """One or two cells of the phases: what is accepted runs every row where its images are, and nowhere else."""
    trained = trained(name)
    rng = np.random.default_rng(8)
    rejected = 0
    for _ in range(600):
        phases = trained.program.phases.copy()
        p, g = rng.integers(phases.shape[0]), rng.integers(phases.shape[1])
        for _ in range(int(rng.integers(1, 4))):
            choices = [*rng.integers(-2, len(trained.program.table) + 3, 2), *range(-1, 5), 2**62, *phases[p, g]]
            phases[p, g, rng.integers(5)] = rng.choice(choices)
        if (phases == trained.program.phases).all():
            continue
        corrupted = trained.corrupted(phases=phases)
        try:
            check(corrupted)
        except ProgramError:
            rejected += 1
        else:
            assert _reads_no_block_beyond(corrupted), phases[p, g]
            assert trained.guarded(corrupted)
    assert rejected > 300


def test_every_block_is_computed_by_one_group(trained):
    """A block left out would train on stale gradients; one computed twice would count twice."""
    lenet5 = trained("lenet5")
    for cell, value in (((1, 0, 4), 0), ((1, 1, 3), 0), ((1, 1, 4), 1)):
        phases = lenet5.program.phases.copy()
        phases[(*cell[:2], cell[2])] = value
        with pytest.raises(ProgramError, match="block"):
            check(lenet5.corrupted(phases=phases))


def test_rows_after_the_blocks_may_not_start_behind_them(trained):
    """An idle group's first block may be the end of the blocks only if it has no rows."""
    model = MODELS["linear"](input_shape=(1, 4, 4), classes=3)
    logits = model(ops.images((16, 1, 4, 4)))
    program = copy.copy(numba_backend().compile([logits], model.parameters()).program)
    check(program)
    program.phases = program.phases.copy()
    program.phases[0, 0] = 0, 0, len(program.table), 1, 1
    with pytest.raises(ProgramError, match="block"):
        check(program)


def test_rows_in_no_group_or_in_two_are_named(trained):
    lenet5 = trained("lenet5")
    phases = lenet5.program.phases.copy()
    phases[0, 0, 2] -= 1
    phases[0, 0, 1] = min(phases[0, 0, 1], phases[0, 0, 2])
    with pytest.raises(ProgramError, match=rf"row {phases[0, 0, 2]} belongs to 0 groups"):
        check(lenet5.corrupted(phases=phases))
    phases = lenet5.program.phases.copy()
    phases[0, 1] = phases[0, 0]
    with pytest.raises(ProgramError, match=r"race|row \d+ belongs to"):
        check(lenet5.corrupted(phases=phases))


def test_parameters_are_written_by_updates_alone(trained):
    """A gradient of the right shape may not land on its weight."""
    lenet5 = trained("lenet5")
    program = lenet5.program
    table = program.table.copy()
    r = _kinds(lenet5)["linear_grad_weight"]
    columns = program.kernels[table[r, 0]].instruction.columns
    shape = table[r, columns["out"]], padded(table[r, columns["features"]])
    weight = next(b for b in program.buffers if b.role == "parameter" and b.shape == shape)
    table[r, columns["dw"]] = weight.offset
    with pytest.raises(ProgramError, match=r"dw: may not write \['parameter'\]"):
        check(lenet5.corrupted(table))


def test_a_buffer_outside_memory_is_rejected(trained):
    lenet5 = trained("lenet5")
    program = lenet5.corrupted()
    program.buffers = {*program.buffers, Buffer(program.memory_size - 8, (16,), "scratch")}
    with pytest.raises(ProgramError, match="outside the memory"):
        check(program)
    program = lenet5.corrupted()
    program.memory_size -= 16 * 16
    with pytest.raises(ProgramError, match="outside the memory"):
        check(program)


def test_tables_of_another_width_are_rejected(trained):
    lenet5 = trained("lenet5")
    with pytest.raises(ProgramError, match="expected rows of 32 integers"):
        check(lenet5.corrupted(lenet5.program.table[:, :-1]))


def test_a_bad_program_never_reaches_a_kernel(trained, monkeypatch):
    """`compile` checks before it asks for any kernel's address."""
    from odyssey_core.backends.numba import run

    def corrupted_lay_out(*arguments):
        program = lay_out(*arguments)
        program.table[0, 1] = program.memory_size
        return program

    lay_out = run.lay_out
    monkeypatch.setattr(run, "lay_out", corrupted_lay_out)
    monkeypatch.setattr(run, "address_of", lambda kernel: pytest.fail("a kernel was asked for"))
    x = ops.input_("x", (3, 4))
    with pytest.raises(ProgramError, match="row 0"):
        numba_backend().compile([ops.relu(x)], {})


def test_the_listing_names_every_row(trained):
    lenet5 = trained("lenet5")
    text = lenet5.program.listing()
    rows = re.findall(r"^ [ +] *(\d+)  (\w+)", text, re.M)
    names = [lenet5.program.kernels[row[0]].instruction.name for row in lenet5.program.table]
    assert [name for _, name in rows] == names
    assert [int(r) for r, _ in rows] == list(range(len(names)))
    assert re.search(r"^phase 0, group 0: once$", text, re.M)
    assert re.search(r"^phase 1, group 1: blocks 1 to 1$", text, re.M)
    assert re.search(r"gather_images y=\d+ first=0 size=784 scale=\S+ shift=\S+\n", text)
    assert re.search(r"conv2d\[\d+, \d+, 5, 5\] x=\d+ weight=\d+ bias=\d+ norm=-1 y=\d+ channels=1 .* relu=1", text)
    assert re.search(r"  sum_squares grads=\d+ summed=\d+ squares=\d+ length=\d+ groups=2 ", text)
    assert re.search(r"  norm_of squares=\d+ norm=\d+ parts=8\n", text)
    update = r"  clip_momentum_average grads=\d+ parameter=\d+ velocity=\d+ ema=\d+ length=\d+ groups=1 .* momentum=0.9"
    assert re.search(update + r" weight_decay=0 clip_norm=0.5 .* all_gradients_norm=\d+\n", text)
    crossing = trained("residual").program.listing()
    assert re.search(r"channel_moments x=\d+\+\d+\*block of_images=", crossing)
    assert not re.search(r"blocks \d+ to -1", text + crossing)
