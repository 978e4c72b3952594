"""Batch normalisation: its statistics, its value, its gradients, and the averages kept for inference."""

import numpy as np


def _per_channel(value):
    return value[:, None, None]


def _normal(x, mean, variance, eps):
    return (x - _per_channel(mean)) / np.sqrt(_per_channel(variance) + eps)


def channel_moments(x, of_images):
    mean = of_images @ x.mean(axis=(2, 3))
    return np.stack([mean, of_images @ ((x - _per_channel(mean)) ** 2).mean(axis=(2, 3))])


def normalize2d(x, weight, bias, mean, variance, *, eps):
    return _normal(x, mean, variance, eps) * _per_channel(weight) + _per_channel(bias)


def batch_norm2d(x, weight, bias, moments, of_images, running_mean, running_variance, *, momentum, eps):
    return normalize2d(x, weight, bias, *moments, eps=eps)


def batch_norm2d_grad_weight(x, moments, grad, *, eps):
    return (_normal(x, *moments, eps) * grad).sum(axis=(0, 2, 3))


def batch_norm2d_grad_input(x, weight, grad, moments, of_images, grad_weight, grad_bias, *, eps):
    share = of_images[:, None, None, None] / np.prod(x.shape[2:], dtype=x.dtype)
    through = _per_channel(grad_bias) + _normal(x, *moments, eps) * _per_channel(grad_weight)
    return _per_channel(weight / np.sqrt(moments[1] + eps)) * (grad - share * through)


def running_mean(old, moments, *, momentum):
    return (1 - momentum) * old + momentum * moments[0]


def running_variance(old, moments, of_images, *, momentum, pixels):
    values = int(np.count_nonzero(of_images)) * pixels
    return (1 - momentum) * old + momentum * moments[1] * (values / max(values - 1, 1))
