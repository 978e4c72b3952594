"""From a checked request to the objects of a run: the data, their parts, and the compiled learner."""

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from odyssey_core.checkpoint import digest, load_weights, model_names
from odyssey_core.data import Dataset, stratified_split
from odyssey_core.errors import DataError
from odyssey_core.optim import Plan
from odyssey_core.places import expanded
from odyssey_core.random import permutation
from odyssey_run.config import combinations
from odyssey_run.config.binding import Faults
from odyssey_run.config.request import Component, Request

if TYPE_CHECKING:
    from odyssey_core.learner import Learner


@dataclass(frozen=True)
class Assembly:
    dataset: Dataset
    train: np.ndarray  # (n,) int64 indices of the images to train on, in `dataset.train`
    validation: np.ndarray  # (m,) int64 indices of those set aside; m may be 0
    learner: "Learner"
    backend: str  # one line for people
    start: str | None  # digest of the weights that training begins with, where they were given
    head: str | None  # the layer that was drawn all the same


def sharing(request: Request, made: dict[str, Any]) -> Request:
    """The request with data and a backend that are made once for all requests that share a dictionary and want the same
    ones: images are read once, and equal graphs lowered once."""

    def once(group: str, component: Component) -> Component:
        digests = [plugin.digest for plugin in request.plugins]
        key = json.dumps([group, component.name, component.arguments, digests], sort_keys=True, default=str)

        def build(**_: Any) -> Any:
            if key not in made:
                made[key] = component.build()
            return made[key]

        return Component(component.name, build, component.arguments)

    return replace(request, data=once("data", request.data), backend=once("backend", request.backend))


def assemble(request: Request) -> Assembly:
    """Builds what was asked for, the data last of what can be wrong and the compiled learner last of all. Raises
    OdysseyError: a backend that cannot run here, data that cannot be read, sizes that do not fit."""
    from odyssey_core.learner import Learner  # not for the answer to a mistake: it imports the reference backend

    backend = request.backend.build()
    dataset = request.data.build()
    # A set that cannot tell the shape of its images before it is loaded has had no model tried on it.
    if wrong := dict.fromkeys(combinations.of_shape(vars(request), dataset.input_shape)):
        raise Faults([*wrong])
    config = request.trainer
    size = check_sizes(request, len(dataset.train), dataset.classes, dataset.validation)
    if dataset.validation:
        train, validation = np.split(np.arange(len(dataset.train)), [len(dataset.train) - dataset.validation])
        validation = validation[:size]
    elif size:
        train, validation = stratified_split(dataset.train.labels, size, request.seed)
    else:
        train, validation = np.arange(len(dataset.train)), np.empty(0, np.int64)
    if config.train_size:
        order = permutation(len(train), seed=request.seed, stream="data/train_size")
        train = train[np.sort(order[: config.train_size])]
    per_epoch = -(-len(train) // config.batch_size)
    steps = min(per_epoch * config.epochs, config.max_steps or per_epoch * config.epochs)
    model = request.model.build(input_shape=dataset.input_shape, classes=dataset.classes)
    learner = Learner(
        model,
        request.optim.build(),
        backend,
        input_shape=dataset.input_shape,
        batch_size=config.batch_size,
        mean=dataset.mean,
        std=dataset.std,
        loss=request.loss.build(),
        plan=Plan(steps, per_epoch, request.scheduler.build()),
        seed=request.seed,
        augment=dataset.augment,
        clip_norm=config.clip_norm,
        ema=config.ema,
        lookahead=config.lookahead,
        tta=config.tta,
    )
    learner.initialize(dataset.train, train)
    start, head = _begin_with(request, learner, request.weights) if request.weights else (None, None)
    return Assembly(dataset, train, validation, learner, backend.describe(), start, head)


def _begin_with(request: Request, learner: "Learner", named: str) -> tuple[str, str | None]:
    """Gives the learner the weights of a file or a run; returns the digest of all, and the layer that stays as
    drawn. Raises OdysseyError: there are none, or they are of another model."""
    from odyssey_run.runs import recorded  # which knows requests

    path = expanded(named)
    stored = path.is_file()
    found = load_weights(path, foreign=True)[0] if stored else recorded.find(named, request.tracking).weights
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


def check_sizes(request: Request, images: int, classes: int, own: int = 0) -> int:
    """Holds the trainer's numbers against the data's; returns the number of validation images. Raises Faults.

    Args:
        images: of training, those of validation among them.
        own: images of a validation part that the data set itself has; where validation is not wanted, they are unused.
    """
    config, faults, size = request.trainer, [], request.trainer.validation_size
    if own:
        if size:
            faults.append(
                f"trainer.validation_size: the data have a validation part, of {own} images; expected null, or 0 for "
                f"none, got {size}"
            )
        size = own if size is None else 0
        images -= own - size
    elif size is None:
        size = max(min(5000, images // 10), classes)  # a class that nothing is validated on says nothing
        size = size if 2 * size <= images else 0
        if not size and (config.keep == "best" or config.patience is not None):
            faults.append(f"trainer.keep, trainer.patience: need a validation set, and {images} images are too few")
    if size and not own and not classes <= size < images:
        faults.append(
            f"trainer.validation_size: expected 0, or {classes} (the classes) to {images - 1} "
            f"(of the {images} training images), got {size}"
        )
        size = 0
    left, of = images - size, "the training images left by validation"
    if config.train_size:
        if config.train_size > left:
            faults.append(f"trainer.train_size: expected at most {left} ({of}), got {config.train_size}")
        left, of = config.train_size, f"trainer.train_size={config.train_size} is fewer than one batch"
    if config.batch_size > left:
        faults.append(f"trainer.batch_size: expected at most {left} ({of}), got {config.batch_size}")
    if faults:
        raise Faults(faults)
    return size
