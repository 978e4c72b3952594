"""Pooling and its gradients."""

import numpy as np

from odyssey_core.backends.numpy.functions.windows import pad, seen, windows


def max_pool2d(x, *, kernel_size, stride, padding):
    return windows(pad(x, padding, padding, -np.inf), kernel_size, kernel_size, stride).max(axis=(4, 5))


def max_pool2d_grad(x, y, grad, *, kernel_size, stride, padding):
    (h, w), padded = x.shape[2:], pad(x, padding, padding, -np.inf)
    dx, remaining = np.zeros_like(padded), np.ones(grad.shape, bool)
    for k, m in np.ndindex(kernel_size, kernel_size):
        here = seen(grad.shape[2:], stride, k, m)
        first = remaining & (padded[here] == y)
        dx[here] += np.where(first, grad, 0)
        remaining &= ~first
    return dx[:, :, padding : padding + h, padding : padding + w]


def avg_pool2d(x, *, kernel_size, stride, padding):
    return windows(pad(x, padding, padding), kernel_size, kernel_size, stride).mean(axis=(4, 5))


def avg_pool2d_grad(grad, *, input_shape, kernel_size, stride, padding):
    h, w = input_shape[2:]
    dx = np.zeros((*input_shape[:2], h + 2 * padding, w + 2 * padding), grad.dtype)
    for k, m in np.ndindex(kernel_size, kernel_size):
        dx[seen(grad.shape[2:], stride, k, m)] += grad
    return dx[:, :, padding : padding + h, padding : padding + w] / kernel_size**2


def global_avg_pool2d(x):
    return x.mean(axis=(2, 3))


def global_avg_pool2d_grad(grad, *, input_shape):
    h, w = input_shape[2:]
    return np.broadcast_to(grad[:, :, None, None] / (h * w), input_shape)
