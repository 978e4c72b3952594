"""Steps that shrink with all gradients that came before."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from odyssey_core import lazy_numpy as np
from odyssey_core.arithmetic import fma
from odyssey_core.optim.optimizer import Optimizer
from odyssey_core.ranges import PositiveSize, Size


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """g = grad + weight_decay p;  s = s + g^2;  p -= lr g / (sqrt(s) + eps).

    Args:
        lr: learning rate.
        eps: added to the denominator, which is 0 where no gradient has come yet.
        weight_decay: L2 penalty, added to the gradient.

    Source: Duchi, Hazan, Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", JMLR
    2011, figure 1 with a diagonal matrix and no regularizer, in PyTorch's form (eps outside the root).
    """

    lr: Size = 0.01
    eps: PositiveSize = 1e-10
    weight_decay: Size = 0.0

    @property
    def rule(self) -> Callable[..., Any]:
        return adagrad


def adagrad(p: Any, g: Any, squares: Any, *, lr: Any, eps: Any, weight_decay: Any) -> Any:
    """See `Adagrad`."""
    g = fma(weight_decay, p, g)
    squares = fma(g, g, squares)
    return p - lr * g / (np.sqrt(squares) + eps), squares
