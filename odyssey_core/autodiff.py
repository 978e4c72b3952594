"""Reverse-mode differentiation as a graph transformation."""

from collections.abc import Sequence

from odyssey_core.errors import ShapeError
from odyssey_core.ops import add, batch_weight
from odyssey_core.tensor import Tensor, topological


def gradients(losses: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Nodes computing d(mean of the losses over the images of the batch) / d(parameter), for every parameter.

    A node that is used several times receives the sum of the gradients of its uses.

    Args:
        losses: (N,) one loss per image.
        parameters: nodes to differentiate with respect to; any node of the graph may be asked for.

    Raises:
        ShapeError: the losses are not one per image, a parameter does not influence them, or an operation on the
            way is not differentiable.
    """
    if not isinstance(losses, Tensor):
        raise ShapeError(f"gradients: expected one loss per image, shape (N,), got {losses!r}")
    if len(losses.shape) != 1 or not losses.batched:
        raise ShapeError(f"gradients: expected one loss per image, shape (N,), got {losses.op.name} of {losses.shape}")
    order = topological([losses])
    wanted = set(parameters)
    reaches = set()
    for node in order:
        if node in wanted or any(x in reaches for x in node.inputs):
            reaches.add(node)
    grads: dict[Tensor, Tensor] = {losses: batch_weight(losses.shape[0])}
    for node in reversed(order):
        if node not in reaches or node not in grads or not any(x in reaches for x in node.inputs):
            continue
        if node.op.gradient is None:
            raise ShapeError(f"gradients: {node.op.name} has no gradient rule (on the way to a parameter)")
        for x, grad in zip(node.inputs, node.op.gradient(node, grads[node]), strict=True):
            if grad is not None and x in reaches:
                grads[x] = add(grads[x], grad) if x in grads else grad
    for parameter in parameters:
        if parameter not in grads:
            raise ShapeError(f"gradients: the losses do not depend on {parameter!r} {parameter.attrs.get('name', '')}")
    return [grads[p] for p in parameters]
