"""From a composed configuration to a checked request: names to registries, keys to constructors' arguments."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from inspect import Parameter
from typing import Any

import yaml

from odyssey_core.backends import BACKENDS
from odyssey_core.data.dataset import shape_before_loading
from odyssey_core.errors import ConfigError, shortened
from odyssey_core.fitting import fits
from odyssey_core.models.layers import names
from odyssey_core.nn import LAYERS
from odyssey_core.registry import Registry, resolved
from odyssey_run.config import combinations
from odyssey_run.config.binding import MISSING, Faults, bind, parameters, takes_text, unknown_key
from odyssey_run.config.command_line import EMPTY_GROUPS, KINDS, Typed, registry_of
from odyssey_run.config.composition import HOUSE, set_value, value_at
from odyssey_run.config.plugins import Plugin, behind
from odyssey_run.config.registries import HOOKS, TASKS
from odyssey_run.config.schema import FolderConfig, PlotsConfig, RunConfig, SweepConfig, TrackingConfig, TrainerConfig

BEGIN = ("weights", "head")  # of the group model: what training begins with, no arguments of the architecture
REGISTRIES: dict[str, Registry] = {group: registry_of(group) for group in KINDS if group != "task"}
REGISTRIES |= {"backend": BACKENDS}
UNBUILT = ("backend",)  # what nothing is made of before a run begins
GROUPS: dict[str, Any] = {each.name: each.type for each in fields(RunConfig) if is_dataclass(each.type)}


@dataclass(frozen=True)
class Component:
    """A registered constructor with the arguments that its YAML sets."""

    name: str
    target: Any
    arguments: dict[str, Any]
    makes: str | None = None  # what a plug-in's constructor must give, as `Registry` has it

    def build(self, **provided: Any) -> Any:
        """Calls the constructor. Raises OdysseyError: whatever it finds wrong with its arguments."""
        made = self.target(**provided, **self.arguments)
        if self.makes and not isinstance(made, resolved(self.makes)):
            expected = self.makes.replace(":", ".")
            raise ConfigError(f"{self.name}: returns {shortened(repr(made))}, expected an object of {expected}")
        return made


@dataclass(frozen=True)
class Request:
    """What was asked for, checked: nothing is loaded yet.

    Args:
        config: the composed, resolved configuration as plain values.
        overrides: the command line that led to it.
        plugins: the files that were named, and the packages that it takes something from.
        hooks: called after each epoch, in this order.
        weights: a file or a run whose weights training begins with; None draws them.
        head: whether the last layer is drawn all the same.
    """

    config: dict[str, Any]
    overrides: tuple[str, ...]
    plugins: tuple[Plugin, ...]
    seed: int
    seeds: int
    resume: str | None
    expect: dict[str, Any]
    hooks: tuple[Component, ...]
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

    def of_seed(self, seed: int) -> "Request":
        """One of its runs, which differ in their seed; what is expected, is expected of their mean."""
        config = {**self.config, "seed": seed, "seeds": 1, "expect": {}, "resume": None}
        return replace(self, config=config, seed=seed, seeds=1, expect={}, resume=None)


def check(
    config: dict[str, Any],
    overrides: tuple[str, ...] = (),
    silent: Set[str] = frozenset(),
    plugins: tuple[Plugin, ...] = (),
) -> Request:
    """Holds a configuration against the schema and the constructors.

    Args:
        silent: groups whose faults say nothing.
        plugins: the files that were named.

    Raises:
        Faults: everything that is wrong, at once, and what is right; no line where only the silent groups are wrong.
    """
    paths = list(_paths(config))
    task, of_task, faults = _task(config, paths)
    own = {key: value for key, value in config.items() if key not in of_task}
    if "task" in silent:  # keys at the root may belong to the one that was meant
        faults, own = [], {key: value for key, value in own.items() if key in parameters(RunConfig)}
    parts, wrong = bind(RunConfig, own, "", also=(*of_task, "sweep", *EMPTY_GROUPS), elsewhere=paths)
    faults += wrong
    mappings: dict[str, Any] = {group: parts.pop(group) for group in REGISTRIES if group in parts}
    weights, head, wrong = _begin(mappings.get("model", {}))
    faults += wrong
    hooks, wrong = _hooks(parts.pop("hooks", []))
    faults += wrong
    parts["task"] = task
    if not wrong:
        parts["hooks"] = hooks
    shape = None
    # Looking a backend up imports it. What is as its file has it is right, since a test binds every file: it comes
    # last, and not at all where something else is already wrong.
    for group in sorted(REGISTRIES, key=lambda group: _as_shipped(group, mappings.get(group, {}))):
        values = mappings.get(group, {})
        if (faults or silent) and group in UNBUILT and _as_shipped(group, values):
            continue
        component, wrong = _component(group, REGISTRIES[group], values, paths)
        faults += wrong if group in mappings and group not in silent else ()
        if not wrong:
            parts[group] = component
        if component and group == "data":
            shape = shape_before_loading(component.target, component.arguments)
    sound = {name: part for name, part in parts.items() if name not in silent}
    faults += combinations.faults(sound, shape)
    if faults or silent:
        raise Faults(faults, sound)
    sources = [registry.added.get(parts[group].name) for group, registry in [*REGISTRIES.items(), ("task", TASKS)]]
    sources += [HOOKS.added.get(hook.name) for hook in hooks]
    sources += map(LAYERS.added.get, sorted(names(parts["model"].arguments.get("layers"))))
    plugins = tuple(dict.fromkeys((*plugins, *behind(sources))))
    return Request(config=config, overrides=overrides, plugins=plugins, weights=weights, head=head, **parts)


def _paths(config: Mapping[str, Any]) -> Iterator[str]:
    """Paths of all keys that there are, which an unknown one is compared with."""
    yield from (name for name in parameters(RunConfig) if name not in {**GROUPS, **REGISTRIES, "task": None})
    for group in (*GROUPS, *REGISTRIES):
        name = value_at(config, f"{group}.name")
        known = _shipped(group, str(name)) if group in REGISTRIES else None  # which imports nothing
        yield from (f"{group}.{key}" for key in known or options(group, name))


def options(group: str, name: Any) -> Mapping[str, Parameter]:
    """The parameters that a group's keys are for; none where there is no such group, or nothing of that name."""
    if group in REGISTRIES:
        target = REGISTRIES[group].get(name)
        return parameters(target, REGISTRIES[group].provided) if target else {}
    schema = {**GROUPS, "sweep": SweepConfig}.get(group)
    return parameters(schema) if schema else {}


