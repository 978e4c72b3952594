"""The check of instruction tables: groups and slices that would write where another reads or writes are named."""

import pytest
from programs import PROGRAMS

from odyssey_core.backends.numba.check import check
from odyssey_core.errors import ProgramError


def _moved_to_group_0(program, name, operand):
    """The table with an operand of group 1's first row of a kind where group 0's lies."""
    (first, _, end, *_), (other_first, *_) = program.phases[1, :2].tolist()  # behind the one that packs weights
    table = program.table.copy()
    r = next(r for r in range(first, end) if program.kernels[table[r, 0]].instruction.name == name)
    column = program.kernels[table[r, 0]].instruction.columns[operand]
    table[r + other_first - first, column] = table[r, column]
    return table


RACE = r"rows \d+ and \d+: groups 0 and 1 race|groups 1 and 0 race"


def test_groups_that_race_are_named(trained):
    """Group 1 leaving its gradient where group 0 leaves its own."""
    lenet5 = trained("lenet5")
    with pytest.raises(ProgramError, match=RACE):
        check(lenet5.corrupted(_moved_to_group_0(lenet5.program, "linear_grad_weight", "dw")))


def test_scratch_is_shared_by_the_groups_of_one_worker_alone(trained):
    """Group 1 computing where group 0 computes: as it should be for one worker, a race for two."""
    lenet5 = trained("lenet5")
    check(lenet5.program)
    program = lenet5.corrupted()
    program.workers = 2
    with pytest.raises(ProgramError, match=RACE):
        check(program)
    two = PROGRAMS["lenet5"](threads=2)
    program = two.corrupted(_moved_to_group_0(two.program, "conv2d", "y"))
    with pytest.raises(ProgramError, match=RACE):
        check(program)


def _of_slices(program) -> list[int]:
    """The rows that sum a weight's gradient over all blocks."""
    sums = [kernel.instruction.name == "winograd_grad_weight" for kernel in program.kernels]
    return [r for r, row in enumerate(program.table) if sums[row[0]]]


def test_slices_that_race_are_named():
    """Three workers, for 33 output channels of 17 input channels; the second goes where the first does."""
    made = PROGRAMS["slices"](threads=3)
    program = made.program
    table = program.table.copy()
    written = [r for r, row in enumerate(table) if program.kernels[row[0]].name == "transpose_weight"]
    numbers = {r: program.kernels[table[r, 0]].instruction.decode(table[r]) for r in written}
    first, second = (r for r, of in numbers.items() if (of["out"], of["all"]) == (16, 9 * 17))
    columns = program.kernels[table[first, 0]].instruction.columns
    table[second, columns["y"]] = table[first, columns["y"]]
    with pytest.raises(ProgramError, match=r"race"):
        check(made.corrupted(table))


@pytest.mark.parametrize(("name", "wrong"), [("blocks", 2), ("blocks", 4), ("block_stride", 16)])
def test_slices_sum_over_all_blocks(name, wrong, trained):
    made = trained("slices")
    for r in _of_slices(made.program):
        table = made.program.table.copy()
        table[r, made.program.kernels[table[r, 0]].instruction.columns[name]] = wrong
        with pytest.raises(ProgramError, match=rf"row {r}, .*{name} must be the group's"):
            check(made.corrupted(table))


def test_a_gradient_summed_in_slices_lies_in_memory_once(trained):
    """Eight groups of blocks would have eight copies, and as many sums of 36 positions."""
    tiles, slices = (trained(name).program.memory["gradients"] for name in ("tiles", "slices"))
    weights = 9 * (16 * 17 + 17 * 33) + 4 * 33 * 16 + 16 * 3
    sums = 36 * (16 * 32 + 17 * 48) + 4 * 33 * 16
    assert tiles - slices == pytest.approx(3 * (weights + sums), abs=3 * 64)


def test_sums_of_squares_that_race_are_named(trained):
    """Two stretches that would add up to one: the norm would lack the other."""
    lenet5 = trained("lenet5")
    program = lenet5.program
    table = program.table.copy()
    first, second = [r for r, row in enumerate(table) if program.kernels[row[0]].instruction.name == "sum_squares"][:2]
    column = program.kernels[table[first, 0]].instruction.columns["squares"]
    table[second, column] = table[first, column]
    with pytest.raises(ProgramError, match=rf"rows {first} and {second}: groups 0 and 1 race"):
        check(lenet5.corrupted(table))
