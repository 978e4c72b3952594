"""How much arithmetic a graph asks for."""

import math
from collections.abc import Iterable

from odyssey_core.tensor import Shape, Tensor, topological

# For each value of the first shape, one multiply-add for each element of the second behind its first axis.
_WORK = {
    "conv2d": lambda node: (node.shape, node.inputs[1].shape),
    "conv2d_grad_input": lambda node: (node.inputs[0].shape, node.inputs[1].shape),
    "conv2d_grad_weight": lambda node: (node.inputs[1].shape, node.shape),
}
_WORK |= {name.replace("conv2d", "linear"): shapes for name, shapes in _WORK.items()}


def flops(outputs: Iterable[Tensor]) -> int:
    """Floating-point operations of useful work behind some nodes: of every convolution and linear layer, and of their
    gradients, where these are among what the nodes need. A multiply-add counts two.

    Zeros count as well, as everywhere: a backend that leaves them out seems faster than its arithmetic.
    Biases, activations, pooling, losses and updates are not counted: they are a few hundredths of LeNet-5's.

    Args:
        outputs: losses and gradients for a training step, logits for inference. The count is for the whole batch.
    """
    return sum(2 * _multiply_adds(*_WORK[node.op.name](node)) for node in topological(outputs) if node.op.name in _WORK)


def _multiply_adds(values: Shape, weight: Shape) -> int:
    return math.prod(values) * math.prod(weight[1:])
