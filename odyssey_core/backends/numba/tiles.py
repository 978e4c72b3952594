"""Which register tile suits a loop, on the CPU that kernels are compiled for."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Tiles:
    """Tile sizes for a register file.

    Attributes:
        registers: vector registers of the machine: 32 with AVX-512 and NEON, 16 with AVX2.
        width: registers per lane vector: 1 with AVX-512, 2 with AVX2, 4 with NEON.
    """

    registers: int
    width: int

    def outer(self, rows: int, columns: int) -> tuple[int, int]:
        """(rows, columns) of a tile of scalars x vectors."""
        return self._best(rows, columns, 1, 6)

    def inner(self, rows: int, columns: int) -> tuple[int, int]:
        """(rows, columns) of a tile of vectors x vectors, at most two columns."""
        return self._best(rows, columns, self.width, 2)

    def _best(self, rows: int, columns: int, left: int, most_columns: int) -> tuple[int, int]:
        """The tile with the fewest cycles over rows x columns.

        Per step of the summed dimension two multiply-adds and two loads start in a cycle, a chain of multiply-adds on
        one register needs 4 cycles, and about half a cycle goes into the loop. A tile, its columns and one left factor
        stay in registers: one that spills runs at half speed.
        """

        def cycles(r: int, c: int) -> float:
            arithmetic, loads = r * c * self.width / 2, (r * left + c * self.width) / 2
            return math.ceil(rows / r) * math.ceil(columns / c) * (max(arithmetic, loads, 4) + 0.5)

        sizes = [
            (r, c)
            for c in range(1, min(columns, most_columns) + 1)
            for r in range(1, rows + 1)
            if (r * c + c) * self.width + left <= self.registers
        ]
        return min(sizes, key=lambda size: (cycles(*size), size))
