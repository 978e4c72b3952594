"""Bounds of the uniform distributions that weights are drawn from.

Uniform only: a normal draw needs a logarithm and a cosine, whose last bits differ between machines.
With variance v the bound is sqrt(3 v), and `math.sqrt` is correctly rounded everywhere.
"""

import math

from odyssey_core.registry import Registry


def kaiming(fan_in: int, fan_out: int) -> float:
    """sqrt(6 / fan_in): keeps the variance of activations through ReLU layers.

    Source: He et al., "Delving Deep into Rectifiers", ICCV 2015, equation 10.
    """
    return math.sqrt(6 / fan_in)


def xavier(fan_in: int, fan_out: int) -> float:
    """sqrt(6 / (fan_in + fan_out)).

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010, equation 16.
    """
    return math.sqrt(6 / (fan_in + fan_out))


def lecun(fan_in: int, fan_out: int) -> float:
    """sqrt(3 / fan_in): standard deviation fan_in ** -1/2.

    Source: LeCun, Bottou, Orr, Müller, "Efficient BackProp", 1998, section 4.6.
    """
    return math.sqrt(3 / fan_in)


INITIALIZERS = Registry("initializer", {"kaiming": kaiming, "xavier": xavier, "lecun": lecun})
