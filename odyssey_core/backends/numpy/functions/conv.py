"""Convolution and its gradients; g counts groups, c and o the channels within one."""

import numpy as np

from odyssey_core.backends.numpy.functions.windows import pad, seen, windows


def _grouped(x, groups):
    """(N, C, ...) as (N, groups, C / groups, ...)."""
    return x.reshape(len(x), groups, -1, *x.shape[2:])


def conv2d(x, weight, bias=None, *, stride, padding, groups):
    patches = _grouped(windows(pad(x, *padding), *weight.shape[2:], stride), groups)
    kernels = weight.reshape(groups, -1, *weight.shape[1:])
    y = np.einsum("ngcijkl,gockl->ngoij", patches, kernels, optimize=True)
    y = y.reshape(len(x), -1, *y.shape[3:])
    return y if bias is None else y + bias[:, None, None]


def conv2d_grad_input(grad, weight, *, input_shape, stride, padding, groups):
    (n, c, h, w), (rows, columns) = input_shape, padding
    dx = np.zeros((n, c, h + 2 * rows, w + 2 * columns), grad.dtype)
    kernels, parts = weight.reshape(groups, -1, *weight.shape[1:]), _grouped(grad, groups)
    for k, m in np.ndindex(weight.shape[2:]):
        part = np.einsum("ngoij,goc->ngcij", parts, kernels[..., k, m], optimize=True)
        dx[seen(grad.shape[2:], stride, k, m)] += part.reshape(n, c, *grad.shape[2:])
    return dx[:, :, rows : rows + h, columns : columns + w]


def conv2d_grad_weight(x, grad, *, weight_shape, stride, padding, groups):
    patches = _grouped(windows(pad(x, *padding), *weight_shape[2:], stride), groups)
    return np.einsum("ngcijkl,ngoij->gockl", patches, _grouped(grad, groups), optimize=True).reshape(weight_shape)
