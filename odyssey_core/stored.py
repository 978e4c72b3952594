"""A model and its loss as data: the operations of the forward pass by name, without the code that put them together.

Text of this form in a weights file is all that it takes to ask a model that a plug-in made. Nothing in it is executed:
it names operations of `ops` and parameters.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from odyssey_core import ops
from odyssey_core.errors import DataError, OdysseyError
from odyssey_core.losses import Loss
from odyssey_core.nn import Module
from odyssey_core.ops import OPS
from odyssey_core.tensor import Shape, Tensor, for_inference, topological

MOST = 2**31  # numbers in one array


def encode(model: Module, loss: Loss, input_shape: Shape) -> str | None:
    """The text; None where an operation is not one of `ops`, or has an argument that JSON does not hold.

    Args:
        model: takes (N, C, H, W).
        loss: its `Loss.in_evaluation` is kept.
        input_shape: (C, H, W).
    """
    images, state = ops.images((1, *input_shape)), model.state()
    logits = model(images)
    given = ops.input_("logits", logits.shape), ops.labels(1)
    logits, losses = for_inference([logits, loss.in_evaluation()(*given)])
    if any(OPS.get(node.op.name) is not node.op for node in topological([logits, losses])):
        return None
    text = {
        "state": {path: [node.op.name, node.shape] for path, node in state.items()},
        "logits": _encoded(logits, [*state.values(), images]),
        "loss": _encoded(losses, [*given]),
        "label": loss.label,
    }
    try:
        return json.dumps(text)
    except TypeError:
        return None


def _encoded(output: Tensor, given: Sequence[Tensor]) -> list[tuple[str, list[int], dict[str, Any]]]:
    """Name, inputs and arguments of each node that is not given; inputs by number, the given ones first."""
    places = {node: i for i, node in enumerate(given)}
    nodes: list[Any] = []
    for node in topological([output]):
        if node not in places:
            places[node] = len(given) + len(nodes)
            nodes.append((node.op.name, [places[x] for x in node.inputs], node.attrs))
    return nodes


def decode(text: str) -> tuple["StoredModel", "StoredLoss"]:
    """What `encode` wrote.

    Raises:
        DataError: it is no such text.
    """
    with _of_this_program():
        found = json.loads(text)
        return StoredModel(found["state"], found["logits"]), StoredLoss(found["loss"], str(found["label"]))


@contextmanager
def _of_this_program() -> Iterator[None]:
    """Where a file's text is gone through, which may be anybody's: whatever is wrong with it is one error."""
    try:
        yield
    except OdysseyError:
        raise
    except Exception as error:
        raise DataError(f"weights file: its graph was not written by this program ({error!r})") from None


class StoredModel(Module):
    """A model whose forward pass is a list of operations.

    Args:
        state: kind, ``parameter`` or ``buffer``, and shape by path.
        nodes: what makes the logits of these and of images.
    """

    def __init__(self, state: Mapping[str, tuple[str, Shape]], nodes: Sequence[Any]):
        makers = {"parameter": ops.parameter, "buffer": lambda name, shape: ops.buffer(name, shape, ops.leaves.ZERO)}
        self._state = {path: makers[kind](path, _sizes(shape)) for path, (kind, shape) in state.items()}
        self._nodes = nodes

    def state(self) -> dict[str, Tensor]:
        """See `Module`."""
        return self._state

    def forward(self, x: Tensor) -> Tensor:
        return _made(self._nodes, [*self._state.values(), x], x.shape[0])


class StoredLoss(Loss):
    """A loss that is a list of operations.

    Args:
        nodes: what makes the losses of logits and labels.
        label: see `Loss`.
    """

    def __init__(self, nodes: Sequence[Any], label: str):
        self.__dict__.update(nodes=nodes, label=label)  # the base is frozen

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return _made(vars(self)["nodes"], [logits, labels], logits.shape[0])


def _made(nodes: Sequence[Any], given: list[Tensor], batch: int) -> Tensor:
    """The node that the last of a list stands for, for a batch of another size."""
    with _of_this_program():
        for name, inputs, attrs in nodes:
            values = {key: _tuples(value) for key, value in attrs.items()}
            if any(given[i].batched for i in inputs) and "shape" in values:
                values["shape"] = (batch, *values["shape"][1:])
            node = OPS[name](*(given[i] for i in inputs), **values)
            _sizes(node.shape)
            given.append(node)
        return given[-1]


def _sizes(shape: Sequence[int]) -> Shape:
    """A shape that memory can hold. Raises ValueError for any other."""
    if not all(type(n) is int and n > 0 for n in shape) or math.prod(shape) > MOST:
        raise ValueError(f"shape {shape}")
    return tuple(shape)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
