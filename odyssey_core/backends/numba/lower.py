"""From a graph to rows: which memory each value takes, and in which order everything runs.

How an operation is computed stands beside its kernels, as a function decorated with `lowers`. This file knows no
operation. The rows of one block of sixteen images are made once; every group of blocks then gets them with the
addresses of its own scratch and its own gradients. Values that are never needed at the same time share memory.

A value summed over the whole batch, such as a channel's mean, can be read by a block only when all blocks have added
to it. So rows are sorted by level: those of level 0 need no such sum, those of level l + 1 need one that level l has
computed. Each level is a walk over all blocks; between two the groups' sums are added, in order of group.

The gradient of a large weight has no part for each group. Slices of it are summed over all blocks when a level's walk
is done, straight into the one place where it lies; what they read is kept for all blocks until then. In the same way
values are computed for several blocks at once, where a load of a weight is to serve them all; later levels read them.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from odyssey_core.backends.base import input_nodes
from odyssey_core.backends.numba.instruction import INSTRUCTIONS, Instruction, Kernel
from odyssey_core.backends.numba.operands import (
    Combined,
    Operand,
    Place,
    Row,
    Scratch,
    Stage,
    Task,
    padded,
    parts_for,
    share,
    stored_shape,
    stored_size,
)
from odyssey_core.backends.numba.tile_sizes import TileSizes
from odyssey_core.backends.numba.traced import LANES
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
    sliced: tuple[int, ...]


# Output channels of a slice, at most, in vectors: its sums and what is multiplied for them fit the second cache.
SLICE_VECTORS = 4
# What a row says before `program` fills in the numbers of its blocks.
FILLED_IN = {"first_block": 0, "blocks": 1, "block_stride": 0}

Rules = dict[str, list[_Rule]]
RULES: Rules = defaultdict(list)


def lowers(
    *names: str,
    fuses: Sequence[Fusion] = (),
    when: Callable[..., bool] | None = None,
    in_place: bool = False,
    sliced: tuple[int, ...] = (),
    rules: Rules = RULES,
) -> Callable:
    """Decorates ``(lowering, node, outer)``, which adds the rows that compute ``outer``: the node, or what is fused.

    Args:
        names: operations that it computes.
        fuses: operations that it can compute in its store.
        when: ``(lowering, node, outer) -> bool``: a rule for special cases, which goes before the one without.
        in_place: the value lies where that of the first operand does.
        sliced: the value is what rows of `Stage.SLICE` compute, which read these operands.
        rules: where it is entered: those of blocks of sixteen images, or those of single ones.
    """

    def decorate(emit):
        for name in names:
            rules[name].insert(0 if when else len(rules[name]), _Rule(emit, tuple(fuses), when, in_place, sliced))
        return emit

    return decorate


class Lowering:
    """The rows of one block, of each group after its blocks, and the places of all values.

    Args:
        outputs: nodes whose values a step returns.
        held: parameters and buffers by name.
        updates: of the parameters that are trained.
        buffers: for each buffer that a step changes, by name, the node of its new value.
        tiles: sizes of register tiles.
        workers: at most so many share what a phase does; no part of the result.

    Attributes:
        rows: in the order in which they run within a block and level.
        places: where each node's value lies: a sum over the batch in its groups' gradients, or one for all groups.
        gradients: where those lie that updates take.
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
        workers: int,
    ):
        self.tiles, self.workers, self.outputs = tiles, workers, list(outputs)
        self.rows: list[Row] = []
        self.places: dict[Tensor, Place] = {}
        self.combined: dict[Tensor, Combined] = {}
        self.combined_by: dict[Tensor, Instruction] = {}
        self.scratch, self.kept = Scratch(), Scratch()
        self.pixels: int | None = None
        self.parameter_size = self.gradient_size = self.shared_size = 0
        self._task = Task(0, None)
        for node in held.values():
            self.places[node] = Place("parameter", self.parameter_size, stored_size(node.shape))
            self.parameter_size += self.places[node].size
        self._held = frozenset(self.places)
        wanted = [*outputs, *(u.grad for u in updates), *buffers.values()]
        self.order = topological(wanted)
        self.inputs = input_nodes(outputs, updates)
        self.uses = Counter(x for node in self.order for x in node.inputs)
        self.uses.update(wanted)
        self._plans: dict[Callable, Any] = {}
        self.fused = self._fusions()
        self._sliced = self._in_slices()
        ends = (node for node in self.order if node.batched and node not in self.fused)
        self._late = {node for node in ends if self._first.get(node, node) in self._sliced}
        self.gradients: dict[Tensor, Place] = {}
        for u in sorted(updates, key=lambda u: self.places[u.parameter].offset):
            self.gradients[u.grad] = self._of_batch(u.grad, self.places[u.parameter].size)
        if len(self.gradients) < len(updates):
            raise ShapeError("backend numba: cannot run add on parameters here: two of them share one gradient")
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

    def _rule(self, node: Tensor, outer: Tensor) -> _Rule:
        """The first that applies."""
        for rule in self.rules.get(node.op.name, ()):
            if rule.when is None or rule.when(self, node, outer):
                return rule
        return self.refuse(node)

    def _in_slices(self) -> dict[Tensor, list[Tensor]]:
        """For each node that rows of `Stage.SLICE` compute, the operands that they read."""
        found = {}
        for node in self.order:
            possible = any(rule.sliced for rule in self.rules.get(node.op.name, ()))
            if possible and (read := self._rule(node, node).sliced):
                found[node] = [node.inputs[i] for i in read]
        return found

    def _levels(self) -> dict[Tensor, int]:
        """The walk over all blocks that computes each node: one later than what it reads and a walk leaves behind."""
        levels = dict.fromkeys(self._held, 0)
        for node in self.order:
            if node not in levels:
                walks = node.batched or node.op.reduces
                summed = {x for x in node.inputs if walks and not x.batched and x not in self._held}
                levels[node] = max((levels[x] + (x in summed | self._late) for x in node.inputs), default=0)
        return levels

    def _walk(self) -> None:
        levels = self._level_of = self._levels()
        steps = [node for node in self.order if node not in self.fused and node not in self._held]
        steps.sort(key=lambda node: levels[node])
        self._level_end = {levels[node]: i for i, node in enumerate(steps)}
        last_use, self._last_level = self._lifetimes(steps, levels)
        alive: dict[Place, int] = {}
        self._alive = alive
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
            self.level, size = levels[node] + (node in self._late), math.prod(node.shape[1:])
            self.emit(node, size, column)
            column += size
        self.output_columns = column

    def _lifetimes(self, steps, levels) -> tuple[dict[Tensor, int], dict[Tensor, int]]:
        """For each node the step, and the level, after which its memory may hold something else."""
        last_use, last_level = {}, {}
        for i, node in reversed([*enumerate(steps)]):
            end = len(steps) if node in self.outputs else i
            last_use[node] = max(last_use.get(node, i), end)
            last_level[node] = max(last_level.get(node, 0), levels[node] + (node in self._late))
            shared = any(rule.in_place for rule in self.rules.get(node.op.name, ()))
            inner, *others = chain = self.chain(node)
            read = {*self._sliced.get(inner, ()), *(x for each in others for x in each.inputs)}
            for x in (x for each in chain for x in each.inputs if x not in chain):
                end, level = i, levels[node]
                if inner in self._sliced and x in read:  # slices run when the walk is done
                    end, level = self._level_end[level] + 1, level + 1
                elif shared and x is node.inputs[0]:
                    end, level = last_use[node], last_level[node]
                last_use[x] = max(last_use.get(x, 0), end)
                last_level[x] = max(last_level.get(x, 0), level)
        return last_use, last_level

    def _emit(self, node: Tensor, outer: Tensor) -> None:
        self._rule(node, outer).emit(self, node, outer)

    def refuse(self, node: Tensor) -> NoReturn:
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
            if parts.space == "shared":
                return parts.shaped(node.shape)
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
            place = self.gradients.get(node) or self._of_batch(node, size or stored_size(node.shape))
        else:
            size = size or self.size(node)
            crosses = self._last_level[node] > self.level
            space, allocator = ("kept", self.kept) if crosses else ("scratch", self.scratch)
            place = self.places.get(reuse)
            if place not in self._dying or (place.space, place.size) != (space, size):
                place = Place(space, allocator.take(size), size)
        self.places[node] = place
        return place

    def _of_batch(self, node: Tensor, size: int) -> Place:
        return self.shared(size) if node in self._sliced else self.sums(size)

    def sums(self, size: int) -> Place:
        """Memory that each group has for itself, kept from block to block."""
        size = padded(size)
        self.gradient_size += size
        return Place("gradient", self.gradient_size - size, size)

    def shared(self, size: int) -> Place:
        """Memory that there is once, for all groups and steps."""
        size = padded(size)
        self.shared_size += size
        return Place("shared", self.shared_size - size, size)

    def until_level_ends(self, size: int) -> Place:
        """Memory of each block, for what slices read when the level's walk is done."""
        place = Place("kept", self.kept.take(size), size)
        self._alive[place] = self._level_end[self.level]
        return place

    def slices(self, out: int) -> Iterator[tuple[int, int]]:
        """First and end of each slice of so many output channels: whole vectors of them, as equal as they can be.

        There are enough of them for all workers. The rows of `Stage.SLICE` that are added while one is current run one
        after the other, on one worker.
        """
        vectors = padded(out) // LANES
        parts = parts_for(vectors, SLICE_VECTORS, self.workers)
        for part in range(parts):
            self._task = Task(self._task.number + 1, None)
            first, end = share(vectors, parts, part)
            yield first * LANES, min(end * LANES, out)

    def together(self, blocks: int, sets: int) -> Iterator[int]:
        """How many of a batch's blocks there are in each set of them; the rows that take them are those of a slice."""
        for part in range(sets):
            first, end = share(blocks, sets, part)
            self._task = Task(self._task.number + 1, (first, end))
            yield end - first

    def temporary(self, size: int) -> Place:
        """Memory for rows of one node alone, until it is released."""
        return Place("scratch", self.scratch.take(size), size)

    def release(self, place: Place | None) -> None:
        """Gives back what ``temporary`` gave."""
        if place is not None:
            (self.kept if place.space == "kept" else self.scratch).release(place.offset, place.size)

    def row(self, instruction: Instruction, *, stage: Stage = Stage.BLOCK, **arguments: Any) -> None:
        """Adds a row: the kernel's arguments by name.

        ``first_block`` is filled in for each group. A kernel that takes several ``blocks``, ``block_stride`` apart,
        gets those of its task in a slice, those of the group behind its blocks, and else one.
        """
        kinds = instruction.kinds
        arguments |= {name: value for name, value in FILLED_IN.items() if name in kinds}
        fixed = tuple(int(arguments.pop(name)) for name in instruction.fixed)
        operands = {name: value for name, value in arguments.items() if kinds.get(name, 0) is None}
        numbers = {name: value for name, value in arguments.items() if name not in operands}
        self.rows.append(Row(Kernel(instruction, fixed), operands, numbers, self.level, stage, self._task))
