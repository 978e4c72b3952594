"""The affine map and its gradients."""


def linear(x, weight, bias=None):
    y = x @ weight.T
    return y if bias is None else y + bias


def linear_grad_input(grad, weight):
    return grad @ weight


def linear_grad_weight(x, grad):
    return grad.T @ x


def grad_bias(grad):
    return grad.sum(axis=(0, *range(2, grad.ndim)))
