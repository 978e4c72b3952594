"""What is wrong with parts of a configuration that are right by themselves: what they make, how they fit together."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from odyssey_core import ops
from odyssey_core.data.dataset import Shape
from odyssey_core.errors import ConfigError
from odyssey_core.nn import Module
from odyssey_core.optim import Optimizer
from odyssey_core.tensor import Tensor
from odyssey_run.config import claims
from odyssey_run.config.binding import Faults
from odyssey_run.config.plugins import fault
from odyssey_run.config.registries import OF_RUNS
from odyssey_run.config.schema import SEEDS

RECORDING = ("train", "evaluate")  # tasks that leave a run in MLflow
MOST_WEIGHTS = 2**31  # numbers that an instruction can count


def faults(parts: Mapping[str, Any], shape: Shape | None) -> list[str]:
    """One line a fault.

    Args:
        parts: bound components and groups, and values of no group, by name; without what is wrong already.
        shape: (C, H, W) of the data's images; None where it is not known before they are loaded.
    """
    task = parts.get("task")
    of_run = task is not None and task.name in (*OF_RUNS, "data")
    of_model = of_shape(parts, shape) if shape and not of_run else ()
    return list(dict.fromkeys([*_of_constructors(parts), *of_model, *_of_values(parts)]))


def of_shape(parts: Mapping[str, Any], shape: Shape) -> Iterator[str]:
    """What is wrong with a model for images (C, H, W) and what rests on its weights, with arguments as in `faults`."""
    parameters = cache(lambda: _parameters(parts["model"], shape))
    return _constructing(
        parts,
        (("model",), parameters),
        (("model", "optim"), lambda: _check_weights(parameters(), parts["optim"].build())),
        (("model", "trainer"), lambda: _check_claims(parameters(), parts)),
    )


def _of_constructors(parts: Mapping[str, Any]) -> Iterator[str]:
    """What the constructors that load nothing find wrong, and what rests on what they make."""
    return _constructing(
        parts,
        (("optim",), lambda: parts["optim"].build()),
        (("scheduler", "trainer"), lambda: parts["scheduler"].build().check(parts["trainer"].epochs)),
        (("trainer",), lambda: parts["trainer"].step_rule),
        ((), lambda: claims.read(parts.get("expect", {}))),
    )


def _constructing(parts: Mapping[str, Any], *steps: tuple[tuple[str, ...], Callable[[], Any]]) -> Iterator[str]:
    for needed, construct in steps:
        try:
            if all(parts.get(name) for name in needed):
                construct()
        except Faults as faults:
            yield from faults.lines
        except Exception as error:
            yield fault(error)


def _parameters(model: Any, input_shape: Shape) -> dict[str, Tensor]:
    """The parameters of a model for two classes of images of (C, H, W), by name."""
    module: Module = model.build(input_shape=input_shape, classes=2)
    logits = module(ops.images((3, *input_shape)))
    if getattr(logits, "shape", None) != (3, 2):
        got = f"shape {logits.shape}" if isinstance(logits, Tensor) else repr(logits)
        raise ConfigError(f"model.name: {model.name}: expected logits of shape (N, classes), here (3, 2), got {got}")
    return module.parameters()


def _check_weights(parameters: Mapping[str, Tensor], optimizer: Optimizer) -> None:
    optimizer.updates(parameters)
    numbers = sum(math.prod(node.shape) for node in parameters.values())
    arrays = 2 + len(optimizer.slots())  # the weights, their gradient, and what the rule keeps of each
    needed, there = 4 * numbers * arrays, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there or numbers >= MOST_WEIGHTS:
        raise ConfigError(
            f"model: {numbers:,} weights need at least {needed / 2**30:,.0f} GiB to be trained, and this machine has "
            f"{there / 2**30:,.0f} GiB; choose a smaller model"
        )


def _check_claims(parameters: Mapping[str, Tensor], parts: Mapping[str, Any]) -> None:
    if {"expect", "seeds", "hooks"} <= parts.keys():
        layers = [name for name, node in parameters.items() if len(node.shape) > 1]
        known = claims.metrics(layers, parts["trainer"].validation_size != 0, parts["seeds"])
        if wrong := claims.unknown(parts["expect"], known, (claims.OF_HOOKS,) if parts["hooks"] else ()):
            raise Faults(wrong)


def _of_values(parts: Mapping[str, Any]) -> Iterator[str]:
    trainer, task = parts.get("trainer"), parts.get("task")
    if trainer and trainer.validation_size == 0:
        for key, value in (("keep", trainer.keep == "best"), ("patience", trainer.patience is not None)):
            if value:
                yield f"trainer.{key}: needs a validation set, got trainer.validation_size 0"
    if {"seed", "seeds"} <= parts.keys() and parts["seed"] + parts["seeds"] - 1 not in SEEDS:
        yield f"seeds: the last of {parts['seeds']} seeds would be above {SEEDS.high}; choose a smaller seed"
    if task and task.name in RECORDING and "tracking" in parts and parts["tracking"].name == "mlflow":
        yield from (f"{name}: {text}" for name, text in _unused_settings(parts))


def _unused_settings(parts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """MLflow's environment variables that have no effect here, unless a key says the same."""
    for name, key, given in (
        ("MLFLOW_RUN_NAME", "run.name=NAME", "run" in parts and parts["run"].name),
        ("MLFLOW_RUN_ID", "resume=RUN to go on with a run", False),
        ("MLFLOW_EXPERIMENT_ID", "tracking.experiment=NAME", parts["tracking"].experiment),
    ):
        if os.environ.get(name) and not given:
            yield name, f"is set and not used here; unset it, and set {key}"
