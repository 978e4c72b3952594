"""What tests of the core share, beside `odyssey_core.testing`."""

from pathlib import Path

from odyssey_core.backends.numba import NumbaBackend

FIXTURES = Path(__file__).parents[1] / "fixtures"


class FixedTiles:
    """Register tiles of one size wherever it fits: few variants to compile, and every edge case of an odd shape."""

    lanes = 8

    def __init__(self, rows: int = 2, columns: int = 2):
        self.size = rows, columns

    def outer(self, rows: int, columns: int) -> tuple[int, int]:
        return min(rows, self.size[0]), min(columns, self.size[1])

    def inner(self, rows: int, columns: int) -> tuple[int, int, int]:
        return *self.outer(rows, columns), self.lanes

    def product(self, columns: int) -> tuple[int, int, int]:
        return 4, min(columns, self.size[1]), self.lanes

    patch = panel = outer


def numba_backend(groups: int = 8, tiles=None) -> NumbaBackend:
    """One thread, so that only the serial loop is compiled."""
    backend = NumbaBackend(threads=1, groups=groups)
    if tiles is not None:
        backend.tiles = tiles
    return backend
