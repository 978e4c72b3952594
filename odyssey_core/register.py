"""What a plug-in says: a decorator above a function or a class makes it known by its own name, or by another.

    from odyssey_core import register

    @register.model                      # model=mine model.width=8
    def mine(input_shape, classes, width: int = 16): ...

    @register.optimizer("soft_sign")     # optim=soft_sign optim.lr=0.1
    class SoftSign(Optimizer): ...

The parameters of the signature are the options: annotations are their types and ranges, defaults their defaults. An
installed package needs no decorators but entry points: ``[project.entry-points."ml_odyssey.models"]``.
"""

from typing import Any

from odyssey_core.registry import resolved

REGISTRIES = {
    "model": "odyssey_core.models:MODELS",
    "layer": "odyssey_core.nn:LAYERS",
    "dataset": "odyssey_core.data:DATASETS",
    "optimizer": "odyssey_core.optim:OPTIMIZERS",
    "schedule": "odyssey_core.optim:SCHEDULERS",
    "loss": "odyssey_core.losses:LOSSES",
    "preparation": "odyssey_core.data.preparation:READERS",
    "hook": "odyssey_run.config.registries:HOOKS",
    "task": "odyssey_run.config.registries:TASKS",
}


def model(entry: Any) -> Any:
    """A function, or a `Module` by its constructor: ``(input_shape, classes, options...)``, a `Module` of logits."""
    return _add("model", entry)


def layer(entry: Any) -> Any:
    """A `Module` by its constructor, for lists of layers; ``in_channels`` and ``in_features`` are inferred."""
    return _add("layer", entry)


def dataset(entry: Any) -> Any:
    """A function ``(options...)`` that returns a `Dataset`."""
    return _add("dataset", entry)


def optimizer(entry: Any) -> Any:
    """A dataclass derived from `Optimizer`; its fields are the options."""
    return _add("optimizer", entry)


def schedule(entry: Any) -> Any:
    """A dataclass derived from `Schedule`; its fields are the options."""
    return _add("schedule", entry)


def loss(entry: Any) -> Any:
    """A dataclass derived from `Loss`; its fields are the options."""
    return _add("loss", entry)


def preparation(entry: Any) -> Any:
    """A `Reader` by its constructor: how a person's picture becomes images of a data set that names it."""
    return _add("preparation", entry)


def hook(entry: Any) -> Any:
    """A class derived from `Hook`, whose ``on_epoch_end`` is called after each epoch."""
    return _add("hook", entry)


def task(entry: Any) -> Any:
    """A function ``(request, options...)`` that returns the exit code."""
    return _add("task", entry)


def _add(kind: str, entry: Any) -> Any:
    if isinstance(entry, str):
        return lambda decorated: _named(kind, entry, decorated)
    return _named(kind, entry.__name__, entry)


def _named(kind: str, name: str, entry: Any) -> Any:
    resolved(REGISTRIES[kind]).register(name, entry)
    return entry
