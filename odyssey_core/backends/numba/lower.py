"""From a graph to rows: which memory each value takes, and in which order everything runs.

How an operation is computed stands beside its kernels, as a function decorated with `lowers`. This file knows no
operation. The rows of one block of sixteen images are made once; every group of blocks then gets them with the
addresses of its own scratch and its own gradients. Values that are never needed at the same time share memory.

A value summed over the whole batch, such as a channel's mean, can be read by a block only when all blocks have added
to it. So rows are sorted by level: those of level 0 need no such sum, those of level l + 1 need one that level l has
computed. Each level is a walk over all blocks; between two the groups' sums are added, in order of group.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from odyssey_core.backends.base import input_nodes
from odyssey_core.backends.numba.instruction import INSTRUCTIONS, Instruction, Kernel
from odyssey_core.backends.numba.operands import Operand, Place, Row, Scratch, Stage, padded, stored_shape, stored_size
from odyssey_core.backends.numba.tile_sizes import TileSizes
from odyssey_core.backends.numba.traced import HALF, LANES
from odyssey_core.errors import ShapeError
from odyssey_core.optim import Update
from odyssey_core.tensor import Tensor, topological


class Fusion(NamedTuple):
    """An operation that is computed in the store of the one whose value it takes.

    Attributes:
        op: its name.
        operand: which of its operands that value is.
        possible: ``(inner node, outer node) -> bool``.
    """

    op: str
    operand: int = 0
    possible: Callable[[Tensor, Tensor], bool] = lambda inner, outer: True


class _Rule(NamedTuple):
    emit: Callable[["Lowering", Tensor, Tensor], None]
    fuses: tuple[Fusion, ...]
    when: Callable[["Lowering", Tensor, Tensor], bool] | None
    in_place: bool


RULES: dict[str, list[_Rule]] = defaultdict(list)
SINGLE_RULES: dict[str, list[_Rule]] = defaultdict(list)


def lowers(
    *names: str,
    fuses: Sequence[Fusion] = (),
    when: Callable[..., bool] | None = None,
    in_place: bool = False,
    rules: dict[str, list[_Rule]] = RULES,
) -> Callable:
    """Decorates ``(lowering, node, outer)``, which adds the rows that compute ``outer``: the node, or what is fused.

    Args:
        names: operations that it computes.
        fuses: operations that it can compute in its store.
        when: ``(lowering, node, outer) -> bool``: a rule for special cases, which goes before the one without.
        in_place: the value lies where that of the first operand does.
        rules: where it is entered: those of blocks of sixteen images, or those of single ones.
    """

    def decorate(emit):
        for name in names:
            rules[name].insert(0 if when else len(rules[name]), _Rule(emit, tuple(fuses), when, in_place))
        return emit

    return decorate


class Combined(NamedTuple):
    """What blocks read in a later level of a sum over the batch: where the groups' parts lie, and where their sum goes.

    The instruction makes the one of the others, as `sum_groups` does.
    """

    level: int
    parts: Place
    total: Place
    instruction: Instruction


class Lowering:
    """The rows of one block, of each group after its blocks, and the places of all values.

    Args:
        outputs: nodes whose values a step returns.
        held: parameters and buffers by name.
        updates: of the parameters that are trained.
        buffers: for each buffer that a step changes, by name, the node of its new value.
        tiles: sizes of register tiles.

    Attributes:
        rows: in the order in which they run within a block and level.
        places: where each node's value lies: a sum over the batch in its groups' gradients.
        combined: the sums that later levels read.
        combined_by: what makes one of the groups' parts, where it is not a sum.
        parameter_size, gradient_size, shared_size: float32 elements.
        scratch, kept: allocators of a worker's and of a block's memory.
        pixels: (C H W) of the images that the step gathers, or None.
        rules: how each operation is lowered.
        images: of a block.

    Raises:
        ShapeError: something that this backend cannot run.
    """

    rules, images = RULES, LANES

    def __init__(
        self,
        outputs: Sequence[Tensor],
        held: Mapping[str, Tensor],
        updates: Sequence[Update],
        buffers: Mapping[str, Tensor],
        tiles: TileSizes,
    ):
        self.tiles, self.outputs = tiles, list(outputs)
        self.rows: list[Row] = []
        self.places: dict[Tensor, Place] = {}
        self.combined: dict[Tensor, Combined] = {}
        self.combined_by: dict[Tensor, Instruction] = {}
        self.scratch, self.kept = Scratch(), Scratch()
        self.pixels: int | None = None
        self.parameter_size = self.shared_size = 0
        for node in held.values():
            self.places[node] = Place("parameter", self.parameter_size, stored_size(node.shape))
            self.parameter_size += self.places[node].size
        self._held = frozenset(self.places)
        self.gradient_size = self.parameter_size if updates else 0
        self._wanted = {u.grad: replace(self.places[u.parameter], space="gradient") for u in updates}
        if len(self._wanted) < len(updates):
            raise ShapeError("backend numba: cannot run add on parameters here: two of them share one gradient")
        wanted = [*outputs, *self._wanted, *buffers.values()]
        self.order = topological(wanted)
        self.inputs = input_nodes(outputs, updates)
        self.uses = Counter(x for node in self.order for x in node.inputs)
        self.uses.update(wanted)
        self._plans: dict[Callable, Any] = {}
        self.fused = self._fusions()
        self._walk()
        for name, node in buffers.items():
            if self.places[node] != self.places[held[name]]:
                raise ShapeError(f"backend numba: cannot keep {node.op.name} as the buffer {name}")

    def once(self, plan: Callable[["Lowering"], Any]) -> Any:
        """What ``plan`` says of the whole graph, worked out once."""
        if plan not in self._plans:
            self._plans[plan] = plan(self)
        return self._plans[plan]

    def _fusions(self) -> dict[Tensor, Tensor]:
        """For each node whose value is never needed alone, the node that is computed in its store.

        Where that one too is computed in another's store, the first of them has to be able to take in both.
        """
        fused: dict[Tensor, Tensor] = {}
        self._first: dict[Tensor, Tensor] = {}
        for outer in self.order:
            for i, inner in enumerate(outer.inputs):
                first = self._first.get(inner, inner)
                possible = all(self._fuses(node, inner, outer, i) for node in {inner, first})
                if possible and self.uses[inner] == 1 and outer not in self._first:
                    fused[inner], self._first[outer] = outer, first
        return fused

    def _fuses(self, node: Tensor, inner: Tensor, outer: Tensor, operand: int) -> bool:
        return any(
            (fusion.op, fusion.operand) == (outer.op.name, operand) and fusion.possible(inner, outer)
            for rule in self.rules.get(node.op.name, ())
            for fusion in rule.fuses
        )

    def chain(self, outer: Tensor) -> list[Tensor]:
        """The nodes that are computed together with ``outer``, in their order, itself the last."""
        nodes = [outer]
        while outer in self._first:
            outer = next(x for x in outer.inputs if self.fused.get(x) is outer)
            nodes.append(outer)
        return nodes[::-1]

    def _levels(self) -> dict[Tensor, int]:
        """The walk over all blocks that computes each node: one later than any sum over the batch that it reads."""
        levels = dict.fromkeys(self._held, 0)
        for node in self.order:
            if node not in levels:
                walks = node.batched or node.op.reduces
                after = [levels[x] + (walks and not x.batched and x not in self._held) for x in node.inputs]
                levels[node] = max(after, default=0)
        return levels

    def _walk(self) -> None:
        levels = self._level_of = self._levels()
        steps = [node for node in self.order if node not in self.fused and node not in self._held]
        steps.sort(key=lambda node: levels[node])
        last_use, self._last_level = self._lifetimes(steps, levels)
        alive: dict[Place, int] = {}
        for i, node in enumerate(steps):
            self.level = levels[node]
            self._dying = {place for place, end in alive.items() if end <= i}
            self._emit(self._first.get(node, node), node)
            place = self.places.get(node)
            if place and place.space in ("scratch", "kept"):
                alive[place] = max(alive.get(place, 0), last_use[node])
            for place in [place for place, end in alive.items() if end <= i]:
                self.release(place)
                del alive[place]
        column = 0
        for node in self.outputs:
            self.level, size = levels[node], math.prod(node.shape[1:])
            self.emit(node, size, column)
            column += size
        self.output_columns = column

    def _lifetimes(self, steps, levels) -> tuple[dict[Tensor, int], dict[Tensor, int]]:
        """For each node the step, and the level, after which its memory may hold something else."""
        last_use, last_level = {}, {}
        for i in range(len(steps) - 1, -1, -1):
            node = steps[i]
            end = len(steps) if node in self.outputs else i
            last_use[node] = max(last_use.get(node, i), end)
            last_level[node] = max(last_level.get(node, 0), levels[node])
            shared = any(rule.in_place for rule in self.rules.get(node.op.name, ()))
            chain = self.chain(node)
            for x in (x for each in chain for x in each.inputs if x not in chain):
                held_on = shared and x is node.inputs[0]
                last_use[x] = max(last_use.get(x, 0), last_use[node] if held_on else i)
                last_level[x] = max(last_level.get(x, 0), last_level[node] if held_on else levels[node])
        return last_use, last_level

    def _emit(self, node: Tensor, outer: Tensor) -> None:
        for rule in self.rules.get(node.op.name, ()):
            if rule.when is None or rule.when(self, node, outer):
                rule.emit(self, node, outer)
                return
        self.refuse(node)

    def refuse(self, node: Tensor) -> None:
        """Raises ShapeError: there is no kernel for this."""
        raise ShapeError(f"backend numba: cannot run {node.op.name} on {[x.shape for x in node.inputs]} here")

    # --- what rules are made of ----------------------------------------------------------------------------------

    def laned(self, node: Tensor, shape: Sequence[int] | None = None) -> Operand:
        """The value of a batched node, sixteen images side by side; of a shape of as many elements."""
        return self.places[node].shaped((*(node.shape[1:] if shape is None else shape), LANES))

    def size(self, node: Tensor) -> int:
        """float32 elements that a batched value takes in a block."""
        return math.prod(node.shape[1:]) * LANES

    def emit(self, node: Tensor, size: int, column: int) -> None:
        """Adds the row that hands out a value of ``size`` elements for each image."""
        self.row(INSTRUCTIONS["emit"], x=self.laned(node, (size,)), size=size, column=column)

    def held(self, node: Tensor) -> Operand:
        """A parameter or a buffer."""
        return self.places[node].shaped(stored_shape(node.shape))

    def total(self, node: Tensor) -> Operand:
        """A sum over the whole batch, which an earlier level has computed, or a parameter."""
        if node in self._held:
            return self.held(node)
        if node not in self.combined:
            parts = self.places[node]
            instruction = self.combined_by.get(node, INSTRUCTIONS["sum_groups"])
            self.combined[node] = Combined(self._level_of[node], parts, self.shared(parts.size), instruction)
        return self.combined[node].total.shaped(node.shape)

    def result(self, node: Tensor, *, reuse: Tensor | None = None, size: int | None = None) -> Place:
        """Memory for a node's value; that of ``reuse`` where it is not needed after this row.

        Args:
            node: whose value.
            reuse: an operand that the row reads before it writes.
            size: in float32 elements; by default as many as the value has.
        """
        if not node.batched:
            place = self._wanted.get(node) or self.sums(size or stored_size(node.shape))
        else:
            size = size or self.size(node)
            crosses = self._last_level[node] > self.level
            space, allocator = ("kept", self.kept) if crosses else ("scratch", self.scratch)
            place = self.places.get(reuse)
            if place not in self._dying or (place.space, place.size) != (space, size):
                place = Place(space, allocator.take(size), size)
        self.places[node] = place
        return place

    def sums(self, size: int) -> Place:
        """Memory behind the gradients: one for each group, kept from block to block."""
        size = padded(size)
        self.gradient_size += size
        return Place("gradient", self.gradient_size - size, size)

    def shared(self, size: int) -> Place:
        """Memory that there is once, for all groups and steps."""
        size = padded(size)
        self.shared_size += size
        return Place("shared", self.shared_size - size, size)

    def temporary(self, size: int) -> Place:
        """Memory for rows of one node alone, until it is released."""
        return Place("scratch", self.scratch.take(size), size)

    def release(self, place: Place | None) -> None:
        """Gives back what ``temporary`` gave."""
        if place is not None:
            (self.kept if place.space == "kept" else self.scratch).release(place.offset, place.size)

    def row(self, instruction: Instruction, *, stage: Stage = Stage.BLOCK, **arguments: Any) -> None:
        """Adds a row: the kernel's arguments by name. ``first_block`` is filled in for each group."""
        kinds = instruction.kinds
        if "first_block" in kinds:
            arguments["first_block"] = 0
        fixed = tuple(int(arguments.pop(name)) for name in instruction.fixed)
        operands = {name: value for name, value in arguments.items() if kinds.get(name, 0) is None}
        numbers = {name: value for name, value in arguments.items() if name not in operands}
        self.rows.append(Row(Kernel(instruction, fixed), operands, numbers, self.level, stage))


