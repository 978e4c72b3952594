"""Which register tile suits a loop, on the CPU that kernels are compiled for."""

import math
from dataclasses import dataclass

from odyssey_core.backends.numba.traced import LANES


@dataclass(frozen=True)
class TileSizes:
    """Tile sizes for a register file.

    Attributes:
        registers: vector registers of the machine: 32 with AVX-512 and NEON, 16 with AVX2.
        width: registers per lane vector: 1 with AVX-512, 2 with AVX2, 4 with NEON.
    """

    registers: int
    width: int

    @property
    def lanes(self) -> int:
        """Of one register."""
        return LANES // self.width

    def outer(self, rows: int, columns: int) -> tuple[int, int]:
        """(rows, columns) of a tile of scalars x lane vectors."""
        return self._best(rows, columns, self.width)

    def pixels(self, rows: int, columns: int, lanes: int) -> tuple[int, int]:
        """(rows, columns) of a tile of scalars x vectors of so many lanes."""
        return self._best(rows, columns, max(1, self.width * lanes // LANES), 8)

    def product(self, columns: int) -> tuple[int, int, int]:
        """(rows, columns) of a tile of scalars x lane vectors whose rows divide sixteen, and lanes of one register.

        Of at most sixteen registers, twice what two units with a latency of 4 cycles need, and the wider of equal ones:
        a scalar is loaded once for a row.
        """
        sizes = [(r, c) for r in (4, 8, 16) for c in range(1, min(columns, 4) + 1) if r * c * self.width <= 16]
        most = max(r * c for r, c in sizes if (r * c + c) * self.width < self.registers)
        return *next((r, c) for r, c in sizes if r * c == most), self.lanes

    def inner(self, rows: int, columns: int) -> tuple[int, int, int]:
        """(rows, columns, lanes) of a tile of vectors x vectors, each one register."""
        return *self._best(rows, columns, 1), self.lanes

    def patch(self, rows: int, columns: int) -> tuple[int, int]:
        """(rows, columns) of a tile of half vectors over a kernel's rows x the vectors of one of them.

        Every multiply-add loads its own vector, two a cycle; beside the tile one register holds the value they share.
        """
        most = self.registers // max(1, self.width // 2) - 1

        def cycles(r: int, c: int) -> float:
            return math.ceil(rows / r) * math.ceil(columns / c) * (max(r * c / 2, 4) + 1)

        sizes = [(r, c) for r in range(1, rows + 1) for c in range(1, columns + 1) if r * c <= most]
        return min(sizes, key=lambda size: (cycles(*size), size))

    def panel(self, rows: int, columns: int) -> tuple[int, int]:
        """(rows, columns) of a tile of scalars x lane vectors, where each row's scalars are a stream of their own.

        Few streams and many columns: 13 x 2 ran at two thirds of the speed of 6 x 4.
        """

        def cycles(r: int, c: int) -> float:
            return math.ceil(rows / r) * math.ceil(columns / c) * (max(r * c * self.width / 2, 4) + 1)

        sizes = [
            (r, c)
            for c in range(1, min(columns, 4) + 1)
            for r in range(1, min(rows, max(6, LANES // c)) + 1)
            if (r * c + c) * self.width + 1 <= self.registers
        ]
        return min(sizes, key=lambda size: (cycles(*size), -size[1], -size[0]))

    def _best(self, rows: int, columns: int, width: int, most: int = 6) -> tuple[int, int]:
        """The tile with the fewest cycles over rows x columns, of vectors of ``width`` registers, ``most`` in a row.

        Per step of the summed dimension two multiply-adds and two loads start in a cycle, a chain of multiply-adds on
        one register needs 4 cycles, and about half a cycle goes into the loop. A tile, its columns and one left factor
        stay in registers: one that spills runs at half speed.
        """

        def cycles(r: int, c: int) -> float:
            arithmetic, loads = r * c * width / 2, (r + c * width) / 2
            return math.ceil(rows / r) * math.ceil(columns / c) * (max(arithmetic, loads, 4) + 0.5)

        sizes = [
            (r, c)
            for c in range(1, min(columns, most) + 1)
            for r in range(1, rows + 1)
            if (r * c + c) * width + 1 <= self.registers
        ]
        # Of equal ones the narrower: a convolution in tiles of 4 x 1 runs at 93 GFLOP/s, of 2 x 2 at 89.
        return min(sizes, key=lambda size: (cycles(*size), size[1], size))
