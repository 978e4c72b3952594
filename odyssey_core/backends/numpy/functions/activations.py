"""Activation functions and their gradients."""

import math

import numpy as np


def relu(x):
    return np.maximum(x, 0)


def relu_grad(y, grad):
    return np.where(y > 0, grad, 0)


def relu6(x):
    return np.clip(x, 0, 6)


def relu6_grad(y, grad):
    return np.where((y > 0) & (y < 6), grad, 0)


def leaky_relu(x, *, negative_slope):
    return np.where(x > 0, x, negative_slope * x)


def leaky_relu_grad(y, grad, *, negative_slope):
    return np.where(y > 0, grad, negative_slope * grad)


def tanh(x):
    return np.tanh(x)


def tanh_grad(y, grad):
    return (1 - y * y) * grad


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def sigmoid_grad(y, grad):
    return y * (1 - y) * grad


def _erf(x):
    """2 / sqrt(pi) exp(-x^2) (x + 2 x^3 / 3 + 4 x^5 / 15 + ...), whose terms all have one sign.

    Source: Abramowitz and Stegun, 7.1.6. From 6 on erf is 1 in float64, and 160 terms are enough below.
    """
    x = np.clip(x.astype(np.float64), -6, 6)
    term = total = x
    for n in range(1, 160):
        term = term * (2 * x * x / (2 * n + 1))
        total = total + term
    return 2 / math.sqrt(math.pi) * np.exp(-x * x) * total


def _normal_cdf(x):
    return ((1 + _erf(x / math.sqrt(2))) / 2).astype(x.dtype)


def gelu(x):
    return x * _normal_cdf(x)


def gelu_grad(x, grad):
    return (_normal_cdf(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)) * grad


def _tanh_of_softplus(x):
    """((1 + e^x)^2 - 1) / ((1 + e^x)^2 + 1), which is 1 in float64 from 20 on."""
    power = np.exp(np.minimum(x, 20))
    return power * (power + 2) / (power * (power + 2) + 2)


def mish(x):
    return x * _tanh_of_softplus(x)


def mish_grad(x, grad):
    factor = _tanh_of_softplus(x)
    return (factor + x * (1 - factor * factor) * sigmoid(x)) * grad


def softmax(x):
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def softmax_grad(y, grad):
    return y * (grad - (y * grad).sum(axis=1, keepdims=True))
