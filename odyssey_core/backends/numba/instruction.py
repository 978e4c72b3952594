"""What a row of the instruction table means: a kernel, whose arguments the row holds one by one.

A kernel is a plain function; its signature says what a row of it holds. Its first arguments may be any of those that
all kernels are given, ``memory, feed, step, block``; every other one is a column, or two, of the row:

- an argument that ``reads`` or ``writes`` name is where an operand starts in memory, for the block that is run;
- ``Count`` (also without annotation), ``Index``, ``Flag`` and ``Word`` are integers, which differ in their range;
- ``Constant`` is a float32 of the row, ``Step`` one of the step, which the feed holds;
- ``Fixed`` is known when the kernel is compiled, so that loops over it unroll; it is compiled once for each value.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NewType

import numpy as np

Count, Index, Flag, Word = NewType("Count", int), NewType("Index", int), NewType("Flag", int), NewType("Word", int)
Fixed = NewType("Fixed", int)
Constant, Step = NewType("Constant", float), NewType("Step", float)

# The least value, and the first above the largest.
RANGES = {Count: (1, 2**31), Index: (0, 2**31), Flag: (0, 2), Word: (0, 2**32), Step: (0, 2**31)}
UNIFORM = ("memory", "feed", "step", "block")
ROW_WIDTH = 32
ABSENT = -1

INSTRUCTIONS: dict[str, "Instruction"] = {}
Shapes = Mapping[str, "tuple[int, ...] | Repeated"]


class Repeated(NamedTuple):
    """An operand that is there several times: ``count`` arrays of a shape, ``stride`` elements apart."""

    shape: tuple[int, ...]
    count: int
    stride: int


@dataclass(frozen=True, eq=False)
class Instruction:
    """One kind of row: its opcode, then the kernel's arguments in the order of its signature, the rest zero.

    Attributes:
        kernel: the loop.
        reads, writes: names of the operands; one in ``optional`` may be absent.
        shapes: ``(its integers by name) -> shapes of the operands``; raises ValueError, with the reason, for integers
            that do not fit together or that the kernel cannot take.
        updates: names of the operands that are parameters, buffers or slots and are written; all others that are
            written are activations and gradients.
        bounds: ``(program, its integers by name)`` -> why a row would read or write outside the feed, else "".
        multiply_adds: ``(its integers by name) -> number`` of multiply-adds of a lane; None where they are few.
        bundles: arguments that are tuples, each with the names and the annotations of what is in it.
        kinds: the annotation of each argument, None for an operand.
    """

    kernel: Callable[..., None]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    shapes: Callable[[Mapping[str, int]], Shapes]
    optional: frozenset[str] = frozenset()
    updates: frozenset[str] = frozenset()
    bounds: Callable[[Any, Mapping[str, int]], str] = lambda program, numbers: ""
    multiply_adds: Callable[[Mapping[str, int]], int] | None = None
    bundles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kinds: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        annotated = {}
        for name, parameter in inspect.signature(self.kernel).parameters.items():
            annotation = Count if parameter.annotation is inspect.Parameter.empty else parameter.annotation
            annotated |= self.bundles.get(name, {name: annotation})
        operands = {*self.reads, *self.writes}
        if unknown := operands - set(annotated):
            raise TypeError(f"{self.name} has no argument {', '.join(sorted(unknown))}")
        kinds = {name: None if name in {*operands, *UNIFORM} else kind for name, kind in annotated.items()}
        object.__setattr__(self, "kinds", kinds)

    @property
    def name(self) -> str:
        return self.kernel.__name__

    @property
    def operands(self) -> tuple[str, ...]:
        """In the order of the signature."""
        return tuple(name for name, kind in self.kinds.items() if kind is None and name not in UNIFORM)

    @property
    def fixed(self) -> tuple[str, ...]:
        """Names of what is known when the kernel is compiled."""
        return tuple(name for name, kind in self.kinds.items() if kind is Fixed)

    @property
    def columns(self) -> dict[str, int]:
        """Where in a row each argument stands. An operand takes two columns: its start, and from block to block."""
        places, column = {}, 1
        for name, kind in self.kinds.items():
            if name not in UNIFORM and kind is not Fixed:
                places[name] = column
                column += 2 if kind is None else 1
        return places

    @property
    def width(self) -> int:
        """Columns that a row uses, its opcode's included."""
        return 1 + sum(2 if self.kinds[name] is None else 1 for name in self.columns)

    @property
    def per_block(self) -> bool:
        """Whether it looks at the feed of its block, so that it cannot run but for a block."""
        return "feed" in self.kinds and "block" in self.kinds

    def encode(self, opcode: int, operands: Mapping[str, tuple[int, int]], numbers: Mapping[str, float]) -> list[int]:
        """A row.

        Raises:
            TypeError: an argument is missing or unknown.
        """
        values = {**operands, **numbers}
        if unlike := values.keys() ^ self.columns.keys():
            raise TypeError(f"{self.name}: missing or unknown {', '.join(sorted(unlike))}")
        row = [opcode]
        for name in self.columns:
            kind, value = self.kinds[name], values[name]
            row += value if kind is None else [float_bits(value) if kind is Constant else int(value)]
        return row + [0] * (ROW_WIDTH - len(row))

    def decode(self, row: np.ndarray) -> dict[str, Any]:
        """The arguments of a row by name: operands as (start, distance between blocks)."""
        values = {}
        for name, column in self.columns.items():
            value, kind = int(row[column]), self.kinds[name]
            if kind is None:
                values[name] = value, int(row[column + 1])
            else:
                values[name] = float(np.uint32(value & 0xFFFFFFFF).view(np.float32)) if kind is Constant else value
        return values


