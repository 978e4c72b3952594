"""How much arithmetic a graph asks for."""

from collections.abc import Iterable

from odyssey_core.tensor import Tensor, topological


def flops(outputs: Iterable[Tensor]) -> int:
    """Floating-point operations of useful work behind some nodes: of every convolution and linear layer, and of their
    gradients, where these are among what the nodes need. A multiply-add counts two.

    Zeros count as well, as everywhere: a backend that leaves them out seems faster than its arithmetic.
    Biases, activations, pooling, losses and updates are not counted: they are a few hundredths of LeNet-5's.

    Args:
        outputs: losses and gradients for a training step, logits for inference. The count is for the whole batch.
    """
    return sum(2 * node.op.multiply_adds(node) for node in topological(outputs) if node.op.multiply_adds)
