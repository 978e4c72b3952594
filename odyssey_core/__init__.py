"""The core: tensors as nodes of a graph, layers, optimizers, data, and the backends that run them.

Public names, each imported when it is first used:

- `Module`, `nn`, `ops`: models. A `Module` defines ``forward(self, x)``; `nn` has layers, `ops` functions of tensors.
- `Optimizer`, `Schedule`, `Loss`: bases of what a plug-in may add; `register` makes it known under a name.
- `Dataset`, `Images`: pictures with labels, as uint8 arrays.
- `OdysseyError`: base of every error that is the user's to mend.
"""

import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from odyssey_core import nn, ops, register
    from odyssey_core.data.dataset import Dataset, Images
    from odyssey_core.errors import OdysseyError
    from odyssey_core.losses import Loss
    from odyssey_core.nn import Module
    from odyssey_core.optim import Optimizer, Schedule

IMPORTED = time.time()  # seconds since 1970: what is in memory is the source of then
__all__ = ["Dataset", "Images", "Loss", "Module", "OdysseyError", "Optimizer", "Schedule", "nn", "ops", "register"]
_HOMES = {
    "Dataset": "data.dataset",
    "Images": "data.dataset",
    "Loss": "losses",
    "Module": "nn",
    "OdysseyError": "errors",
    "Optimizer": "optim",
    "Schedule": "optim",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _HOMES:
        return getattr(import_module(f"odyssey_core.{_HOMES[name]}"), name)
    return import_module(f"odyssey_core.{name}")


def __dir__() -> list[str]:
    return list(__all__)
