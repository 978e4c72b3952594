"""Running a program: one compiled loop reads the table and calls the kernel of each row through its address."""

import ctypes
import math
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import RLock
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import register_jitable

from odyssey_core.backends.base import Feed, FeedBounds
from odyssey_core.backends.numba import kernels  # noqa: F401  (importing them registers how operations are lowered)
from odyssey_core.backends.numba.barrier import COUNTERS, counters, enter, finish, try_claim
from odyssey_core.backends.numba.check import check
from odyssey_core.backends.numba.compile import ROW, address_of, address_of_function
from odyssey_core.backends.numba.graph import Graph
from odyssey_core.backends.numba.instruction import ROW_WIDTH
from odyssey_core.backends.numba.layout import plan
from odyssey_core.backends.numba.lower import Lowering
from odyssey_core.backends.numba.operands import share, stored_shape
from odyssey_core.backends.numba.program import Program, lay_out
from odyssey_core.backends.numba.second_compiler import second_compiler
from odyssey_core.backends.numba.step_feed import FEED, StepFeed, address
from odyssey_core.backends.numba.tile_sizes import TileSizes
from odyssey_core.backends.numba.traced import I32, I64, INTEGER, MEMORY, compiled_as
from odyssey_core.tensor import Shape

_share = register_jitable(share)
NO_STEP = Feed(np.zeros((1, 0), np.int64))


def _call(builder, address, *arguments):
    """Calls a kernel as Numba calls functions: with places for a result and an exception, of which there is none."""
    nothing = ir.IntType(8).as_pointer()
    kinds = [nothing.as_pointer(), nothing.as_pointer().as_pointer(), *(x.type for x in arguments)]
    function = builder.inttoptr(address, ir.FunctionType(I32, kinds).as_pointer())
    result = cgutils.alloca_once(builder, nothing)
    builder.call(function, [result, ir.Constant(kinds[1], None), *arguments])


@compiled_as(types.void, _call)
def call_kernel(address, memory, feed, step, block, row):
    """Calls the machine code of a kernel."""


@compiled_as(ROW, lambda b, table, r: b.gep(table, [b.mul(r, I64(ROW_WIDTH))]))
def row_of(table, r):
    """Where a row begins."""


@register_jitable
def _run_rows(memory, table, addresses, feed, step, block, first, end):
    for r in range(first, end):
        row = row_of(table, r)
        call_kernel(addresses[row[0]], memory, feed, step, block, row)


@register_jitable
def _run_group(memory, table, addresses, feed, step, phases, at):
    first, body, end, block0, block1 = phases[at], phases[at + 1], phases[at + 2], phases[at + 3], phases[at + 4]
    for block in range(block0, block1):
        _run_rows(memory, table, addresses, feed, step, block, first, body)
    _run_rows(memory, table, addresses, feed, step, block0, body, end)


@register_jitable
def _groups_with_rows(phases, p, groups):
    """Those that stand first; workers share out these alone, so that none gets idle ones."""
    count = 0
    while count < groups and phases[(p * groups + count) * 5 + 2] > phases[(p * groups + count) * 5]:
        count += 1
    return count


def run_worker(memory, table, addresses, feed, phases, marks, sizes, worker):
    """One worker's part of every phase of every step, and any other worker's that nobody has begun.

    It returns when all parts of the last phase are finished, whoever runs them.

    Args:
        memory, table, addresses, feed, phases: of the program.
        marks: see `barrier.counters`.
        sizes: how many steps, phases, groups in a phase, and workers there are.
        worker: which one.
    """
    steps, count, groups, workers = sizes[0], sizes[1], sizes[2], sizes[3]
    for step in range(steps):
        for p in range(count):
            turn = step * count + p
            enter(marks, workers, turn)
            busy = _groups_with_rows(phases, p, groups)
            for i in range(workers):
                w = (worker + i) % workers
                if try_claim(marks, w, turn):
                    first, last = _share(busy, workers, w)
                    for g in range(first, last):
                        _run_group(memory, table, addresses, feed, step, phases, (p * groups + g) * 5)
                    finish(marks)
    enter(marks, workers, steps * count)


