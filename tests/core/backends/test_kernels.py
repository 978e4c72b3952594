"""Kernels as plain Python: every one, on small shapes, to the same bits as its machine code."""

import numpy as np
import pytest
from programs import PROGRAMS

from odyssey_core.backends.numba.instruction import INSTRUCTIONS
from odyssey_core.backends.numba.kernels.elementwise import add, multiply

# Those that the programs below do not use; the parity cases run them.
ELSEWHERE = {"ingest", "squares_of"}


@pytest.fixture(scope="module", params=PROGRAMS)
def trained(request):
    return PROGRAMS[request.param]()


def _values(size: int) -> np.ndarray:
    """float32 of both signs, with zeros among them."""
    rng = np.random.default_rng(5)
    return (rng.uniform(-1, 1, size) * (rng.random(size) < 0.9)).astype(np.float32)


def test_every_kernel_gives_the_same_bits_as_plain_python(trained):
    """One row of each kernel for the last block that it runs for."""
    program, executable = trained.program, trained.executable
    seen = set()
    for phase in program.phases:
        for first, body, end, block, last in phase.tolist():
            for r in range(first, end):
                kernel = program.kernels[program.table[r, 0]]
                if kernel in seen or (program.memory_size > 100_000 and "conv" in kernel.name):
                    continue
                seen.add(kernel)
                at, feed = last - 1 if r < body else block, executable.step_feed(trained.feed)
                expected = _values(program.memory_size)
                with np.errstate(all="ignore"):
                    kernel.run(program.table[r], expected, feed, 0, at)
                executable._memory[...] = _values(program.memory_size)
                alone = np.array([[(r, r + 1, r + 1, at, at + 1)]]) if r < body else np.array([[(r, r, r + 1, at, at)]])
                outputs = executable._execute(trained.feed, alone)
                np.testing.assert_array_equal(executable._memory, expected, err_msg=program.describe(r))
                np.testing.assert_array_equal(outputs, feed.outputs[:, : outputs.shape[1]])


def test_every_kernel_is_in_one_of_the_programs():
    used = {kernel.instruction.name for make in PROGRAMS.values() for kernel in make().program.kernels}
    assert set(INSTRUCTIONS) - used == ELSEWHERE
    assert {"momentum", "adam"} <= {name for each in used for name in each.split("_")}
    assert {add.name, multiply.name} <= used
