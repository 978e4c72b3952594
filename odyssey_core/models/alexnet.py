"""AlexNet: the net that won ImageNet in 2012, as the first version of this program had it for small images."""

from odyssey_core.models.sizes import require_pixels
from odyssey_core.nn import Conv2d, Dropout, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential
from odyssey_core.ranges import Share
from odyssey_core.tensor import Shape

HIDDEN = 4096
WINDOW = 3  # of the pools, whose stride is 2


def alexnet(input_shape: Shape, classes: int, *, dropout: Share = 0.5, init: str = "kaiming") -> Sequential:
    """conv 96@11x11 stride 4, pool, conv 256@5x5, pool, conv 384, 384, 256@3x3, pool; linear 4096, 4096, output.

    Every convolution and hidden linear layer has ReLU behind it; pools take the maximum of 3x3 with stride 2. For
    (3, 32, 32) and 10 classes it has 21,622,154 parameters.

    Source: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012,
    section 3.5. We depart from it in these points: the convolutions are not cut into two groups for two GPUs; there is
    no local response normalisation; where the last convolutions see maps of less than 3x3 pixels, one of a 32x32
    image, their pool is left out; weights are drawn by He et al.'s rule, and all biases are zero at first.

    Args:
        input_shape: (C, H, W) of the data.
        classes: number of the data's classes.
        dropout: probability of zero after the two hidden linear layers.
        init: initializer of the weights: kaiming, kaiming_normal, xavier, lecun, pytorch or dirac.

    Raises:
        ShapeError: images too small for the first convolution and two pools.
    """
    require_pixels("alexnet", input_shape, 31, "model=resnet20")
    channels, h, w = input_shape
    h, w = (_pooled(_pooled((size + 4 - 11) // 4 + 1)) for size in (h, w))
    layers: dict[str, Module] = {
        "conv1": Conv2d(channels, 96, 11, 4, padding=2, init=init),
        "relu1": ReLU(),
        "pool1": MaxPool2d(WINDOW, 2),
        "conv2": Conv2d(96, 256, 5, padding=2, init=init),
        "relu2": ReLU(),
        "pool2": MaxPool2d(WINDOW, 2),
    }
    for i, channels, out in ((3, 256, 384), (4, 384, 384), (5, 384, 256)):
        layers |= {f"conv{i}": Conv2d(channels, out, 3, padding=1, init=init), f"relu{i}": ReLU()}
    if min(h, w) >= WINDOW:
        layers["pool5"], h, w = MaxPool2d(WINDOW, 2), _pooled(h), _pooled(w)
    layers["flatten"], features = Flatten(), 256 * h * w
    for i in (6, 7):
        layers |= {f"fc{i}": Linear(features, HIDDEN, init=init), f"relu{i}": ReLU(), f"dropout{i}": Dropout(dropout)}
        features = HIDDEN
    return Sequential(layers | {"fc8": Linear(features, classes, init=init)})


def _pooled(size: int) -> int:
    return (size - WINDOW) // 2 + 1
