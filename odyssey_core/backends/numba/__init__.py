"""The fast backend: a whole training step as an instruction table over one float32 arena."""

from importlib import import_module
from typing import Annotated

from odyssey_core.backends.base import NO_BUFFERS, require_ops
from odyssey_core.backends.numba import environment  # noqa: F401  (numba reads it once)
from odyssey_core.backends.numba.cores import usable_cores
from odyssey_core.optim import PLAIN
from odyssey_core.ranges import Range, check_ranges

Count = Annotated[int, Range(1)]

__all__ = ["NumbaBackend"]


class NumbaBackend:
    """Compiled kernels on CPU threads. The same configuration gives the same bits, whatever the threads and the CPU.

    Numba is imported when one is made, and not to look at its arguments, so that a mistake is answered at once.

    Args:
        threads: how many to use; None for one per physical core that the process may use. Never more than groups.
        groups: into how many parts, at most, a batch is cut; each sums its own gradient. Part of the result.

    Raises:
        ConfigError: fewer than one thread or group.
    """

    def __init__(self, threads: Count | None = None, groups: Count = 8):
        check_ranges(NumbaBackend.__init__, {"threads": threads, "groups": groups}, "backend")
        from numba import config

        from odyssey_core.backends.numba.tiles import Tiles

        self.groups = groups
        wanted = min(threads or usable_cores(), groups, config.NUMBA_NUM_THREADS)
        # The layer that is left without OpenMP or TBB costs 80 microseconds per parallel region: more than a phase.
        self._layer = threading_layer() if wanted > 1 else None
        self.threads = wanted if self._layer else 1
        self._lacking = wanted > 1 and not self._layer
        self._features = target_features()
        wide = "avx512f" in self._features
        self.tiles = Tiles(32, 1) if wide else Tiles(32, 4) if "neon" in self._features else Tiles(16, 2)

    def describe(self) -> str:
        """One line for people: threads and instruction set."""
        known = (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("neon", "NEON"))
        level = next((name for feature, name in known if feature in self._features), "baseline")
        threads = f"{self.threads} threads ({self._layer})" if self._layer else "1 thread"
        lacking = " (install libgomp or the package tbb for more)" if self._lacking else ""
        return f"numba, {threads}{lacking}, {level}"

    def compile(self, outputs, parameters, updates=(), rule=PLAIN, buffers=NO_BUFFERS):
        """See `Backend.compile`."""
        from odyssey_core.backends.numba.execute import NumbaExecutable

        self.require([*outputs, *(u.grad for u in updates), *buffers.values()])
        return NumbaExecutable(outputs, parameters, updates, rule, self.groups, self.threads, self.tiles)

    def require(self, outputs):
        """See `Backend.require`."""
        from odyssey_core.backends.numba.lower import INSTEAD, KNOWN

        require_ops("numba", "kernel", outputs, KNOWN, INSTEAD)


def target_features() -> set[str]:
    """Names of the CPU features that numba compiles for."""
    from llvmlite import binding
    from numba import config

    if config.CPU_FEATURES is not None:
        return {f[1:] for f in config.CPU_FEATURES.split(",") if f.startswith("+")}
    return {name for name, present in binding.get_host_cpu_features().items() if present}


def threading_layer() -> str | None:
    """The fast threading layer that numba will choose here: tbb, omp or None."""
    for layer in ("tbb", "omp"):
        try:
            import_module(f"numba.np.ufunc.{layer}pool")
            return layer
        except ImportError:
            continue
    return None
