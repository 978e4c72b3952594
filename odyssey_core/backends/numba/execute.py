"""Running a program: one compiled loop reads the table and calls the kernel of each row through its address."""

import math
from collections.abc import Sequence

import numpy as np
from llvmlite import ir
from numba import njit, prange, set_num_threads, types
from numba.extending import intrinsic

from odyssey_core.backends.base import Feed, FeedBounds
from odyssey_core.backends.numba.check import check
from odyssey_core.backends.numba.crew import claim, enter, finish, marks_of
from odyssey_core.backends.numba.layout import lay_out
from odyssey_core.backends.numba.loading import compiled
from odyssey_core.backends.numba.lower import Lowering
from odyssey_core.backends.numba.places import stored_shape
from odyssey_core.backends.numba.simd import LANES
from odyssey_core.backends.numba.table import KERNEL_SIGNATURE, Program, StepFeed, share
from odyssey_core.backends.numba.tiles import Tiles
from odyssey_core.optim import StepRule, Update
from odyssey_core.tensor import Shape, Tensor

_share = njit(nogil=True)(share)


@intrinsic
def call_kernel(typingctx, address, arena, row, feed, step, block):
    """Calls the compiled kernel at an address that `kernel_addresses` gave."""

    def codegen(context, builder, sig, args):
        convention = context.call_conv
        kind = convention.get_function_type(KERNEL_SIGNATURE.return_type, KERNEL_SIGNATURE.args)
        function = builder.inttoptr(args[0], ir.PointerType(kind))
        convention.call_function(builder, function, types.void, KERNEL_SIGNATURE.args, args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, *KERNEL_SIGNATURE.args), codegen


def kernel_addresses(program: Program) -> np.ndarray:
    """(opcodes,) int64: compiles, or loads from the cache, every kernel that the program uses."""
    results = [compiled(kernel.compiled(), KERNEL_SIGNATURE) for kernel in program.kernels]
    return np.array([r.library.get_pointer_to_function(r.fndesc.llvm_func_name) for r in results], np.int64)


_SIGNATURE = types.void(
    types.float32[::1],
    types.int64[:, ::1],
    types.int64[:, :, ::1],
    types.int64[::1],
    KERNEL_SIGNATURE.args[2],
    types.int64[:, ::1],
)


@njit(nogil=True)
def _run_group(arena, table, group, addresses, feed, step):
    first, body, end, block0, block1 = group
    for block in range(block0, block1):
        for r in range(first, body):
            call_kernel(addresses[table[r, 0]], arena, table[r], feed, step, block)
    for r in range(body, end):
        call_kernel(addresses[table[r, 0]], arena, table[r], feed, step, block0)


@njit(nogil=True)
def _group(phases, p, g):
    return phases[p, g, 0], phases[p, g, 1], phases[p, g, 2], phases[p, g, 3], phases[p, g, 4]


@njit(nogil=True)
def _groups_with_rows(phases, p):
    """Those that stand first; workers share out these alone, so that none gets idle ones."""
    count = 0
    while count < phases.shape[1] and phases[p, count, 2] > phases[p, count, 0]:
        count += 1
    return count


@njit(nogil=True)
def _work(worker, arena, table, phases, addresses, feed, marks):
    """One worker's part of every phase of every step, and any other worker's that nobody has begun."""
    workers = marks.shape[0] - 1
    for step in range(feed.order.shape[0]):
        for p in range(phases.shape[0]):
            turn = step * phases.shape[0] + p
            enter(marks, turn)
            groups = _groups_with_rows(phases, p)
            for i in range(workers):
                w = (worker + i) % workers
                if claim(marks, w, turn):
                    first, last = _share(groups, workers, w)
                    for g in range(first, last):
                        _run_group(arena, table, _group(phases, p, g), addresses, feed, step)
                    finish(marks)


def _run_steps(arena, table, phases, addresses, feed, marks):
    """Every step of the feed, by as many workers as there are marks for, side by side if numba compiles it so."""
    for worker in prange(marks.shape[0] - 1):
        _work(worker, arena, table, phases, addresses, feed, marks)


