"""The fast backend: a whole training step as an instruction table over one float32 arena."""

import os
from functools import lru_cache

from odyssey_core.backends.base import NO_BUFFERS, require_ops
from odyssey_core.errors import ConfigError
from odyssey_core.machine import usable_cores
from odyssey_core.optim import PLAIN
from odyssey_core.ranges import Count, check_ranges

__all__ = ["NumbaBackend"]

PROGRAMS = 16  # that a backend keeps: most points of a sweep have the same three, and to make them takes a tenth of one


class NumbaBackend:
    """Compiled kernels on CPU threads. The same configuration gives the same bits, whatever the threads and the CPU.

    Numba is imported when one is made, and not to look at its arguments, so that a mistake is answered at once.

    Args:
        threads: how many to use; None for one per physical core that the process may use. Never more than groups.
        groups: into how many parts, at most, a batch is cut; each sums its own gradient. Part of the result.

    Raises:
        ConfigError: fewer than one thread or group, also where the environment says how many.
    """

    def __init__(self, threads: Count | None = None, groups: Count = 8):
        check_ranges(NumbaBackend.__init__, {"threads": threads, "groups": groups}, "backend")
        if (given := os.environ.get("NUMBA_NUM_THREADS")) and not (given.isdecimal() and int(given)):
            raise ConfigError(f"NUMBA_NUM_THREADS: expected an integer at least 1, got {given!r}")
        from numba import config

        from odyssey_core.backends.numba.tile_sizes import TileSizes

        self.groups = groups
        self.threads = min(threads or usable_cores(), groups, config.NUMBA_NUM_THREADS)
        self._features = target_features()
        wide = "avx512f" in self._features
        self.tiles = TileSizes(32, 1) if wide else TileSizes(32, 4) if "neon" in self._features else TileSizes(16, 2)
        self._compiled = lru_cache(PROGRAMS)(_compiled)

    def describe(self) -> str:
        """One line for people: threads and instruction set."""
        known = (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("neon", "NEON"))
        level = next((name for feature, name in known if feature in self._features), "baseline")
        return f"numba, {self.threads} thread{'s' if self.threads > 1 else ''}, {level}"

    def compile(self, outputs, parameters, updates=(), rule=PLAIN, buffers=NO_BUFFERS):
        """See `Backend.compile`. A graph that equals one of the last gets the same program, and memory of its own."""
        from odyssey_core.backends.numba.graph import Graph
        from odyssey_core.backends.numba.run import NumbaExecutable

        graph = Graph(outputs, parameters, updates, rule, buffers)
        return NumbaExecutable(self._compiled(graph, self.groups, self.threads, self.tiles))

    def prepare(self, output, parameters):
        """See `Backend.prepare`."""
        from odyssey_core.backends.numba.prepared import PreparedCall

        self.require([output])
        return PreparedCall(output, parameters, self.groups, self.threads, self.tiles)

    def memory(self, outputs, parameters, updates=(), rule=PLAIN, buffers=NO_BUFFERS):
        """See `Backend.memory`."""
        from odyssey_core.backends.numba.layout import plan

        self.require([*outputs, *(u.grad for u in updates), *buffers.values()])
        graph = (outputs, parameters, updates, rule, buffers)
        return {name: 4 * size for name, size in plan(*graph, self.groups, self.threads, self.tiles).memory.items()}

    def require(self, outputs):
        """See `Backend.require`."""
        _require(outputs)


def _require(outputs):
    from odyssey_core.backends.numba import kernels  # noqa: F401  (importing them registers the rules)
    from odyssey_core.backends.numba.lower import RULES

    require_ops("numba", "kernel", outputs, RULES, "; choose backend=numpy, which computes the same, more slowly")


def _compiled(graph, groups, threads, tiles):
    from odyssey_core.backends.numba.run import compiled

    _require(graph.computed)
    return compiled(graph, groups, threads, tiles)


def target_features() -> set[str]:
    """Names of the CPU features that numba compiles for."""
    from llvmlite import binding
    from numba import config

    if config.CPU_FEATURES is not None:
        return {f[1:] for f in config.CPU_FEATURES.split(",") if f.startswith("+")}
    return {name for name, present in binding.get_host_cpu_features().items() if present}
