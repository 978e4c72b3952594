"""What a notebook gives as objects, in the form in which a command would name it: overrides, and plug-ins."""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from odyssey_core.errors import ConfigError, shortened
from odyssey_core.nn import Module
from odyssey_run.api.arrays import overrides_of
from odyssey_run.api.written import plugin_of
from odyssey_run.config.plugins import Plugin
from odyssey_run.training.hooks import Hook


@dataclass(frozen=True)
class Given:
    """What stands for objects in a command: overrides, and the plug-ins that they name."""

    overrides: tuple[str, ...] = ()
    plugins: tuple[Plugin, ...] = ()


def given(overrides: Sequence[str], model: Any, data: Any, hooks: Any) -> Given:
    """Makes plug-ins of code, and a file of arrays.

    Args:
        overrides: as they were typed; what an object gives cannot be typed too.
        model: a class derived from `Module` or a function that returns one; None for none.
        data: arrays, a data set or a function that returns one, see `arrays.overrides_of`; None for none.
        hooks: classes derived from `Hook` or objects of such; None for none.

    Raises:
        OdysseyError: something else, or an object whose source or whose options cannot be recorded.
    """
    for name, value in (("model", model), ("data", data), ("hooks", hooks)):
        if value is not None and any(text.partition("=")[0] == name for text in overrides):
            raise ConfigError(f"{name} is given twice: as an argument and as an override; leave one of them out")
    found = Given()
    if model is not None:
        _check_model(model)
        found = Given((f"model={model.__name__}",), (plugin_of("model", model),))
    if isinstance(data, FunctionType):
        found = Given((*found.overrides, f"data={data.__name__}"), (*found.plugins, plugin_of("dataset", data)))
    elif data is not None:
        values = [f"{key}={_written(value)}" for key, value in overrides_of(data).items()]
        typed = {text.partition("=")[0] for text in overrides}
        values = [text for text in values if text.partition("=")[0] not in typed]
        found = Given((*found.overrides, "data=npz", *values), found.plugins)
    if hooks is not None:
        found = _with_hooks(found, hooks)
    return found


def _check_model(model: Any) -> None:
    if isinstance(model, str):
        raise ConfigError(
            f'model: expected a class or a function; a model that has a name is "model={shortened(model)}"'
        )
    if isinstance(model, Module):
        name = type(model).__name__
        raise ConfigError(f"model: expected the class itself, model={name}; its options are overrides, model.width=8")
    if not (isinstance(model, FunctionType) or (inspect.isclass(model) and issubclass(model, Module))):
        raise ConfigError(
            f"model: expected a class derived from odyssey_core.Module or a function that returns one, got "
            f"{shortened(repr(model))}"
        )


def _with_hooks(found: Given, hooks: Any) -> Given:
    if not isinstance(hooks, list | tuple):
        raise ConfigError(f"hooks: expected a list, got {shortened(repr(hooks))}; one alone is hooks=[...]")
    plugins: dict[type, Plugin] = {}
    texts = []
    for i, hook in enumerate(hooks):
        kind = hook if inspect.isclass(hook) else type(hook)
        if not issubclass(kind, Hook):
            raise ConfigError(
                f"hooks[{i}]: expected a class derived from odyssey_run.Hook or an object of one, got "
                f"{shortened(repr(hook))}"
            )
        options = {} if inspect.isclass(hook) else _options(hook, f"hooks[{i}]")
        texts.append(_written({"name": kind.__name__, **options}))
        plugins[kind] = plugins.get(kind) or plugin_of("hook", kind)
    return Given((*found.overrides, f"hooks=[{', '.join(texts)}]"), (*found.plugins, *plugins.values()))


def _options(hook: Hook, path: str) -> dict[str, Any]:
    """The options that an object was made with. Raises ConfigError: it has not kept one, or one is no plain value."""
    options = {}
    for name in inspect.signature(type(hook)).parameters:
        if name not in vars(hook):
            kind = type(hook).__name__
            raise ConfigError(
                f"{path}: {kind} does not say what {name} it was made with; keep it as self.{name}, so that it can be "
                "recorded"
            )
        options[name] = vars(hook)[name]
        if not _is_plain(options[name]):
            raise ConfigError(f"{path}.{name}: expected a plain value, got {shortened(repr(options[name]))}")
    return options


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    return value is None or isinstance(value, bool | int | float | str)


def _written(value: Any) -> str:
    """A plain value in the grammar of overrides."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):  # backslashes mean themselves, but for those in front of a quote
        return "'" + re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + m[2].replace("'", "\\'"), value) + "'"
    return repr(int(value) if isinstance(value, int) else float(value))