def instruction(
    *, reads: str = "", writes: str = "", shapes: Callable[[Mapping[str, int]], Shapes], **settings: Any
) -> Callable[[Callable[..., None]], Instruction]:
    """Decorates a kernel. ``reads`` and ``writes`` are names with spaces between; one with ``?`` may be absent.

    The other settings are those of `Instruction`.
    """

    def decorate(kernel):
        names = [tuple(name.rstrip("?") for name in text.split()) for text in (reads, writes)]
        optional = frozenset(name[:-1] for name in (*reads.split(), *writes.split()) if name.endswith("?"))
        made = Instruction(kernel, *names, shapes, optional, **settings)
        if made.width > ROW_WIDTH:
            raise TypeError(f"{made.name}: takes {made.width} columns of {ROW_WIDTH}")
        INSTRUCTIONS[made.name] = made
        return made

    return decorate


class Kernel(NamedTuple):
    """An instruction with what is known when it is compiled, in the order of its signature."""

    instruction: Instruction
    variant: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.instruction.name}{list(self.variant) if self.variant else ''}"

    @property
    def fixed(self) -> dict[str, int]:
        return dict(zip(self.instruction.fixed, self.variant, strict=True))

    def run(self, row: np.ndarray, memory: Any, feed: Any, step: int, block: int) -> None:
        """Runs a row as plain Python: for tests, and to follow a kernel with a debugger.

        Args:
            row: of the table.
            memory: (elements,) float32.
            feed: a `StepFeed`.
            step, block: which of the feed's steps and of the step's blocks.
        """
        values = {"memory": memory, "feed": feed, "step": step, "block": block, **self.fixed}
        for name, value in self.instruction.decode(row).items():
            kind = self.instruction.kinds[name]
            if kind is None:
                value = value[0] + block * value[1]
            values[name] = (
                feed.values[step, value] if kind is Step else np.float32(value) if kind is Constant else value
            )
        values |= {name: tuple(values[x] for x in parts) for name, parts in self.instruction.bundles.items()}
        names = inspect.signature(self.instruction.kernel).parameters
        self.instruction.kernel(*[values[name] for name in names])


def float_bits(value: float) -> int:
    """A float32 as the integer that a row holds."""
    return int(np.float32(value).view(np.int32))
