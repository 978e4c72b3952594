"""Methods that scale each coordinate by the running size of its gradient."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from odyssey_core.optim.optimizer import Optimizer, power
from odyssey_core.ranges import PositiveSize, Share, Size


@dataclass(frozen=True)
class Adam(Optimizer):
    """m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p -= lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps).

    Args:
        lr: learning rate.
        betas: (b1, b2), decay of the two averages.
        eps: added to the denominator, which is 0 where no gradient has come yet.
        weight_decay: L2 penalty, added to the gradient.

    Source: Kingma and Ba, "Adam", ICLR 2015, algorithm 1.
    """

    rule: ClassVar[str] = "adam"
    decoupled: ClassVar[bool] = False
    lr: Size = 0.001
    betas: tuple[Share, Share] = (0.9, 0.999)
    eps: PositiveSize = 1e-8
    weight_decay: Size = 0.0

    def slots(self):
        return ("mean", "square")

    def constants(self):
        b1, b2 = self.betas
        return b1, 1 - b1, b2, 1 - b2, self.eps, self.weight_decay, float(self.decoupled)

    def scalars(self, step, lr):
        b1, b2 = self.betas
        return lr, lr / (1 - power(b1, step + 1)), 1 / math.sqrt(1 - power(b2, step + 1))

    def apply(self, parameter, grad, slots, scalars):
        lr, step_size, correction = scalars
        b1, b2 = self.betas
        if self.decoupled:
            parameter = parameter - lr * self.weight_decay * parameter
        else:
            grad = grad + self.weight_decay * parameter
        mean, square = slots["mean"], slots["square"]
        mean[...] = b1 * mean + (1 - b1) * grad
        square[...] = b2 * square + (1 - b2) * grad * grad
        return parameter - step_size * mean / (np.sqrt(square) * correction + self.eps)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with weight decay taken off the parameter, p -= lr weight_decay p, before the step.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, algorithm 2, in PyTorch's form
    (the decay is multiplied by lr).
    """

    decoupled: ClassVar[bool] = True
    weight_decay: Size = 0.01


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """v = alpha v + (1 - alpha) g^2;  d = g / (sqrt(v) + eps);  b = momentum b + d;  p -= lr b.

    Args:
        lr: learning rate.
        alpha: decay of the average.
        eps: added to the denominator, which is 0 where no gradient has come yet.
        weight_decay: L2 penalty, added to the gradient.
        momentum: factor of the velocity b.

    Source: Hinton, "Neural Networks for Machine Learning", lecture 6e, 2012, in PyTorch's form (eps outside the root).
    """

    rule: ClassVar[str] = "rmsprop"
    lr: Size = 0.01
    alpha: Share = 0.99
    eps: PositiveSize = 1e-8
    weight_decay: Size = 0.0
    momentum: Share = 0.0

    def slots(self):
        return ("square", "velocity")

    def constants(self):
        return self.alpha, 1 - self.alpha, self.eps, self.weight_decay, self.momentum

    def apply(self, parameter, grad, slots, scalars):
        (lr,) = scalars
        grad = grad + self.weight_decay * parameter
        square, velocity = slots["square"], slots["velocity"]
        square[...] = self.alpha * square + (1 - self.alpha) * grad * grad
        velocity[...] = self.momentum * velocity + grad / (np.sqrt(square) + self.eps)
        return parameter - lr * velocity
