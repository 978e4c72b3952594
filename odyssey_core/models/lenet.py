"""LeNet-5: the common modern form, and the network of 1998."""

from odyssey_core.models.sizes import require_pixels
from odyssey_core.nn import (
    AvgPool2d,
    Conv2d,
    Dropout,
    Flatten,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Tanh,
)
from odyssey_core.ranges import Share
from odyssey_core.tensor import Shape


def lenet5(input_shape: Shape, classes: int, *, init: str = "kaiming", dropout: Share = 0.0) -> Sequential:
    """conv 6@5x5, ReLU, max-pool 2, conv 16@5x5, ReLU, max-pool 2, linear 120, ReLU, linear 84, ReLU, linear.

    For (1, 28, 28) and 47 classes it has 47,571 parameters.

    Args:
        input_shape: (C, H, W) of the data.
        classes: number of the data's classes.
        init: initializer of the weights: kaiming, kaiming_normal, xavier, lecun, pytorch or dirac.
        dropout: probability of zero after the two hidden linear layers.

    Raises:
        ShapeError: images too small for two 5x5 convolutions with pooling.
    """
    require_pixels("lenet5", input_shape, 16, "model=mlp or model=linear")
    c, h, w = input_shape
    h2, w2 = ((h - 4) // 2 - 4) // 2, ((w - 4) // 2 - 4) // 2
    return Sequential(
        {
            "conv1": Conv2d(c, 6, 5, init=init),
            "relu1": ReLU(),
            "pool1": MaxPool2d(2),
            "conv2": Conv2d(6, 16, 5, init=init),
            "relu2": ReLU(),
            "pool2": MaxPool2d(2),
            "flatten": Flatten(),
            "fc1": Linear(16 * h2 * w2, 120, init=init),
            "relu3": ReLU(),
            "dropout1": Dropout(dropout),
            "fc2": Linear(120, 84, init=init),
            "relu4": ReLU(),
            "dropout2": Dropout(dropout),
            "fc3": Linear(84, classes, init=init),
        }
    )


def lenet5_1998(input_shape: Shape, classes: int, *, init: str = "lecun") -> Sequential:
    """C1 6@5x5 (padding 2), tanh, S2 average 2, C3 16@5x5, tanh, S4 average 2, C5 120@5x5, tanh, F6 84, tanh, output.

    Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 1998,
    section II.B. We depart from it in these points: C3 is dense (the paper connects each map to 3 to 6 of S2's, table
    I); the pooling layers have no trainable coefficient and bias and no squashing of their own; tanh is not scaled to
    1.7159 tanh(2x/3); the output is linear with softmax cross-entropy, not Euclidean RBF units with the
    discriminative MAP loss; 28x28 images are padded by 2 here, where the paper's lie in 32x32 frames.

    Args:
        input_shape: (C, H, W) of the data.
        classes: number of the data's classes.
        init: initializer of the weights: kaiming, kaiming_normal, xavier, lecun, pytorch or dirac.

    Raises:
        ShapeError: images too small for the three 5x5 convolutions.
    """
    require_pixels("lenet5_1998", input_shape, 28, "model=mlp")
    c, h, w = input_shape
    h4, w4 = (h // 2 - 4) // 2, (w // 2 - 4) // 2
    return Sequential(
        {
            "c1": Conv2d(c, 6, 5, padding=2, init=init),
            "tanh1": Tanh(),
            "s2": AvgPool2d(2),
            "c3": Conv2d(6, 16, 5, init=init),
            "tanh2": Tanh(),
            "s4": AvgPool2d(2),
            "c5": Conv2d(16, 120, 5, init=init),
            "tanh3": Tanh(),
            "flatten": Flatten(),
            "f6": Linear(120 * (h4 - 4) * (w4 - 4), 84, init=init),
            "tanh4": Tanh(),
            "output": Linear(84, classes, init=init),
        }
    )
