"""Networks of linear layers alone."""

import math

from odyssey_core.nn import Dropout, Flatten, Linear, Module, ReLU, Sequential
from odyssey_core.ranges import Count, Share, check_ranges
from odyssey_core.tensor import Shape


def mlp(
    input_shape: Shape,
    classes: int,
    *,
    hidden: tuple[Count, ...] = (256, 128),
    init: str = "kaiming",
    dropout: Share = 0.0,
) -> Sequential:
    """Flatten, then linear and ReLU for each hidden width, then linear to the classes.

    Args:
        input_shape: (C, H, W) of the data.
        classes: number of the data's classes.
        hidden: widths of the hidden layers.
        init: initializer of the weights: kaiming, kaiming_normal, xavier, lecun, pytorch or dirac.
        dropout: probability of zero after each hidden layer.

    Raises:
        ConfigError: a width below 1.
    """
    check_ranges(mlp, {"hidden": hidden}, "model")
    layers: dict[str, Module] = {"flatten": Flatten()}
    features = math.prod(input_shape)
    for i, width in enumerate(hidden, 1):
        layers |= {
            f"fc{i}": Linear(features, width, init=init),
            f"relu{i}": ReLU(),
            f"dropout{i}": Dropout(dropout),
        }
        features = width
    layers[f"fc{len(hidden) + 1}"] = Linear(features, classes, init=init)
    return Sequential(layers)


def linear(input_shape: Shape, classes: int, *, init: str = "lecun") -> Sequential:
    """Softmax regression: one linear layer on the pixels.

    Args:
        input_shape: (C, H, W) of the data.
        classes: number of the data's classes.
        init: initializer of the weights: kaiming, kaiming_normal, xavier, lecun, pytorch or dirac.
    """
    return Sequential({"flatten": Flatten(), "fc": Linear(math.prod(input_shape), classes, init=init)})
