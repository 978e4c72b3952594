"""Tables as text: for the terminal and, with bars between the columns, as Markdown."""

import re
from collections.abc import Container, Sequence


def columns(rows: Sequence[Sequence[str]], left: Container[int] = (0,), between: str = "  ") -> list[str]:
    """A line for each row, its cells padded to columns: to the left in those that are named, else to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<" if i in left else ">" for i in range(len(widths))]
    return [between.join(f"{c:{s}{w}}" for c, s, w in zip(row, sides, widths, strict=True)) for row in rows]


def markdown(rows: Sequence[Sequence[str]], left: Container[int] = (0,)) -> str:
    """The same as Markdown; the first row is the head."""
    head, *body = (f"| {line} |" for line in columns(rows, left, " | "))
    return "\n".join([head, re.sub(r"[^|]", "-", head), *body])
