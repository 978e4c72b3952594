"""From a composed configuration to the objects of a run: names to registries, keys to constructors' arguments."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from odyssey_core.backends import BACKENDS
from odyssey_core.checkpoint import digest, load_weights, model_names
from odyssey_core.data import DATASETS, INPUT_SHAPE, Dataset, stratified_split
from odyssey_core.errors import ConfigError, DataError, OdysseyError
from odyssey_core.learner import Learner
from odyssey_core.losses import LOSSES
from odyssey_core.models import MODELS
from odyssey_core.optim import OPTIMIZERS, SCHEDULERS, Optimizer
from odyssey_core.random import permutation
from odyssey_core.registry import Registry
from odyssey_run import claims
from odyssey_run.binding import Faults, bind, parameters
from odyssey_run.schema import FolderConfig, PlotsConfig, RunConfig, TrackingConfig, TrainerConfig
from odyssey_run.tasks import TASKS

# What a constructor is given by the program; no key in YAML may set it.
PROVIDED = {"model": ("input_shape", "classes"), "task": ("request",)}
BEGIN = ("weights", "head")  # of the group model: what training begins with, no arguments of the architecture
REGISTRIES: dict[str, Registry] = {
    "model": MODELS,
    "data": DATASETS,
    "loss": LOSSES,
    "optim": OPTIMIZERS,
    "scheduler": SCHEDULERS,
    "backend": BACKENDS,
}
UNBUILT = ("data", "backend")  # what nothing is made of before a run begins
GROUPS = {"run": FolderConfig, "plots": PlotsConfig, "trainer": TrainerConfig, "tracking": TrackingConfig}


@dataclass(frozen=True)
class Component:
    """A registered constructor with the arguments that its YAML sets."""

    name: str
    target: Any
    arguments: dict[str, Any]

    def build(self, **provided: Any) -> Any:
        """Calls the constructor.

        Raises:
            OdysseyError: whatever it finds wrong with its arguments.
        """
        return self.target(**provided, **self.arguments)


@dataclass(frozen=True)
class Request:
    """What was asked for, checked: nothing is loaded yet.

    Args:
        config: the composed, resolved configuration as plain values.
        overrides: the command line that led to it.
        weights: a file or a run whose weights training begins with; None draws them.
        head: whether the last layer is drawn all the same.
    """

    config: dict[str, Any]
    overrides: tuple[str, ...]
    seed: int
    seeds: int
    resume: str | None
    expect: dict[str, Any]
    run: FolderConfig
    plots: PlotsConfig
    trainer: TrainerConfig
    tracking: TrackingConfig
    task: Component
    model: Component
    weights: str | None
    head: bool
    data: Component
    loss: Component
    optim: Component
    scheduler: Component
    backend: Component


def check(config: dict[str, Any], overrides: tuple[str, ...] = (), silent: frozenset[str] = frozenset()) -> Request:
    """Holds a configuration against the schema and the constructors.

    Args:
        config: composed and resolved, without Hydra's own section.
        overrides: the command line, to be recorded.
        silent: groups whose faults say nothing.

    Raises:
        Faults: everything that is wrong, at once.
    """
    task, of_task, faults = _task(config)
    root, wrong = bind(RunConfig, {key: value for key, value in config.items() if key not in of_task}, "")
    faults += wrong
    parts: dict[str, Any] = {"task": task}
    for group, schema in GROUPS.items():
        arguments, wrong = bind(schema, root.get(group, {}), group, elsewhere=_elsewhere(root, group))
        faults += _heard(wrong, group, root, silent)
        if not wrong:
            parts[group] = schema(**arguments)
    weights, head, wrong = _begin(root.get("model", {}))
    faults += wrong
    # Looking a data set up imports what draws or reads it. What is as its file has it is right, since a test binds
    # every file: it comes last, and not at all where something else is already wrong.
    for group, registry in sorted(REGISTRIES.items(), key=lambda item: _as_shipped(item[0], root.get(item[0], {}))):
        if faults and group in UNBUILT and _as_shipped(group, root.get(group, {})):
            continue
        values = {key: value for key, value in root.get(group, {}).items() if group != "model" or key not in BEGIN}
        component, wrong = _component(group, registry, values, _elsewhere(root, group))
        faults += _heard(wrong, group, root, silent)
        if not wrong:
            parts[group] = component
    sound = {name: part for name, part in parts.items() if name not in silent}
    faults += [*_construction_faults(sound, root.get("expect", {})), *_combination_faults(sound)]
    if faults:
        raise Faults(faults)
    values = {key: root[key] for key in ("seed", "seeds", "resume", "expect")}
    return Request(config=config, overrides=overrides, weights=weights, head=head, **values, **parts)


def _task(config: dict[str, Any]) -> tuple[Component | None, set[str], list[str]]:
    """The task, the keys at the root that are its arguments, and what is wrong with them."""
    name = config["task"].get("name")
    try:
        target = TASKS[name]
    except ConfigError as error:
        return None, set(), [f"task.name: {error}"]
    own = parameters(target, PROVIDED["task"])
    arguments, faults = bind(target, {k: v for k, v in config.items() if k in own}, "", PROVIDED["task"])
    return Component(name, target, arguments), set(own), faults


def _begin(model: Mapping[str, Any]) -> tuple[str | None, bool, list[str]]:
    """Where the model's first weights come from, and whether its last layer is drawn all the same."""
    weights, head = (model.get(key) for key in BEGIN)
    faults = []
    if not (weights is None or isinstance(weights, str)):
        faults.append(f"model.weights: expected a safetensors file, a run or null, got {weights}")
    if head not in (None, "new"):
        faults.append(f"model.head: expected new or null, got {head}")
    elif head and weights is None:
        faults.append("model.head: new replaces the last layer of model.weights, which is null; set that too")
    return weights, head == "new", faults


