"""Kernels by family: the loops, what a row of each holds, and how the operations of the graph are lowered to them."""

from odyssey_core.backends.numba.kernels import (  # noqa: F401  (importing them registers their rules)
    activations,
    affine,
    conv,
    depthwise,
    elementwise,
    feed,
    images,
    input_gradient,
    loss,
    norm,
    pointwise,
    pool,
    shapes,
    single,
    single_conv,
    single_pool,
    sparse_conv,
    update,
    winograd,
    winograd_weight,
)
