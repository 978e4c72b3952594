"""What the arithmetic units can do: multiply-adds between registers, in the vectors that kernels are written in."""

import time

import numpy as np
from numba import njit, prange, set_num_threads, types
from numba.extending import intrinsic

from odyssey_core.backends.numba.loading import compiled
from odyssey_core.backends.numba.simd import LANES, fma_vector, splat
from odyssey_core.backends.numba.tile import tile_store, tile_zero
from odyssey_core.backends.numba.tiles import Tiles

MOST_CHAINS = 12  # of dependent multiply-adds: enough for two units with a latency of 4 cycles
NO_FLOOR = np.float32(-np.inf)
_SIGNATURE = types.void(types.float32[::1], types.int64, types.int64)


@intrinsic
def _multiply_add(typingctx, tile, factor, term):
    """Every vector v of the tile becomes v factor + term."""

    def codegen(context, builder, sig, args):
        value, factor, term = args
        for k in range(sig.args[0].rows):
            result = fma_vector(builder, builder.extract_value(value, k), factor, term)
            value = builder.insert_value(value, result, k)
        return value

    return tile(tile, factor, term), codegen


def _build(chains: int, parallel: bool):
    size = chains * LANES

    @njit(nogil=True)
    def one(out, start, count):
        values = tile_zero(chains, 1, LANES)
        factor, term = splat(np.float32(0.5)), splat(np.float32(1))
        for _ in range(count):
            values = _multiply_add(values, factor, term)
        tile_store(values, out, start, LANES, LANES, splat(NO_FLOOR))

    def peak(out, threads, count):
        for thread in prange(threads):
            one(out, thread * size, count)

    peak.__qualname__ = f"peak_{chains}"
    return njit(nogil=True, parallel=parallel)(peak)


class Peak:
    """A loop of multiply-adds that touches no memory, on each of some threads.

    Args:
        tiles: of the CPU that is compiled for; as many chains as its registers hold.
        threads: that run the loop side by side.
    """

    def __init__(self, tiles: Tiles, threads: int):
        self._chains = min(MOST_CHAINS, (tiles.registers - 2) // tiles.width)
        self._threads, self._count = threads, 100_000
        self._out = np.zeros(threads * self._chains * LANES, np.float32)
        self._run = _build(self._chains, threads > 1)
        compiled(self._run, _SIGNATURE, wrapped=True)
        self._timed()

    def measure(self, seconds: float) -> float:
        """GFLOP/s of all threads together, over about so many seconds."""
        self._count = max(1, int(self._count * seconds / self._timed()))
        return 2e-9 * LANES * self._chains * self._threads * self._count / self._timed()

    def _timed(self) -> float:
        if self._threads > 1:
            set_num_threads(self._threads)
        begun = time.perf_counter()
        self._run(self._out, self._threads, self._count)
        return time.perf_counter() - begun
