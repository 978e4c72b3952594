"""Memory of values that live for a part of a step."""

import bisect

from odyssey_core.backends.numba.table import padded


class ScratchAllocator:
    """First fit over a growing stretch; addresses and sizes in float32 elements, whole vectors."""

    def __init__(self):
        self.size = 0
        self._free: list[tuple[int, int]] = []  # (start, end), ascending, never touching each other

    def take(self, size: int) -> int:
        """The start of ``size`` free elements."""
        size = padded(size)
        for i, (start, end) in enumerate(self._free):
            if end - start >= size:
                self._free[i : i + 1] = [(start + size, end)] if end - start > size else []
                return start
        at_the_end = self._free and self._free[-1][1] == self.size
        start = self._free.pop()[0] if at_the_end else self.size
        self.size = start + size
        return start

    def release(self, start: int, size: int) -> None:
        """Gives elements back."""
        end = start + padded(size)
        i = bisect.bisect(self._free, (start, end))
        if i < len(self._free) and self._free[i][0] == end:
            end = self._free.pop(i)[1]
        if i and self._free[i - 1][1] == start:
            start = self._free.pop(i - 1)[0]
            i -= 1
        self._free.insert(i, (start, end))
