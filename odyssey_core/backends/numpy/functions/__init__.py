"""The reference: one short, plain function per op, NCHW, in the dtype of its operands.

Each is named as its op and takes the values of the node's inputs, then the node's attributes. A function that has an
argument ``feed`` or ``dtype`` is given what the step is fed with, or the backend's dtype. Every other backend is held
to these.
"""

from collections.abc import Callable
from typing import Any

from odyssey_core.backends.numpy.functions import (
    activations,
    affine,
    conv,
    elementwise,
    leaves,
    loss,
    norm,
    pool,
    shapes,
)
from odyssey_core.ops import OPS

FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: function
    for family in (activations, affine, conv, elementwise, leaves, loss, norm, pool, shapes)
    for name, function in vars(family).items()
    if name in OPS
}
