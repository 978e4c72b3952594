"""Adam with Nesterov's look ahead."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from odyssey_core import lazy_numpy as np
from odyssey_core.arithmetic import fma
from odyssey_core.optim.adaptive import Adam, averages
from odyssey_core.optim.optimizer import power


@dataclass(frozen=True)
class NAdam(Adam):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  a = b1 m / (1 - b1^(t+1)) + (1 - b1) g / (1 - b1^t);
    p -= lr a / (sqrt(v / (1 - b2^t)) + eps).

    Arguments as `Adam`.

    Source: Dozat, "Incorporating Nesterov Momentum into Adam", ICLR 2016 workshop, algorithm 2. We depart from it in
    one point: b1 stays the same over a run, as in optax, where the paper lets it rise slowly and PyTorch's NAdam too.
    """

    @property
    def rule(self) -> Callable[..., Any]:
        return nadam

    def step_values(self, step: int, lr: float) -> dict[str, float]:
        b1, b2 = self.betas
        ahead, now, second = 1 - power(b1, step + 2), 1 - power(b1, step + 1), 1 - power(b2, step + 1)
        return {"of_mean": lr * b1 / ahead, "of_gradient": lr * (1 - b1) / now, "correction": 1 / math.sqrt(second)}


def nadam(
    p: Any,
    g: Any,
    mean: Any,
    square: Any,
    *,
    beta1: Any,
    rest1: Any,
    beta2: Any,
    rest2: Any,
    eps: Any,
    weight_decay: Any,
    of_mean: Any,
    of_gradient: Any,
    correction: Any,
) -> Any:
    """See `NAdam`; ``rest1`` and ``rest2`` are 1 - b1 and 1 - b2, each rounded once."""
    g = fma(weight_decay, p, g)
    mean, square = averages(g, mean, square, beta1, rest1, beta2, rest2)
    return p - fma(of_mean, mean, of_gradient * g) / fma(np.sqrt(square), correction, eps), mean, square
