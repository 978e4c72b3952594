"""Architectures. Each takes the data's ``input_shape`` (C, H, W) and ``classes`` and returns a module."""

from odyssey_core.models.dense import linear, mlp
from odyssey_core.models.layers import layers
from odyssey_core.models.lenet import lenet5, lenet5_1998
from odyssey_core.models.resnet import resnet8
from odyssey_core.registry import Registry

MODELS = Registry(
    "model",
    {"lenet5": lenet5, "lenet5_1998": lenet5_1998, "mlp": mlp, "linear": linear, "resnet8": resnet8, "layers": layers},
    "models",
    makes="odyssey_core.nn:Module",
    provided=("input_shape", "classes"),
    reserved=("name", "weights", "head"),
)