_ARGUMENTS = (MEMORY, ROW, ROW, FEED, ROW, COUNTERS, ROW, INTEGER)


class Call(NamedTuple):
    """What a run of some phases takes.

    Attributes:
        feed: the steps.
        phases: see `Program`.
        marks: see `barrier.counters`.
        arrays: all that the arguments point into.
        arguments: of `run_worker` but the last.
    """

    feed: StepFeed
    phases: np.ndarray
    marks: np.ndarray
    arrays: tuple[np.ndarray, ...]
    arguments: list[int]


class Compiled(NamedTuple):
    """A checked program and what is known of its graph: all of an executable but its memory.

    Attributes:
        program: the rows, checked.
        bounds: of what it may be fed with.
        stored: by name where each value begins that can be read and written, and its shape.
        gradients: by name of a parameter where the parts of its gradient begin, and its shape.
        run: `run_worker` as machine code.
        addresses: of the kernels, by opcode.
    """

    program: Program
    bounds: FeedBounds
    stored: dict[str, tuple[int, Shape]]
    gradients: dict[str, tuple[list[int], Shape]]
    run: Callable[..., int]
    addresses: np.ndarray


def compiled(graph: Graph, groups: int, threads: int, tiles: TileSizes, lowered: type[Lowering] = Lowering) -> Compiled:
    """Lowers a graph, checks the program, and compiles the kernels that the cache does not have.

    Args:
        graph: what is computed.
        groups: most groups of blocks.
        threads: at most so many share the groups.
        tiles: register tiles to use.
        lowered: into which form.
    """
    parameters, updates, rule = graph.parameters, graph.updates, graph.rule
    layout = plan(graph.outputs, parameters, updates, rule, graph.buffers, groups, threads, tiles, lowered)
    lowering = layout.lowering
    program = lay_out(layout, updates, rule)
    check(program)
    stored = {name: (lowering.places[node].offset, node.shape) for name, node in parameters.items()}
    gradients: dict[str, tuple[list[int], Shape]] = {}
    for u in updates:
        start = lowering.places[u.parameter].offset
        for slot in rule.all_slots(u):
            stored[f"{u.name}/{slot}"] = (layout.slot(slot) + start, u.parameter.shape)
        place = lowering.gradients[u.grad]
        begin, parts = layout.gradient(place.space, place.offset)
        starts = [begin + g * lowering.gradient_size for g in range(parts)]
        gradients[u.name] = starts, u.parameter.shape
    with second_compiler(program.kernels, threads):
        run = callable_at(address_of_function(run_worker, _ARGUMENTS), len(_ARGUMENTS))
    addresses = np.array([address_of(kernel) for kernel in program.kernels], np.int64)
    return Compiled(program, FeedBounds.of(graph.outputs, updates, rule), stored, gradients, run, addresses)


