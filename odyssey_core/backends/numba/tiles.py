"""Which register tile suits a loop, on the CPU that kernels are compiled for."""

import math
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Tiles:
    """Tile sizes for a number of vector registers.

    Attributes:
        accumulators: lane vectors that may be kept in registers, leaving room for operands.
        width: machine registers per lane vector: 1 with AVX-512, 2 with AVX2, 4 with NEON.
    """

    accumulators: int
    width: int

    def outer(self, rows: int, columns: int) -> tuple[int, int]:
        """(rows, columns) of a tile of scalars x vectors."""
        return self._best(rows, columns, 1)

    def inner(self, rows: int, columns: int) -> tuple[int, int]:
        """(rows, columns) of a tile of vectors x vectors."""
        return self._best(rows, columns, self.width)

    @cache  # noqa: B019 (a handful of frozen instances)
    def _best(self, rows: int, columns: int, left_loads: int) -> tuple[int, int]:
        """The tile with the fewest cycles over rows x columns.

        Two multiply-adds and two loads start per cycle; a chain of multiply-adds on one register needs 4 cycles.
        """

        def cycles(r: int, c: int) -> float:
            arithmetic, loads = r * c * self.width / 2, (r * left_loads + c * self.width) / 2
            each = max(arithmetic, loads, 4) + 0.1 * (r + c)
            return math.ceil(rows / r) * math.ceil(columns / c) * each

        sizes = [
            (r, c)
            for r in range(1, min(rows, self.accumulators) + 1)
            for c in range(1, min(columns, self.accumulators // r, 6) + 1)
        ]
        return min(sizes, key=lambda size: (cycles(*size), size))
