"""Update rules, and schedules of the learning rate."""

from odyssey_core.optim.adagrad import Adagrad
from odyssey_core.optim.adaptive import Adam, AdamW, RMSprop
from odyssey_core.optim.groups import Group
from odyssey_core.optim.lamb import LAMB
from odyssey_core.optim.lars import LARS
from odyssey_core.optim.lion import Lion
from odyssey_core.optim.muon import Muon
from odyssey_core.optim.nadam import NAdam
from odyssey_core.optim.optimizer import PLAIN, Lookahead, Optimizer, StepRule, Update, WholeRule
from odyssey_core.optim.schedules import (
    CONSTANT,
    Constant,
    Cosine,
    Exponential,
    MultiStep,
    OneCycle,
    Plan,
    Plateau,
    Polynomial,
    Schedule,
    Step,
    Triangular,
)
from odyssey_core.optim.sgd import SGD, SGDW
from odyssey_core.registry import Registry

__all__ = [
    "CONSTANT",
    "LAMB",
    "LARS",
    "OPTIMIZERS",
    "PLAIN",
    "SCHEDULERS",
    "SGD",
    "SGDW",
    "Adagrad",
    "Adam",
    "AdamW",
    "Group",
    "Lion",
    "Lookahead",
    "Muon",
    "NAdam",
    "Optimizer",
    "Plan",
    "RMSprop",
    "Schedule",
    "StepRule",
    "Update",
    "WholeRule",
]

OPTIMIZERS = Registry(
    "optimizer",
    {
        "sgd": SGD,
        "sgdw": SGDW,
        "adam": Adam,
        "adamw": AdamW,
        "nadam": NAdam,
        "rmsprop": RMSprop,
        "adagrad": Adagrad,
        "lion": Lion,
        "lars": LARS,
        "lamb": LAMB,
        "muon": Muon,
    },
    "optimizers",
    base="odyssey_core.optim:Optimizer",
)
SCHEDULERS = Registry(
    "scheduler",
    {
        "constant": Constant,
        "step": Step,
        "multistep": MultiStep,
        "exponential": Exponential,
        "cosine": Cosine,
        "onecycle": OneCycle,
        "polynomial": Polynomial,
        "plateau": Plateau,
        "triangular": Triangular,
    },
    "schedules",
    base="odyssey_core.optim:Schedule",
)
