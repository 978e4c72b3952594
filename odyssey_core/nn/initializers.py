"""Distributions that weights are drawn from, by the numbers of inputs and outputs of a layer.

The names are those of PyTorch's ``torch.nn.init``; a plain name is the uniform form. With variance v a uniform
distribution has the bound sqrt(3 v). `math.sqrt` is correctly rounded everywhere; see `initial.Normal` for how normal
numbers are drawn without a logarithm.
"""

import math

from odyssey_core.initial import Dirac, Normal, Uniform
from odyssey_core.registry import Registry


def kaiming(fan_in: int, fan_out: int) -> Uniform:
    """Bound sqrt(6 / fan_in): keeps the variance of activations through ReLU layers.

    Source: He et al., "Delving Deep into Rectifiers", ICCV 2015, equation 10.
    """
    return Uniform(math.sqrt(6 / fan_in))


def kaiming_normal(fan_in: int, fan_out: int) -> Normal:
    """Standard deviation sqrt(2 / fan_in), as the paper has it.

    Source: as `kaiming`.
    """
    return Normal(math.sqrt(2 / fan_in))


def xavier(fan_in: int, fan_out: int) -> Uniform:
    """Bound sqrt(6 / (fan_in + fan_out)).

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010, equation 16.
    """
    return Uniform(math.sqrt(6 / (fan_in + fan_out)))


def lecun(fan_in: int, fan_out: int) -> Uniform:
    """Bound sqrt(3 / fan_in): standard deviation fan_in ** -1/2.

    Source: LeCun, Bottou, Orr, Müller, "Efficient BackProp", 1998, section 4.6.
    """
    return Uniform(math.sqrt(3 / fan_in))


def pytorch(fan_in: int, fan_out: int) -> Uniform:
    """Bound sqrt(1 / fan_in): what PyTorch's layers draw by themselves, ``kaiming_uniform_`` with ``a`` = sqrt(5)."""
    return Uniform(math.sqrt(1 / fan_in))


def dirac(fan_in: int, fan_out: int) -> Dirac:
    """The first filters, as many as there are input channels, are the identity; the others as `pytorch`."""
    return Dirac(pytorch(fan_in, fan_out))


INITIALIZERS = Registry(
    "initializer",
    {
        "kaiming": kaiming,
        "kaiming_normal": kaiming_normal,
        "xavier": xavier,
        "lecun": lecun,
        "pytorch": pytorch,
        "dirac": dirac,
    },
)
