"""Architectures. Each takes the data's ``input_shape`` (C, H, W) and ``classes`` and returns a module."""

from odyssey_core.models.airbench import airbench
from odyssey_core.models.alexnet import alexnet
from odyssey_core.models.dense import linear, mlp
from odyssey_core.models.googlenet import googlenet
from odyssey_core.models.layers import layers
from odyssey_core.models.lenet import lenet5, lenet5_1998
from odyssey_core.models.mobilenet import mobilenet_v1
from odyssey_core.models.resnet import resnet8, resnet18, resnet20, resnet32, resnet44, resnet56
from odyssey_core.models.vgg import vgg16
from odyssey_core.registry import Registry

MODELS = Registry(
    "model",
    {
        "lenet5": lenet5,
        "lenet5_1998": lenet5_1998,
        "mlp": mlp,
        "linear": linear,
        "layers": layers,
        "resnet8": resnet8,
        "resnet20": resnet20,
        "resnet32": resnet32,
        "resnet44": resnet44,
        "resnet56": resnet56,
        "resnet18": resnet18,
        "vgg16": vgg16,
        "mobilenet_v1": mobilenet_v1,
        "googlenet": googlenet,
        "alexnet": alexnet,
        "airbench": airbench,
    },
    "models",
    makes="odyssey_core.nn:Module",
    provided=("input_shape", "classes"),
    reserved=("name", "weights", "head"),
)
