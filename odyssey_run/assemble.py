"""From a composed configuration to the objects of a run: names to registries, keys to constructors' arguments."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from odyssey_core.backends import BACKENDS
from odyssey_core.data import DATASETS
from odyssey_core.errors import ConfigError, OdysseyError
from odyssey_core.models import MODELS
from odyssey_core.optim import OPTIMIZERS
from odyssey_core.registry import Registry
from odyssey_run.binding import Faults, bind
from odyssey_run.schema import FolderConfig, RunConfig, TrackingConfig, TrainerConfig
from odyssey_run.tasks import TASKS

# What a constructor is given by the program; no key in YAML may set it.
PROVIDED = {"model": ("input_shape", "classes"), "task": ("request",)}
REGISTRIES: dict[str, Registry] = {
    "task": TASKS,
    "model": MODELS,
    "data": DATASETS,
    "optim": OPTIMIZERS,
    "backend": BACKENDS,
}
GROUPS = {"run": FolderConfig, "trainer": TrainerConfig, "tracking": TrackingConfig}


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
    """

    config: dict[str, Any]
    overrides: tuple[str, ...]
    seed: int
    run: FolderConfig
    trainer: TrainerConfig
    tracking: TrackingConfig
    task: Component
    model: Component
    data: Component
    optim: Component
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
    root, faults = bind(RunConfig, config, "")
    parts: dict[str, Any] = {}
    for group, schema in GROUPS.items():
        arguments, wrong = bind(schema, root.get(group, {}), group)
        faults += _heard(wrong, group, root, silent)
        if not wrong:
            parts[group] = schema(**arguments)
    # Looking a constructor up may import a compiler. What is as its file has it is right, since a test binds every
    # file: it comes last, and not at all where something else is already wrong.
    for group, registry in sorted(REGISTRIES.items(), key=lambda item: _as_shipped(item[0], root.get(item[0], {}))):
        if faults and _as_shipped(group, root.get(group, {})):
            continue
        parts[group], wrong = _component(group, registry, root.get(group, {}))
        faults += _heard(wrong, group, root, silent)
    if not faults:
        faults += _construction_faults(parts["optim"])
    if faults:
        raise Faults(faults)
    return Request(config=config, overrides=overrides, seed=root["seed"], **parts)


def _heard(faults: list[str], group: str, root: Mapping[str, Any], silent: frozenset[str]) -> list[str]:
    return [] if group in silent or group not in root else faults


def _as_shipped(group: str, values: Mapping[str, Any]) -> bool:
    file = files("odyssey_run.conf") / group / f"{values.get('name')}.yaml"
    return file.is_file() and yaml.safe_load(file.read_text()) == values


def _component(group: str, registry: Registry, values: Mapping[str, Any]) -> tuple[Component | None, list[str]]:
    name = values.get("name")
    try:
        target = registry[name]
    except ConfigError as error:
        return None, [f"{group}.name: {error}"]
    arguments = {key: value for key, value in values.items() if key != "name"}
    arguments, faults = bind(target, arguments, group, PROVIDED.get(group, ()))
    return Component(name, target, arguments), faults


def _construction_faults(optim: Component) -> list[str]:
    try:
        optim.build()
    except OdysseyError as error:
        return [str(error)]
    return []
