"""Steps of one size: the sign of a momentum."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from odyssey_core import lazy_numpy as np
from odyssey_core.arithmetic import fma
from odyssey_core.optim.optimizer import Optimizer
from odyssey_core.ranges import Share, Size

SMALLEST = 1e-37  # what is below in size is no sign but a part of one


@dataclass(frozen=True)
class Lion(Optimizer):
    """c = b1 m + (1 - b1) g;  p -= lr (sign(c) + weight_decay p);  m = b2 m + (1 - b2) g.

    Args:
        lr: learning rate; the paper takes a third to a tenth of AdamW's.
        betas: (b1, b2), share of the momentum in a step, and its decay.
        weight_decay: decay of the parameter, multiplied by lr.

    Source: Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023, algorithm 2. We depart from it
    where c is below 1e-37 in size: its step is c / 1e-37.
    """

    lr: Size = 1e-4
    betas: tuple[Share, Share] = (0.9, 0.99)
    weight_decay: Size = 0.0

    @property
    def rule(self) -> Callable[..., Any]:
        return lion

    def constants(self) -> dict[str, float]:
        b1, b2 = self.betas
        of_betas = {"beta1": b1, "rest1": 1 - b1, "beta2": b2, "rest2": 1 - b2}
        return {**of_betas, "weight_decay": self.weight_decay}


def lion(
    p: Any, g: Any, momentum: Any, *, beta1: Any, rest1: Any, beta2: Any, rest2: Any, weight_decay: Any, lr: Any
) -> Any:
    """See `Lion`; ``rest1`` and ``rest2`` are 1 - b1 and 1 - b2, each rounded once."""
    c = fma(beta1, momentum, rest1 * g)
    sign = c / np.maximum(np.maximum(c, 0 - c), SMALLEST)
    return fma(-lr, fma(weight_decay, p, sign), p), fma(beta2, momentum, rest2 * g)
