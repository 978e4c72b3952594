"""A graph in PyTorch's words: the steps that compute the same, as plain data."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from odyssey_core.errors import ConfigError
from odyssey_core.ops import leaves
from odyssey_core.tensor import Tensor, topological


class Step(NamedTuple):
    """``results[result] = torch.<kind>(*operands, **attributes)``; an operand that is a text names a result.

    Attributes:
        result: its name.
        kind: the function's name behind ``torch.``.
        operands: names, numbers, or a list of names.
        attributes: static arguments.
    """

    result: str
    kind: str
    operands: list[Any]
    attributes: dict[str, Any]


def torch_steps(outputs: Iterable[Tensor], values: Mapping[str, Tensor]) -> list[Step]:
    """The steps behind some nodes, in order, each written down by its `Op.torch`.

    Args:
        outputs: the last of them is what the last step computes.
        values: parameters, buffers and input nodes by the names that operands have. The images of a step are
            ``images``, its labels ``labels``.

    Raises:
        ConfigError: an operation has no counterpart.
    """
    names = {node: name for name, node in values.items()}
    steps: list[Step] = []

    def emit(kind: str, *operands: Any, **attributes: Any) -> str:
        steps.append(Step(f"result_{len(steps)}", kind, list(operands), attributes))
        return steps[-1].result

    for node in topological(outputs):
        if node in names:
            continue
        if node.op in (leaves.IMAGES, leaves.LABELS):
            names[node] = node.op.name
        elif node.op.torch is None:
            raise ConfigError(f"PyTorch has no counterpart here for the operation {node.op.name}")
        else:
            names[node] = node.op.torch(emit, node, *(names[x] for x in node.inputs))
    return steps
