"""The operations of the graph, one file per family: a shape rule with clear errors, a gradient rule, what the
operation is called in ONNX and in PyTorch.

A family's ``__all__`` names the functions that build nodes; its `Op` objects are found in `OPS` by their names.
"""

# ruff: noqa: F403
from odyssey_core.ops import activations, affine, conv, elementwise, leaves, loss, norm, pool, shapes
from odyssey_core.ops.activations import *
from odyssey_core.ops.affine import *
from odyssey_core.ops.conv import *
from odyssey_core.ops.elementwise import *
from odyssey_core.ops.leaves import *
from odyssey_core.ops.loss import *
from odyssey_core.ops.norm import *
from odyssey_core.ops.pool import *
from odyssey_core.ops.shapes import *
from odyssey_core.tensor import Op

FAMILIES = (leaves, affine, conv, pool, norm, activations, elementwise, shapes, loss)
OPS: dict[str, Op] = {op.name: op for family in FAMILIES for op in vars(family).values() if isinstance(op, Op)}

__all__ = ["FAMILIES", "OPS", *(name for family in FAMILIES for name in family.__all__)]
