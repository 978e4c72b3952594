"""VGG: nothing but 3x3 convolutions and pooling, deeper than before it."""

from odyssey_core.models.sizes import require_pixels
from odyssey_core.nn import BatchNorm2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, Module, ReLU, Sequential
from odyssey_core.ranges import Share
from odyssey_core.tensor import Shape

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels, and how many convolutions
HIDDEN = 512


def vgg16(
    input_shape: Shape, classes: int, *, batch_norm: bool = False, dropout: Share = 0.5, init: str = "kaiming"
) -> Sequential:
    """Thirteen 3x3 convolutions with ReLU in five stages, each of which ends with max-pool 2; linear 512, 512, output.

    For (3, 32, 32) and 10 classes it has 15,245,130 parameters, with batch norm 15,249,354 and 8,448 running
    statistics.

    Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015,
    table 1, column D. We depart from it in these points: the hidden linear layers have 512 features, not 4096, since
    one pixel is left of a 32x32 image (as is usual on CIFAR-10); with ``batch_norm`` each convolution has one behind
    it and no bias of its own, which it would take away again; weights are drawn by He et al.'s rule, where the paper
    begins deep nets with the weights of shallow ones.

    Args:
        input_shape: (C, H, W) of the data.
        classes: number of the data's classes.
        batch_norm: whether batch norm stands between each convolution and its ReLU.
        dropout: probability of zero after the two hidden linear layers.
        init: initializer of the weights: kaiming, kaiming_normal, xavier, lecun, pytorch or dirac.

    Raises:
        ShapeError: images too small for five pools.
    """
    require_pixels("vgg16", input_shape, 2 ** len(STAGES), "model=resnet20")
    channels, h, w = input_shape
    layers: dict[str, Module] = {}
    for stage, (out, count) in enumerate(STAGES, 1):
        for name in (f"{stage}_{i}" for i in range(1, count + 1)):
            layers[f"conv{name}"] = Conv2d(channels, out, 3, padding=1, bias=not batch_norm, init=init)
            if batch_norm:
                layers[f"bn{name}"] = BatchNorm2d(out)
            layers[f"relu{name}"] = ReLU()
            channels = out
        layers[f"pool{stage}"] = MaxPool2d(2)
    layers["flatten"] = Flatten()
    features = channels * (h >> len(STAGES)) * (w >> len(STAGES))
    for i in (6, 7):
        layers |= {f"fc{i}": Linear(features, HIDDEN, init=init), f"relu{i}": ReLU(), f"dropout{i}": Dropout(dropout)}
        features = HIDDEN
    return Sequential(layers | {"fc8": Linear(features, classes, init=init)})