def as_typed(config: dict[str, Any], typed: Mapping[str, Typed]) -> dict[str, str]:
    """Gives keys that take any text what was typed, where the grammar of values made something else of it or nothing: a
    name of digits alone, a file name with brackets. Returns the faults of unreadable values that stand, since their
    keys do not take any text; all are by key."""
    standing = {}
    for key, given in typed.items():
        value = value_at(config, key)
        if given.fault is None and isinstance(value, str | None):
            continue
        annotation = _annotation(config, key)
        if given.fault is None and takes_text(annotation) and not fits(value, annotation):
            set_value(config, key, given.text)
        elif given.fault and annotation is not None and not takes_text(annotation):  # else the key is unknown
            standing[key] = given.fault
    return standing


def _annotation(config: Mapping[str, Any], path: str) -> Any:
    """What a key takes; None for a key that configures nothing."""
    group, _, key = path.partition(".")
    if (group == "expect" and key) or (group == "model" and key in BEGIN):
        return str
    if not key:
        task = TASKS.get(config["task"].get("name"))
        known: Mapping[str, Parameter] = {**parameters(RunConfig), **(parameters(task, TASKS.provided) if task else {})}
        key = group
    else:
        known = options(group, value_at(config, f"{group}.name"))
    return known[key].annotation if key in known else None


def _task(config: dict[str, Any], paths: list[str]) -> tuple[Component | None, set[str], list[str]]:
    """The task, the keys at the root that are its arguments, and what is wrong with them."""
    name = config["task"].get("name")
    try:
        target = TASKS[name]
    except ConfigError as error:
        return None, set(), [f"task.name: {error}"]
    own = parameters(target, TASKS.provided)
    missing = [key for key in own if config.get(key) == MISSING]
    given = {key: value for key, value in config.items() if key in own and key not in missing}
    arguments, faults = bind(target, given, "", (*TASKS.provided, *missing))
    faults += [f"task={name} needs {key}=VALUE; odyssey-run --help task={name} says what it is" for key in missing]
    grouped = [(key, p.annotation) for key, p in own.items() if is_dataclass(p.annotation)]
    elsewhere = [*paths, *own, *(f"{key}.{field.name}" for key, group in grouped for field in fields(group))]
    faults += [unknown_key(k, "task", ["name"], elsewhere, v) for k, v in config["task"].items() if k != "name"]
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


def _hooks(values: list[Any]) -> tuple[tuple[Component, ...], list[str]]:
    hooks, faults = [], []
    for i, value in enumerate(values):
        value = {"name": value} if isinstance(value, str) else value
        if not isinstance(value, dict) or "name" not in value:
            faults.append(f"hooks[{i}]: expected the name of a hook, or a mapping with name: and options, got {value}")
            continue
        hook, wrong = _component(f"hooks[{i}]", HOOKS, value)
        faults += wrong
        hooks += [hook] if hook else []
    return tuple(hooks), faults


def _as_shipped(group: str, values: Mapping[str, Any]) -> bool:
    return _shipped(group, str(values.get("name"))) == values


@cache
def _shipped(group: str, name: str) -> dict[str, Any] | None:
    file = HOUSE / group / f"{name}.yaml"
    return yaml.safe_load(file.read_text()) if name in REGISTRIES[group] and file.is_file() else None


def _component(
    group: str, registry: Registry, values: Mapping[str, Any], paths: Sequence[str] = ()
) -> tuple[Component | None, list[str]]:
    name, also = values.get("name"), BEGIN if group == "model" else ()
    if name is None:
        return None, [f"{group}.name: the file has no name:, which says what to make; known: {', '.join(registry)}"]
    try:
        target = registry[name]
    except ConfigError as error:
        return None, [f"{group}.name: {error}"]
    arguments = {key: value for key, value in values.items() if key not in ("name", *also)}
    arguments, faults = bind(target, arguments, group, registry.provided, also, paths)
    return Component(name, target, arguments, registry.makes if name in registry.added else None), faults
