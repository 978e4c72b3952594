"""The graph: a `Tensor` is a node that names an operation, its inputs and its shape; it holds no values.

Model code builds nodes, `autodiff.gradients` adds the nodes of the backward pass, and a backend turns the finished
graph into something that runs. Values live in the backend alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from odyssey_core.errors import ShapeError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Op:
    """An operation, defined once for every backend.

    Attributes:
        name: the key under which each backend finds its implementation.
        shape: ``(node inputs..., **attrs) -> shape`` of the result; raises ShapeError with a message for users.
        gradient: ``(node, grad_output) -> one node (or None) per input``; None for an op that is not differentiable.
        reduces: the result is summed over the batch, as a parameter's gradient is.
        batched: for an op without inputs, whether its leading axis is the batch.
        inference: ``(node, inputs) -> node``: what stands for the node when nothing is trained; None where it stays.
    """

    name: str
    shape: Callable[..., Shape]
    gradient: Callable[[Tensor, Tensor], tuple[Tensor | None, ...]] | None = None
    reduces: bool = False
    batched: bool = False
    inference: Callable[[Tensor, tuple[Tensor, ...]], Tensor] | None = None

    def __call__(self, *inputs: Tensor, **attrs: Any) -> Tensor:
        """A new node of this operation.

        Raises:
            ShapeError: the inputs do not fit the operation.
        """
        batched = any(x.batched for x in inputs) if inputs else self.batched
        return Tensor(self, inputs, attrs, self.shape(*inputs, **attrs), batched and not self.reduces)


class Tensor:
    """A node of the graph.

    Attributes:
        op: the operation that computes it.
        inputs: the nodes it is computed from.
        attrs: static arguments of the operation (stride, padding, probability ...).
        shape: its shape, batch axis first where ``batched``; static for the whole run.
        batched: whether the leading axis is the batch (activations) or not (parameters and their gradients).
        serial: rises with every node made.
    """

    __slots__ = ("attrs", "batched", "inputs", "op", "serial", "shape")
    _made = itertools.count()

    def __init__(self, op: Op, inputs: tuple[Tensor, ...], attrs: Mapping[str, Any], shape: Shape, batched: bool):
        self.op, self.inputs, self.attrs, self.shape, self.batched = op, inputs, dict(attrs), tuple(shape), batched
        self.serial = next(Tensor._made)

    def __add__(self, other: Tensor) -> Tensor:
        from odyssey_core.ops import add

        return add(self, other)

    def __mul__(self, other: Tensor) -> Tensor:
        from odyssey_core.ops import multiply

        return multiply(self, other)

    def __repr__(self) -> str:
        return f"Tensor({self.op.name}, shape={self.shape})"


def topological(outputs: Iterable[Tensor]) -> list[Tensor]:
    """Every node that the outputs depend on, in the order in which the nodes were made: each after its inputs."""
    found: set[Tensor] = set()
    stack = list(outputs)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(node.inputs)
    return sorted(found, key=lambda node: node.serial)


def for_inference(outputs: Iterable[Tensor]) -> list[Tensor]:
    """The same outputs as computed when nothing is trained: each op's ``inference`` rule applied to the graph."""
    outputs = list(outputs)
    image: dict[Tensor, Tensor] = {}
    for node in topological(outputs):
        inputs = tuple(image[x] for x in node.inputs)
        if node.op.inference is not None:
            image[node] = node.op.inference(node, inputs)
        elif inputs == node.inputs:
            image[node] = node
        else:
            image[node] = node.op(*inputs, **node.attrs)
    return [image[x] for x in outputs]


def require_rank(op: str, what: str, x: Tensor, rank: int, layout: str) -> None:
    """Raises ShapeError unless ``x`` has the rank that ``op`` needs."""
    if len(x.shape) != rank:
        raise ShapeError(f"{op}: {what} must be {rank}-dimensional {layout}, got shape {x.shape}")
