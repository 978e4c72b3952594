"""Changes of shape."""

import numpy as np


def reshape(x, *, shape):
    return x.reshape(shape)


def concat(*parts):
    return np.concatenate(parts, axis=1)


def concat_grad(grad, *, start, stop):
    return grad[:, start:stop]
