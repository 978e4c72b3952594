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


def images(feed, *, shape, mean, std, augment, dtype):
    pixels = feed.pixels[feed.order].reshape(shape).astype(dtype)
    if augment is not None:
        pixels = _distort(pixels, *_coordinates(feed, shape[2], shape[3], augment, dtype))
    return np.where(feed.order[:, None, None, None] >= 0, (pixels / 255 - mean) / std, 0).astype(dtype)


def _coordinates(feed, height, width, augment, dtype):
    """Where each pixel is sampled: two (N, H, W) arrays, x and y in a frame with a border of one pixel."""
    drawn = words(8, seed=feed.seed, stream="augment", epoch=feed.epoch, item=feed.order)
    u = ((drawn >> np.uint32(8)).astype(dtype) * dtype.type(2**-23) - 1).T[..., None, None]
    turn, scale, shear, shift = (dtype.type(a) for a in augment)
    angle, size, k = turn * u[0], 1 + scale * u[1], shear * u[2]
    square = angle * angle
    # Taylor's series, good to float32 up to 45 degrees.
    sine = angle * (1 - square / 6 * (1 - square / 20 * (1 - square / 42)))
    cosine = 1 - square / 2 * (1 - square / 12 * (1 - square / 30 * (1 - square / 56)))
    i, j = np.arange(height, dtype=dtype)[:, None], np.arange(width, dtype=dtype)
    middle_y, middle_x = dtype.type((height - 1) / 2), dtype.type((width - 1) / 2)
    i, j = i - middle_y, j - middle_x
    x = size * cosine * j + size * (cosine * k - sine) * i + (middle_x + 1 + shift * u[3])
    y = size * sine * j + size * (sine * k + cosine) * i + (middle_y + 1 + shift * u[4])
    return np.clip(x, 0, width + 1), np.clip(y, 0, height + 1)


def _distort(pixels, x, y):
    n, _, height, width = pixels.shape
    padded = _pad(pixels, 1)
    x0, y0 = np.minimum(x.astype(int), width), np.minimum(y.astype(int), height)
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]
    image = np.arange(n)[:, None, None]

    def at(dy, dx):
        return np.moveaxis(padded[image, :, y0 + dy, x0 + dx], -1, 1)

    top, bottom = at(0, 0) + fx * (at(0, 1) - at(0, 0)), at(1, 0) + fx * (at(1, 1) - at(1, 0))
    return top + fy * (bottom - top)


def labels(feed, *, batch_size):
    return np.where(feed.order >= 0, feed.labels[feed.order], -1)


def batch_weight(feed, *, batch_size, dtype):
    valid = feed.order >= 0
    return (valid / max(valid.sum(), 1)).astype(dtype)
