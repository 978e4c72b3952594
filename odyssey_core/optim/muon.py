"""Momentum, made an orthogonal matrix."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from odyssey_core import lazy_numpy as np
from odyssey_core.arithmetic import fma
from odyssey_core.optim.optimizer import Optimizer
from odyssey_core.ranges import Share, Size

COEFFICIENTS = 3.4445, -4.7750, 2.0315
ITERATIONS = 5
SMALLEST = 1e-7  # a norm below is taken for it


@dataclass(frozen=True)
class Muon(Optimizer):
    """v = momentum v + g;  u = g + momentum v;  p -= lr (o + weight_decay p).

    Of a parameter of two or more axes, as of a convolution or a linear layer, o is `orthogonalized` (u). Of any other,
    such as a bias or the factors of a batch norm, o is u, which is SGD with Nesterov's momentum and the same numbers;
    ``optim.groups`` can give it others.

    Args:
        lr: learning rate.
        momentum: factor of the velocity v.
        weight_decay: decay of the parameter, multiplied by lr.

    Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024 (kellerjordan.github.io),
    whose recipe for CIFAR-10 trains what is no matrix by SGD too. We depart from it in these points: a linear layer
    that is the last is taken for a matrix as any other, and the products are of float32 in place of bfloat16.
    """

    orthogonal: ClassVar[bool] = True
    lr: Size = 0.02
    momentum: Share = 0.95
    weight_decay: Size = 0.0

    @property
    def direction(self) -> Callable[..., Any]:
        return nesterov_direction

    @property
    def rule(self) -> Callable[..., Any]:
        return muon


def nesterov_direction(g: Any, velocity: Any, *, momentum: Any) -> Any:
    """See `Muon`."""
    velocity = fma(momentum, velocity, g)
    return fma(momentum, velocity, g), velocity


def muon(p: Any, g: Any, *, lr: Any, weight_decay: Any) -> Any:
    """See `Muon`; ``g`` is o."""
    return fma(-lr, fma(weight_decay, p, g), p)


def orthogonalized(values: "np.ndarray") -> "np.ndarray":
    """sqrt(max(1, rows / columns)) times a matrix with the singular vectors of the given one, whose singular values lie
    between 0.7 and 1.2 where those were not much smaller than the largest: five Newton-Schulz iterations,

        X = X / |X|;  X = a X + (b A + c A A) X,  A = X X^T,  with (a, b, c) = (3.4445, -4.7750, 2.0315).

    Args:
        values: (rows, ...), the axes behind the first are taken together; where there are more rows than columns, the
            transpose is iterated on.

    Source: as `Muon`.
    """
    rows, columns = values.shape[0], values[0].size
    matrix = values.reshape(rows, columns)
    x = matrix if rows <= columns else matrix.T
    a, b, c = (x.dtype.type(coefficient) for coefficient in COEFFICIENTS)
    x = x / np.maximum(np.sqrt(np.square(x).sum()), x.dtype.type(SMALLEST))
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    found: np.ndarray = scale(rows, columns) * (x if rows <= columns else x.T)
    return found.reshape(values.shape).astype(values.dtype)


def scale(rows: int, columns: int) -> float:
    """What an orthogonal matrix is multiplied by: a tall one changes outputs less than a wide one."""
    return math.sqrt(max(1.0, rows / columns))
