"""Batch normalisation: its statistics, its value, its gradients, and the averages kept for inference."""

import numpy as np


def _per_channel(value):
    return value[:, None, None]


def _normal(x, mean, variance, eps):
    return (x - _per_channel(mean)) / np.sqrt(_per_channel(variance) + eps)


def channel_mean(x, of_images):
    return of_images @ x.mean(axis=(2, 3))


def channel_variance(x, mean, of_images):
    return channel_mean((x - _per_channel(mean)) ** 2, of_images)


def normalize2d(x, weight, bias, mean, variance, *, eps):
    return _normal(x, mean, variance, eps) * _per_channel(weight) + _per_channel(bias)


def batch_norm2d(x, weight, bias, mean, variance, of_images, running_mean, running_variance, *, momentum, eps):
    return normalize2d(x, weight, bias, mean, variance, eps=eps)


def batch_norm2d_grad_weight(x, mean, variance, grad, *, eps):
    return (_normal(x, mean, variance, eps) * grad).sum(axis=(0, 2, 3))


def batch_norm2d_grad_input(x, weight, grad, mean, variance, of_images, grad_weight, grad_bias, *, eps):
    share = of_images[:, None, None, None] / np.prod(x.shape[2:], dtype=x.dtype)
    through = _per_channel(grad_bias) + _normal(x, mean, variance, eps) * _per_channel(grad_weight)
    return _per_channel(weight / np.sqrt(variance + eps)) * (grad - share * through)


def running_mean(old, mean, *, momentum):
    return (1 - momentum) * old + momentum * mean


def running_variance(old, variance, of_images, *, momentum, pixels):
    values = int(np.count_nonzero(of_images)) * pixels
    return (1 - momentum) * old + momentum * variance * (values / max(values - 1, 1))
