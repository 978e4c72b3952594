"""Update rules."""

from odyssey_core.optim.adaptive import Adam, AdamW, RMSprop
from odyssey_core.optim.optimizer import Optimizer, Update
from odyssey_core.optim.sgd import SGD
from odyssey_core.registry import Registry

__all__ = ["OPTIMIZERS", "SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "Update"]

OPTIMIZERS = Registry("optimizer", {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop})