run_serial = njit(nogil=True)(_run_steps)
run_parallel = njit(nogil=True, parallel=True)(_run_steps)


class NumbaExecutable:
    """A checked program with its arena. See `backends.base.Executable`.

    Args:
        outputs, parameters, updates, rule: as `Backend.compile` takes them.
        groups: most groups of blocks.
        threads: at most so many share the groups.
        tiles: register tiles to use.
    """

    def __init__(
        self,
        outputs: Sequence[Tensor],
        parameters: dict[str, Tensor],
        updates: Sequence[Update],
        rule: StepRule,
        groups: int,
        threads: int,
        tiles: Tiles,
    ):
        lowering = Lowering(outputs, parameters, updates, tiles)
        self._bounds = FeedBounds.of(outputs, updates, rule)
        self.program, layout = lay_out(lowering, updates, rule, self._bounds.batch_size, groups, threads)
        check(self.program)
        self._stored: dict[str, tuple[int, Shape]] = {}
        for name, node in parameters.items():
            self._stored[name] = (lowering.parameter_offsets[name], node.shape)
        for u in updates:
            for slot in (*u.optimizer.slots(), *rule.slots()):
                start = layout.slots[slot] + lowering.parameter_offsets[u.name]
                self._stored[f"{u.name}/{slot}"] = (start, u.parameter.shape)
        self._arena = _aligned_zeros(self.program.arena_size)
        self._addresses = kernel_addresses(self.program)
        self._run = run_serial if self.program.workers == 1 else run_parallel
        compiled(self._run, _SIGNATURE, wrapped=True)

    def read(self) -> dict[str, np.ndarray]:
        return {name: self._view(name).copy() for name in self._stored}

    def write(self, values: dict[str, np.ndarray]) -> None:
        for name, value in values.items():
            self._view(name)[...] = value

    def _view(self, name: str) -> np.ndarray:
        start, shape = self._stored[name]
        stored = stored_shape(shape)
        whole = self._arena[start : start + math.prod(stored)].reshape(stored)
        return whole[:, : shape[1]] if len(shape) == 2 else whole

    def run(self, feed: Feed) -> np.ndarray:
        self._bounds.check(feed)
        steps, batch = feed.order.shape
        lanes = self.program.blocks * LANES
        order = np.full((steps, lanes), -1, np.int64)
        order[:, :batch] = feed.order
        scalars = np.zeros((steps, 0), np.float32) if feed.scalars is None else feed.scalars
        outputs = np.zeros((steps, lanes, self.program.outputs), np.float32)
        inputs = np.zeros((steps, lanes, self.program.inputs), np.float32)
        if feed.inputs is not None:
            inputs[:, :batch] = feed.inputs
        key = np.array([feed.seed & 0xFFFFFFFF, feed.seed >> 32 & 0xFFFFFFFF, feed.epoch], np.int64)
        step_feed = StepFeed(
            order,
            _mutable(feed.pixels, np.uint8),
            _mutable(feed.labels, np.int64),
            _mutable(scalars, np.float32),
            inputs,
            outputs,
            key,
        )
        workers = self.program.workers
        if workers > 1:
            set_num_threads(workers)
        self._run(self._arena, self.program.table, self.program.phases, self._addresses, step_feed, marks_of(workers))
        return outputs[:, :batch]


def _mutable(array: np.ndarray, dtype: type) -> np.ndarray:
    """The array as a compiled kernel takes it: a copy only where it is not so already."""
    ready = array.dtype == dtype and array.flags.c_contiguous and array.flags.writeable
    return array if ready else np.require(array, dtype, ["C", "W"])


def _aligned_zeros(size: int, alignment: int = 64) -> np.ndarray:
    """float32 zeros that start at a multiple of ``alignment`` bytes."""
    raw = np.zeros(size + alignment // 4, np.float32)
    skip = -raw.ctypes.data % alignment // 4
    return raw[skip : skip + size]
