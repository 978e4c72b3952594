"""The operations of the graph, one file per family: a shape rule with clear errors, a gradient rule."""

from odyssey_core.ops import affine, conv, elementwise, leaves, loss, pool
from odyssey_core.ops.affine import linear
from odyssey_core.ops.conv import conv2d
from odyssey_core.ops.elementwise import add, dropout, flatten, multiply, relu, sigmoid, tanh
from odyssey_core.ops.leaves import batch_weight, images, input_, labels, parameter
from odyssey_core.ops.loss import cross_entropy
from odyssey_core.ops.pool import avg_pool2d, max_pool2d
from odyssey_core.tensor import Op

__all__ = [
    "OPS", "add", "avg_pool2d", "batch_weight", "conv2d", "cross_entropy", "dropout", "flatten", "images", "input_",
    "labels", "linear", "max_pool2d", "multiply", "parameter", "relu", "sigmoid", "tanh",
]  # fmt: skip

OPS: dict[str, Op] = {
    op.name: op
    for family in (leaves, affine, conv, pool, elementwise, loss)
    for op in vars(family).values()
    if isinstance(op, Op)
}