def pitch(channels: int, pixels: int) -> int:
    """Elements from pixel to pixel of an image whose channels stand side by side: vectors, or halves of one.

    Where there is one channel alone, pixels follow each other.
    """
    if channels == 1 and pixels > 1:
        return 1
    return HALF if channels <= HALF else (channels + LANES - 1) // LANES * LANES


def extent(channels: int, pixels: int) -> int:
    """Elements of such an image. Behind half vectors lies room for what is read and written in whole ones."""
    each = pitch(channels, pixels)
    return padded(pixels * each + (HALF if each == HALF else 0))


class SingleLowering(Lowering):
    """The rows of one image, whose lanes are its channels: a value is (pixels, pitch), as `pitch` says.

    For a few images alone; inference only. Every sum has the order that it has in blocks of sixteen images.
    """

    rules, images = SINGLE_RULES, 1

    @staticmethod
    def sizes(node: Tensor) -> tuple[int, int]:
        """Channels, or features, and pixels of a value."""
        return node.shape[1], math.prod(node.shape[2:])

    def size(self, node: Tensor) -> int:
        return extent(*self.sizes(node))

    def value(self, node: Tensor) -> Operand:
        """The value of a batched node."""
        return self.places[node].shaped((self.size(node),))

    def made(self, node: Tensor) -> Operand:
        """Memory for a node's value."""
        self.result(node)
        return self.value(node)

    def emit(self, node: Tensor, size: int, column: int) -> None:
        if self.sizes(node)[1] > 1:
            self.refuse(node)
        self.row(INSTRUCTIONS["emit_single"], x=self.places[node].shaped((size,)), size=size, column=column)
