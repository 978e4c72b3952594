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
Emit = Callable[..., str]  # adds a node to a graph of another framework; returns the name of its result


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
        after_step: ``(node, latest) -> {buffer: node}``: the values that buffers among the inputs take after each
            training step. ``latest`` gives for a buffer the node of its value before this node changes it.
        multiply_adds: ``node -> number`` of multiply-adds for the whole batch; None where they are too few to count.
        onnx: ``(emit, node, *inputs) -> result``: the operation in ONNX. ``emit(kind, *operands, **attributes)`` adds
            an ONNX node and returns the name of its result; an operand is such a name or a number. None where ONNX has
            no counterpart.
        torch: the same for PyTorch: ``kind`` is a function's name behind ``torch.``, ``nn.functional.conv2d``. A loss
            becomes the mean over the images.
        numpy: ``(values of the inputs, **attrs) -> values``, for the reference; None for those of `ops`, whose
            functions are in `backends.numpy`. It may take ``feed`` and ``dtype``, as those do.
    """

    name: str
    shape: Callable[..., Shape]
    gradient: Callable[[Tensor, Tensor], tuple[Tensor | None, ...]] | None = None
    reduces: bool = False
    batched: bool = False
    inference: Callable[[Tensor, tuple[Tensor, ...]], Tensor] | None = None
    after_step: Callable[[Tensor, Callable[[Tensor], Tensor]], dict[Tensor, Tensor]] | None = None
    multiply_adds: Callable[[Tensor], int] | None = None
    onnx: Callable[..., str] | None = None
    torch: Callable[..., Any] | None = None
    numpy: Callable[..., Any] | None = None

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

    @classmethod
    def made(cls) -> int:
        """A serial that no node has: those made before have smaller ones, those made after have greater ones."""
        return next(cls._made)

    def __add__(self, other: Tensor | float) -> Tensor:
        from odyssey_core.ops import add, scale_shift

        return add(self, other) if isinstance(other, Tensor) else scale_shift(self, 1, other)

    def __mul__(self, other: Tensor | float) -> Tensor:
        from odyssey_core.ops import multiply, scale_shift

        return multiply(self, other) if isinstance(other, Tensor) else scale_shift(self, other, 0)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Tensor:
        return self * -1

    def __sub__(self, other: Tensor | float) -> Tensor:
        return self + -other

    def __rsub__(self, other: float) -> Tensor:
        return -self + other

    def __truediv__(self, other: float) -> Tensor:
        return self * (1 / other)

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


def after_step(outputs: Iterable[Tensor]) -> dict[Tensor, Tensor]:
    """For every buffer that a training step changes, the node of its value after the step."""
    changed: dict[Tensor, Tensor] = {}

    def latest(buffer: Tensor) -> Tensor:
        return changed.get(buffer, buffer)

    for node in topological(outputs):
        if node.op.after_step is not None:
            changed.update(node.op.after_step(node, latest))
    return changed


def require_rank(op: str, what: str, x: Tensor, rank: int, layout: str) -> None:
    """Raises ShapeError unless ``x`` has the rank that ``op`` needs."""
    if len(x.shape) != rank:
        raise ShapeError(f"{op}: {what} must be {rank}-dimensional {layout}, got shape {x.shape}")
