"""Where a step's time goes: every kind of row run by itself, many times in one call."""

import time
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from odyssey_core.backends.base import Feed
from odyssey_core.backends.numba.instruction import Constant, Kernel, Step
from odyssey_core.backends.numba.program import Program
from odyssey_core.backends.numba.run import NumbaExecutable
from odyssey_core.backends.numba.traced import LANES


@dataclass(frozen=True)
class RowTime:
    """All rows of a step that do the same to different places.

    Attributes:
        name: instruction and variant.
        work: the sizes that say how much it does.
        runs: in one step.
        seconds: of one run.
        flops: of one run's multiply-adds, two each; 0 where there are none, or as many as the data asks for.
    """

    name: str
    work: str
    runs: int
    seconds: float
    flops: int


def time_rows(executable: NumbaExecutable, feed: Feed, rounds: int = 7) -> list[RowTime]:
    """Times the rows of a step one by one, in the order in which they first stand in the table.

    A row is run alone for one block, once for each step of the feed, so what it reads lies in the cache as it does
    beside its neighbours. The values it works on are not a step's, though lists are about as long as in one: the
    executable is of no use afterwards.

    Args:
        executable: of one thread.
        feed: hundreds of steps, whose scalars let an update change nothing.
        rounds: the least of so many is taken: what other processes do can only add.
    """
    program = executable.program
    runs, first = Counter(), {}
    for p, groups in enumerate(program.phases):
        for start, body, end, block, last in groups:
            for r in range(start, end):
                kind = (p, *_kind(program.kernels[program.table[r, 0]], program.table[r]))
                runs[kind] += int(last - block) if r < body else 1
                first.setdefault(kind, (r, int(block)))
    samples = [[_alone(executable, feed, r, r + 1, block) for r, block in first.values()] for _ in range(rounds)]
    idle = min(_alone(executable, feed, 0, 0, 0) for _ in range(rounds))
    executable.program = program
    return [
        RowTime(*kind[1:], runs[kind], max(min(times) - idle, 0.0), _flops(program, first[kind][0]))
        for kind, times in zip(first, zip(*samples, strict=True), strict=True)
    ]


def _alone(executable: NumbaExecutable, feed: Feed, start: int, end: int, block: int) -> float:
    """Seconds of one run of the rows from ``start`` to ``end``, without anything else of a step."""
    phases = np.array([[(start, end, end, block, block + 1)]], np.int64)
    executable.program = replace(executable.program, phases=phases, first=0)
    begun = time.perf_counter()
    executable.run(feed)
    return (time.perf_counter() - begun) / len(feed.order)


def _kind(kernel: Kernel, row: np.ndarray) -> tuple[str, str]:
    return kernel.name, " ".join(f"{name}={value}" for name, value in _sizes(kernel, row).items())


def _sizes(kernel: Kernel, row: np.ndarray) -> dict[str, int]:
    """The integers of a row that say how much it does."""
    kinds, values = kernel.instruction.kinds, kernel.instruction.decode(row)
    return {n: x for n, x in values.items() if kinds[n] not in (None, Constant, Step) and n != "first_block"}


def _flops(program: Program, r: int) -> int:
    kernel, row = program.kernels[program.table[r, 0]], program.table[r]
    work = kernel.instruction.multiply_adds
    return 0 if work is None else 2 * LANES * work({**_sizes(kernel, row), **kernel.fixed})
