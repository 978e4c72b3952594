"""The reference: one short, plain function per op, NCHW, in the dtype of its operands.

Each takes the values of the node's inputs, then the node's attributes. Every other backend is held to these.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from odyssey_core.random import words


def _windows(x: np.ndarray, kh: int, kw: int, stride: int) -> np.ndarray:
    """(N, C, out height, out width, kh, kw): every window of (N, C, H, W)."""
    return sliding_window_view(x, (kh, kw), axis=(2, 3))[:, :, ::stride, ::stride]


def _pad(x: np.ndarray, padding: int) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))


def conv2d(x, weight, bias=None, *, stride, padding):
    windows = _windows(_pad(x, padding), *weight.shape[2:], stride)
    y = np.einsum("ncijkl,ockl->noij", windows, weight, optimize=True)
    return y if bias is None else y + bias[:, None, None]


def conv2d_grad_input(grad, weight, *, input_shape, stride, padding):
    n, c, h, w = input_shape
    dx = np.zeros((n, c, h + 2 * padding, w + 2 * padding), grad.dtype)
    (oh, ow), (kh, kw) = grad.shape[2:], weight.shape[2:]
    for k in range(kh):
        for m in range(kw):
            part = np.einsum("noij,oc->ncij", grad, weight[:, :, k, m], optimize=True)
            dx[:, :, k : k + (oh - 1) * stride + 1 : stride, m : m + (ow - 1) * stride + 1 : stride] += part
    return dx[:, :, padding : padding + h, padding : padding + w]


def conv2d_grad_weight(x, grad, *, weight_shape, stride, padding):
    windows = _windows(_pad(x, padding), *weight_shape[2:], stride)
    return np.einsum("ncijkl,noij->ockl", windows, grad, optimize=True)


def grad_bias(grad):
    return grad.sum(axis=(0, *range(2, grad.ndim)))


def max_pool2d(x, *, kernel_size, stride):
    return _windows(x, kernel_size, kernel_size, stride).max(axis=(4, 5))


def max_pool2d_grad(x, y, grad, *, kernel_size, stride):
    dx = np.zeros_like(x)
    (oh, ow), unpaid = grad.shape[2:], np.ones(grad.shape, bool)
    for k in range(kernel_size):
        for m in range(kernel_size):
            here = (..., slice(k, k + (oh - 1) * stride + 1, stride), slice(m, m + (ow - 1) * stride + 1, stride))
            first = unpaid & (x[here] == y)
            dx[here] += np.where(first, grad, 0)
            unpaid &= ~first
    return dx


def avg_pool2d(x, *, kernel_size, stride):
    return _windows(x, kernel_size, kernel_size, stride).mean(axis=(4, 5))


def avg_pool2d_grad(grad, *, input_shape, kernel_size, stride):
    dx = np.zeros(input_shape, grad.dtype)
    oh, ow = grad.shape[2:]
    for k in range(kernel_size):
        for m in range(kernel_size):
            dx[..., k : k + (oh - 1) * stride + 1 : stride, m : m + (ow - 1) * stride + 1 : stride] += grad
    return dx / kernel_size**2


def linear(x, weight, bias=None):
    y = x @ weight.T
    return y if bias is None else y + bias


def linear_grad_input(grad, weight):
    return grad @ weight


def linear_grad_weight(x, grad):
    return grad.T @ x


def add(a, b):
    return a + b


def multiply(a, b):
    return a * b


def relu(x):
    return np.maximum(x, 0)


def relu_grad(y, grad):
    return np.where(y > 0, grad, 0)


def tanh(x):
    return np.tanh(x)


def tanh_grad(y, grad):
    return (1 - y * y) * grad


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def sigmoid_grad(y, grad):
    return y * (1 - y) * grad


def reshape(x, *, shape):
    return x.reshape(shape)


def dropout(x, feed, *, p, stream):
    """The mask is word ``element`` of the counter (image, epoch, stream) against p 2**32, as in every backend."""
    elements = int(np.prod(x.shape[1:]))
    drawn = words(elements, seed=feed.seed, stream=stream, epoch=feed.epoch, item=feed.order)
    keep = drawn.reshape(x.shape) >= np.uint32(int(p * 2**32))
    return np.where(keep, x / (1 - p), 0).astype(x.dtype)


def _log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _smooth(targets, classes, label_smoothing, dtype):
    q = np.full((len(targets), classes), label_smoothing / classes, dtype)
    q[np.arange(len(targets)), targets] += 1 - label_smoothing
    return q


def cross_entropy(logits, targets, *, label_smoothing):
    q = _smooth(targets, logits.shape[1], label_smoothing, logits.dtype)
    return np.where(targets >= 0, -(q * _log_softmax(logits)).sum(axis=1), 0)


def cross_entropy_grad(logits, targets, grad, *, label_smoothing):
    q = _smooth(targets, logits.shape[1], label_smoothing, logits.dtype)
    return np.where(targets >= 0, grad, 0)[:, None] * (np.exp(_log_softmax(logits)) - q)


def images(feed, *, shape, mean, std, dtype):
    pixels = feed.pixels[feed.order].reshape(shape).astype(dtype)
    return np.where(feed.order[:, None, None, None] >= 0, (pixels / 255 - mean) / std, 0).astype(dtype)


def labels(feed, *, batch_size):
    return np.where(feed.order >= 0, feed.labels[feed.order], -1)


def batch_weight(feed, *, batch_size, dtype):
    valid = feed.order >= 0
    return (valid / valid.sum()).astype(dtype)
