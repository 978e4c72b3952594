"""What a backend is given to compile, told apart by what is computed: equal graphs have one program."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from odyssey_core.optim import StepRule, Update
from odyssey_core.tensor import Tensor, topological

NUMBERS = (int, float, np.generic)


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph, with arguments as `Backend.compile` takes them.

    Two are equal where their nodes are the same operations on the same nodes with the same numbers, and the same names
    stand for them. A learning rate is not part of it, nor is any other number that a step is fed with.
    """

    outputs: Sequence[Tensor]
    parameters: Mapping[str, Tensor]
    updates: Sequence[Update]
    rule: StepRule
    buffers: Mapping[str, Tensor]

    @property
    def computed(self) -> list[Tensor]:
        """The nodes whose values are wanted."""
        return [*self.outputs, *(update.grad for update in self.updates), *self.buffers.values()]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @cached_property
    def _key(self) -> Hashable:
        order = topological([*self.computed, *self.parameters.values(), *(u.parameter for u in self.updates)])
        number = {node: i for i, node in enumerate(order)}
        nodes = ((x.op, x.shape, x.batched, tuple(number[each] for each in x.inputs), _frozen(x.attrs)) for x in order)
        updates = (
            (u.name, number[u.parameter], number[u.grad], u.orthogonal, *map(_rules, self._stages(u)))
            for u in self.updates
        )
        names = (tuple((name, number[x]) for name, x in named.items()) for named in (self.parameters, self.buffers))
        return tuple(nodes), tuple(number[x] for x in self.outputs), tuple(updates), *names

    def _stages(self, update: Update) -> Sequence[Any]:
        return self.rule.stages(update.optimizer, update.group)


def _rules(stage: Any) -> Hashable:
    """All that a `WholeRule` has."""
    return tuple(map(_frozen, vars(stage).values()))


def _frozen(value: Any) -> Hashable:
    """Something that equals that of the same value alone: 0.0 is not -0.0, and neither is 0."""
    if isinstance(value, NUMBERS):
        return type(value), repr(value)
    if isinstance(value, dict):
        return tuple((key, _frozen(each)) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(_frozen, value))
    try:
        hash(value)
    except TypeError:
        return object()  # equals nothing, and the graph is compiled for itself
    return value
