"""Losses and their gradients."""

import numpy as np


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


def _distance(logits, targets):
    """Logits less the one-hot target; 0 for a place without an image."""
    onehot = np.arange(logits.shape[1]) == targets[:, None]
    return np.where(targets[:, None] >= 0, logits - onehot, 0)


def squared_error(logits, targets):
    return (_distance(logits, targets) ** 2).mean(axis=1)


def squared_error_grad(logits, targets, grad):
    return 2 / logits.shape[1] * _distance(logits, targets) * grad[:, None]


def _margins(logits, targets):
    """By how much each other class misses a distance of 1 from the label's; 0 for the label and without an image."""
    own = np.take_along_axis(logits, np.maximum(targets, 0)[:, None], axis=1)
    others = (np.arange(logits.shape[1]) != targets[:, None]) & (targets[:, None] >= 0)
    return np.where(others, np.maximum(1 - own + logits, 0), 0)


def multi_margin(logits, targets):
    return _margins(logits, targets).sum(axis=1) / logits.shape[1]


def multi_margin_grad(logits, targets, grad):
    missed = (_margins(logits, targets) > 0).astype(logits.dtype)
    missed[np.arange(len(targets)), targets] -= missed.sum(axis=1)
    return missed / logits.shape[1] * grad[:, None]
