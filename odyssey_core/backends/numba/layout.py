"""What lies where in the memory of a step, and which stretches of the parameters are updated together.

Memory holds, one after the other: parameters and buffers, each slot of the optimizer in the parameters' layout, sums
over the whole batch, for every group its gradients in the order of the parameters and its other sums, for every block
the values that cross a phase, and for every worker, who runs one group after the other, scratch: one that a group had
just used is still in the core's cache (a tenth of LeNet-5's step where one thread runs two groups).
"""

import math
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

import numpy as np

from odyssey_core.backends.numba.kernels.orthogonal import scratch
from odyssey_core.backends.numba.lower import Lowering
from odyssey_core.backends.numba.operands import Place, padded
from odyssey_core.backends.numba.tile_sizes import TileSizes
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.errors import ConfigError
from odyssey_core.machine import usable_memory
from odyssey_core.optim import StepRule, Update, WholeRule
from odyssey_core.tensor import Tensor

# Stretches that the parameters are cut into for the update, whatever the number of threads.
UPDATE_GROUPS = 8


class Piece(NamedTuple):
    """What one row updates.

    Attributes:
        number: counts the pieces, in order of address.
        rule: that is applied.
        start, length: elements of the parameters.
        gradient: the space of theirs, and how far behind the start they lie there.
        parameter: number of the parameter where pieces end at parameters' borders, else -1.
    """

    number: int
    rule: WholeRule
    start: int
    length: int
    gradient: tuple[str, int]
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
    matrices: int
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
            "matrices made orthogonal": self.matrices,
        }
        starts = [0, *np.cumsum(list(self.memory.values())).tolist()]
        self.size = starts[-1]
        self.slot_start, self.shared, self.gradients, self.kept = starts[1:5]
        self.scratch, self.squares, self.orthogonal = starts[5:-1]

    def slot(self, name: str) -> int:
        """Where a slot of all parameters begins."""
        return self.slot_start + self.slots.index(name) * self.lowering.parameter_size

    def gradient(self, space: str, offset: int) -> tuple[int, int]:
        """Where a gradient lies, or the first group's part of it, and how many parts there are."""
        return (self.shared + offset, 1) if space == "shared" else (self.gradients + offset, self.groups)

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
    lowering = lowered(outputs, parameters, updates, buffers, tiles, min(workers, groups))
    batch = next(x.shape[0] for x in lowering.order if x.batched)
    stages = list(zip(*[rule.stages(u.optimizer, u.group) for u in updates], strict=True))
    pieces = max((sum(map(len, cut_into_stretches(lowering, updates, rules))) for rules in stages), default=0)
    slots = tuple(sorted({slot for u in updates for slot in rule.all_slots(u)}))
    matrices = sum(math.prod(shape) for u in updates if u.orthogonal for shape in scratch(*matrix(u)).values())

    def of(blocks: int) -> Layout:
        return Layout(lowering, slots, min(groups, blocks), min(workers, groups, blocks), blocks, pieces, matrices)

    layout, most = of(-(-batch // lowering.images)), usable_memory()
    if 4 * layout.size > most:
        fits = bisect(range(1, layout.blocks), most, key=lambda blocks: 4 * of(blocks).size)
        smaller = f"trainer.batch_size={fits * LANES} fits" if fits else "not even one of 16 fits"
        raise ConfigError(
            f"a step of {batch} images takes {4 * layout.size / 2**30:.1f} GiB of memory, "
            f"the machine has {most / 2**30:.1f}; {smaller}"
        )
    return layout


def matrix(update: Update) -> tuple[int, int]:
    """Rows and columns of a parameter whose axes behind the first are taken together."""
    return update.parameter.shape[0], math.prod(update.parameter.shape[1:])


def cut_into_stretches(lowering: Lowering, updates: Sequence[Update], rules: Sequence[WholeRule]) -> list[list[Piece]]:
    """Parameters that stand side by side under one rule are updated by one row, cut at the stretches' borders.

    A rule that asks for norms of a parameter gets rows that end where parameters do. A stretch of parameters that are
    not trained is left out.
    """
    spans: list[tuple[WholeRule, int, int, tuple[str, int], int]] = []
    for u, rule in sorted(zip(updates, rules, strict=True), key=lambda x: lowering.places[x[0].parameter].offset):
        place, alone = lowering.places[u.parameter], bool({"parameter_norm", "gradient_norm"} & {*rule.norms})
        gradient = lowering.gradients[u.grad]
        behind = gradient.space, gradient.offset - place.offset
        if not alone and spans and (spans[-1][0], *spans[-1][2:4]) == (rule, place.offset, behind):
            spans[-1] = (rule, spans[-1][1], place.offset + place.size, behind, -1)
        else:
            spans.append((rule, place.offset, place.offset + place.size, behind, len(spans) if alone else -1))
    width, numbers = padded(-(-lowering.parameter_size // UPDATE_GROUPS)), count()
    stretches = []
    for i in range(UPDATE_GROUPS):
        cut = [(rule, max(low, i * width), min(high, (i + 1) * width), *at) for rule, low, high, *at in spans]
        stretches.append([Piece(next(numbers), rule, a, b - a, *at) for rule, a, b, *at in cut if a < b])
    return [pieces for pieces in stretches if pieces]