def _heard(faults: list[str], group: str, root: Mapping[str, Any], silent: frozenset[str]) -> list[str]:
    return [] if group in silent or group not in root else faults


def _elsewhere(root: Mapping[str, Any], group: str) -> dict[str, str]:
    """The keys of the other groups with their full paths."""
    others = {name: keys for name, keys in root.items() if isinstance(keys, dict) and name != group}
    return {key: f"{name}.{key}" for name, keys in others.items() for key in keys if key != "name"}


def _as_shipped(group: str, values: Mapping[str, Any]) -> bool:
    return _shipped(group, str(values.get("name"))) == values


@cache
def _shipped(group: str, name: str) -> dict[str, Any] | None:
    file = files("odyssey_run.conf") / group / f"{name}.yaml"
    return yaml.safe_load(file.read_text()) if file.is_file() else None


def _component(
    group: str, registry: Registry, values: Mapping[str, Any], elsewhere: Mapping[str, str]
) -> tuple[Component | None, list[str]]:
    name = values.get("name")
    try:
        target = registry[name]
    except ConfigError as error:
        return None, [f"{group}.name: {error}"]
    arguments = {key: value for key, value in values.items() if key != "name"}
    arguments, faults = bind(target, arguments, group, PROVIDED.get(group, ()), elsewhere)
    return Component(name, target, arguments), faults


def _construction_faults(parts: dict[str, Any], expect: dict[str, Any]) -> list[str]:
    """What the constructors that load nothing find wrong; parts that are wrong already are left out."""
    faults = []
    for needed, construct in (
        (("optim",), lambda: parts["optim"].build()),
        (("scheduler", "trainer"), lambda: parts["scheduler"].build().check(parts["trainer"].epochs)),
        (("model",), lambda: parts["model"].build(input_shape=INPUT_SHAPE, classes=2)),
        ((), lambda: claims.read(expect)),
    ):
        try:
            if all(parts.get(name) for name in needed):
                construct()
        except OdysseyError as error:
            faults.append(str(error))
    return faults


def _combination_faults(parts: dict[str, Any]) -> list[str]:
    """What is right by itself and wrong together."""
    trainer, faults = parts.get("trainer"), []
    if trainer and trainer.validation_size == 0:
        for key, value in (("keep", trainer.keep == "best"), ("patience", trainer.patience is not None)):
            if value:
                faults.append(f"trainer.{key}: needs a validation set, got trainer.validation_size 0")
    return faults