class NumbaExecutable:
    """A checked program with its memory. See `backends.base.Executable`.

    Several threads may call it: one after the other, since all work in the same memory.

    Args:
        made: of `compiled`; other executables may have it too.
    """

    def __init__(self, made: Compiled):
        self.program, self._bounds, self._stored, self._gradients, self._run, self._addresses = made
        self._memory = _aligned_zeros(self.program.memory_size)
        self._lock = RLock()

    def read(self) -> dict[str, np.ndarray]:
        with self._lock:
            return {name: self._view(start, shape).copy() for name, (start, shape) in self._stored.items()}

    def write(self, values: Mapping[str, np.ndarray]) -> None:
        with self._lock:
            for name, value in values.items():
                self._view(*self._stored[name])[...] = value
            if self.program.first:
                self._execute(NO_STEP, self.program.phases[: self.program.first])

    def gradients(self, feed: Feed) -> dict[str, np.ndarray]:
        self._bounds.check(feed)
        found = {}
        with self._lock:
            self._execute(feed, self.program.phases[: self.program.computing])
            for name, (parts, shape) in self._gradients.items():
                found[name] = self._view(parts[0], shape).copy()
                for start in parts[1:]:
                    found[name] += self._view(start, shape)
        return found

    def _view(self, start: int, shape: Shape) -> np.ndarray:
        stored = stored_shape(shape)
        whole = self._memory[start : start + math.prod(stored)].reshape(stored)
        return whole[:, : shape[1]] if len(shape) == 2 else whole

    def run(self, feed: Feed) -> np.ndarray:
        self._bounds.check(feed)
        return self._execute(feed, self.program.phases[self.program.first :])

    def _execute(self, feed: Feed, phases: np.ndarray) -> np.ndarray:
        call = self.prepare(feed, phases)
        with self._lock:
            self.calling(call)()
        return call.feed.outputs[:, : self._bounds.batch_size]

    def prepare(self, feed: Feed, phases: np.ndarray) -> Call:
        """Everything that a run of the phases takes, in arrays that it keeps alive."""
        given, workers, phases = self.step_feed(feed), self.program.workers, np.ascontiguousarray(phases)
        marks, sizes = counters(workers), np.array([len(given.order), *phases.shape[:2], workers], np.int64)
        arrays = (self._memory, self.program.table, self._addresses, given.table(), phases, marks, sizes)
        return Call(given, phases, marks, arrays, [address(array) for array in arrays])

    def calling(self, call: Call) -> Callable[[], Any]:
        """What runs a call whenever its counters are 0; as long as the call itself is kept."""
        if self.program.workers > 1:
            return partial(run_side_by_side, self._run, self.program.workers, call.arguments, call)
        return partial(self._run, *map(ctypes.c_void_p, (*call.arguments, 0)))

    def step_feed(self, feed: Feed) -> StepFeed:
        """The feed in arrays that kernels read."""
        steps, batch = feed.order.shape
        lanes = self.program.blocks * self.program.images
        order = np.full((steps, lanes), -1, np.int64)
        order[:, :batch] = feed.order
        values = np.zeros((steps, len(self.program.values)), np.float32)
        for column, name in enumerate(self.program.values):
            values[:, column] = feed.scalars[name]
        inputs = np.zeros((steps, lanes, self.program.inputs), np.float32)
        if feed.inputs is not None:
            inputs[:, :batch] = feed.inputs
        outputs = np.zeros((steps, lanes, self.program.outputs), np.float32)
        pixels, labels = np.require(feed.pixels, np.uint8, "C"), np.require(feed.labels, np.int64, "C")
        return StepFeed(
            order, pixels, labels, values, inputs, outputs, feed.seed & 0xFFFFFFFF, feed.seed >> 32 & 0xFFFFFFFF,
            feed.epoch,
        )  # fmt: skip


def callable_at(address: int, arguments: int) -> Callable[..., int]:
    """Machine code of a function of addresses and integers, which runs without the interpreter's lock."""
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * (2 + arguments))(address)
    return partial(function, ctypes.byref(ctypes.c_void_p()), None)


def run_side_by_side(function: Callable[..., int], workers: int, arguments: Sequence[int], memory: Any) -> None:
    """Calls a function as many times at once, with the caller's number behind the arguments: here and in threads.

    Whatever a signal's handler raises comes before the call made here, which then is made nevertheless, or after it.
    `threading.Thread` waits for its thread to start, and breaks where it is interrupted there.

    Args:
        function: of `callable_at`. Where it works on shared memory, the call made here returns when all is done, also
            with fewer threads than were asked for: a machine may refuse them.
        workers: how many calls.
        arguments: of all of them.
        memory: what the arguments point into. It lives as long as a thread may still look at it.
    """
    waiting = []
    try:
        for worker in range(1, workers):
            done = allocate_lock()
            done.acquire()
            start_new_thread(_run_and_release, (function, (*arguments, worker), done, memory))
            waiting.append(done)
    except RuntimeError:  # there are no more threads
        pass
    finally:
        function(*arguments, 0)
    for done in waiting:
        done.acquire()


def _run_and_release(function, arguments, done, memory) -> None:
    try:
        function(*arguments)
    finally:
        done.release()


def _aligned_zeros(size: int, alignment: int = 64) -> np.ndarray:
    """float32 zeros that start at a multiple of ``alignment`` bytes."""
    raw = np.zeros(size + alignment // 4, np.float32)
    skip = -raw.ctypes.data % alignment // 4
    return raw[skip : skip + size]
