"""What the arithmetic units can do: multiply-adds between registers, in the vectors that kernels are written in."""

import time
from functools import cache

import numpy as np
from numba import types

from odyssey_core.backends.numba.compile import address_of_function
from odyssey_core.backends.numba.register_tile import on_tile, tile_store, tile_zero
from odyssey_core.backends.numba.run import callable_at, run_side_by_side
from odyssey_core.backends.numba.tile_sizes import TileSizes
from odyssey_core.backends.numba.traced import INTEGER, LANES, MEMORY
from odyssey_core.backends.numba.vector import fma_vector, splat

MOST_CHAINS = 12  # of dependent multiply-adds: enough for two units with a latency of 4 cycles
NO_FLOOR = np.float32(-np.inf)


def _multiply_add(builder, kind, value, factor, term):
    for _, _, k in kind.grid():
        value = builder.insert_value(value, fma_vector(builder, builder.extract_value(value, k), factor, term), k)
    return value


@on_tile(lambda tile: tile, _multiply_add)
def multiply_add(tile, factor, term):
    """Every vector v of the tile becomes v factor + term."""


@cache
def _loop(chains: int):
    size = chains * LANES

    def peak(memory, count, thread):
        values = tile_zero(chains, 1, LANES)
        factor, term = splat(np.float32(0.5)), splat(np.float32(1))
        for _ in range(count):
            values = multiply_add(values, factor, term)
        tile_store(values, memory, thread * size, LANES, LANES, splat(NO_FLOOR))

    peak.__qualname__ = f"peak_{chains}"
    return peak


class Peak:
    """A loop of multiply-adds that touches no memory, on each of some threads.

    Args:
        tiles: of the CPU that is compiled for; as many chains as its registers hold.
        threads: that run the loop side by side.
    """

    def __init__(self, tiles: TileSizes, threads: int):
        self._chains = min(MOST_CHAINS, (tiles.registers - 2) // tiles.width)
        self._threads, self._count = threads, 100_000
        self._out = np.zeros(threads * self._chains * LANES, np.float32)
        arguments: tuple[types.Type, ...] = (MEMORY, INTEGER, INTEGER)
        self._run = callable_at(address_of_function(_loop(self._chains), arguments), len(arguments))
        self._timed()

    def measure(self, seconds: float) -> float:
        """GFLOP/s of all threads together, over about so many seconds."""
        self._count = max(1, int(self._count * seconds / self._timed()))
        return 2e-9 * LANES * self._chains * self._threads * self._count / self._timed()

    def _timed(self) -> float:
        begun = time.perf_counter()
        run_side_by_side(self._run, self._threads, (self._out.ctypes.data, self._count), self._out)
        return time.perf_counter() - begun