@dataclass(frozen=True)
class Assembly:
    """Everything that a run needs, ready.

    Attributes:
        train: (n,) int64 indices of the images to train on, in ``dataset.train``.
        validation: (m,) int64 indices of those set aside; m may be 0.
        backend: one line for people.
        start: digest of the weights that training begins with, where they were given.
        head: the layer that was drawn all the same.
    """

    dataset: Dataset
    train: np.ndarray
    validation: np.ndarray
    learner: Learner
    optimizer: Optimizer
    backend: str
    start: str | None
    head: str | None


def assemble(request: Request) -> Assembly:
    """Builds what was asked for, the data last of what can be wrong and the compiled learner last of all.

    Raises:
        OdysseyError: a backend that cannot run here, data that cannot be read, sizes that do not fit.
    """
    backend = request.backend.build()
    dataset = request.data.build()
    config = request.trainer
    size = check_sizes(request, len(dataset.train), dataset.classes)
    if size:
        train, validation = stratified_split(dataset.train.labels, size, request.seed)
    else:
        train, validation = np.arange(len(dataset.train)), np.empty(0, np.int64)
    if config.train_size:
        train = train[
            np.sort(permutation(len(train), seed=request.seed, stream="data/train_size")[: config.train_size])
        ]
    optimizer = request.optim.build()
    model = request.model.build(input_shape=dataset.input_shape, classes=dataset.classes)
    learner = Learner(
        model,
        optimizer,
        backend,
        input_shape=dataset.input_shape,
        batch_size=config.batch_size,
        mean=dataset.mean,
        std=dataset.std,
        loss=request.loss.build(),
        seed=request.seed,
        augment=dataset.augment,
        clip_norm=config.clip_norm,
        ema=config.ema,
    )
    start, head = _begin_with(request, learner) if request.weights else (None, None)
    return Assembly(dataset, train, validation, learner, optimizer, backend.describe(), start, head)


def _begin_with(request: Request, learner: Learner) -> tuple[str, str | None]:
    """Gives the learner the weights of a file or a run; returns the digest of all, and the layer that stays as drawn.

    Raises:
        OdysseyError: there are none, or they are of another model.
    """
    from odyssey_run import runs  # which knows requests

    path = Path(request.weights).expanduser()
    if path.is_file():
        found = load_weights(path, foreign=True)[0]
    else:
        found = runs.find(request.weights, request.tracking).weights
    drawn = learner.weights()
    head = [*drawn][-1].rpartition(".")[0]
    kept = {name: value for name, value in drawn.items() if request.head and name.startswith(f"{head}.")}
    try:
        weights = kept | model_names({name: value for name, value in drawn.items() if name not in kept}, found)
        for name, value in weights.items():
            if value.shape[1:] == drawn[name].shape[1:] and len(value) != len(drawn[name]) and name.startswith(head):
                raise DataError(
                    f"{name}: {request.model.name} needs shape {drawn[name].shape} for {drawn[name].shape[0]} classes, "
                    f"got {value.shape}; model.head=new draws this layer anew"
                )
        learner.load_weights(weights)
    except DataError as error:
        raise DataError(f"model.weights: {request.weights}: {error}") from None
    return digest(weights), head if request.head else None


def check_sizes(request: Request, images: int, classes: int) -> int:
    """Holds the trainer's numbers against the data's; returns the number of validation images.

    Raises:
        Faults: all that do not fit.
    """
    config, faults = request.trainer, []
    size = min(5000, images // 10) if config.validation_size is None else config.validation_size
    if size and not classes <= size < images:
        faults.append(
            f"trainer.validation_size: expected 0, or {classes} (the classes) to {images - 1} "
            f"(of the {images} training images), got {size}"
        )
        size = 0
    left, of = images - size, "the training images left by validation"
    if config.train_size:
        if config.train_size > left:
            faults.append(f"trainer.train_size: expected at most {left} ({of}), got {config.train_size}")
        left, of = config.train_size, "trainer.train_size"
    if config.batch_size > left:
        faults.append(f"trainer.batch_size: expected at most {left} ({of}), got {config.batch_size}")
    if faults:
        raise Faults(faults)
    return size
