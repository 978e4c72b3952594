"""What a notebook gives as objects, in the form in which a command would name it: overrides, and plug-ins.

Arrays become a file that ``data=npz`` reads, in the cache under the digest of what it holds: the same arrays are
the same file, so a run that was made with them is continued, verified and swept like any other, and giving them again
brings a file back that was deleted.
"""

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any

import numpy as np

from odyssey_core.data.dataset import Dataset, upright
from odyssey_core.errors import ConfigError, DataError, shortened
from odyssey_core.files import atomic_file
from odyssey_core.nn import Module
from odyssey_core.places import cache_home
from odyssey_run.api.written import plugin_of
from odyssey_run.config.binding import plain
from odyssey_run.config.plugins import Plugin
from odyssey_run.runs.command import quoted
from odyssey_run.training.hooks import Hook

EXPECTED = "(images, labels), ((images, labels), (test images, test labels)), a Dataset, or a function that returns one"


def given(overrides: Sequence[str], model: Any, data: Any, hooks: Any) -> tuple[list[str], list[Plugin]]:
    """What stands for objects in a command: overrides, and the plug-ins that they name.

    The objects are as `api.train` takes them, None for none; what one gives cannot be typed too.

    Raises:
        OdysseyError: something else, or an object whose source or whose options cannot be recorded.
    """
    typed = {text.partition("=")[0] for text in overrides}
    for name, value in (("model", model), ("data", data), ("hooks", hooks)):
        if value is not None and name in typed:
            raise ConfigError(f"{name} is given twice: as an argument and as an override; leave one of them out")
    texts, plugins = list[str](), list[Plugin]()
    if model is not None:
        _check_model(model)
        texts.append(f"model={model.__name__}")
        plugins.append(plugin_of("model", model))
    if isinstance(data, FunctionType):
        texts.append(f"data={data.__name__}")
        plugins.append(plugin_of("dataset", data))
    elif data is not None:
        values = _overrides_of(data)
        texts += ["data=npz", *(f"{key}={_written(value)}" for key, value in values.items() if key not in typed)]
    if hooks is not None:
        options = _options_of_hooks(hooks)
        texts.append(f"hooks=[{', '.join(_written({'name': kind.__name__, **own}) for kind, own in options)}]")
        plugins += [plugin_of("hook", kind) for kind in dict.fromkeys(kind for kind, _ in options)]
    return texts, plugins


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


def _options_of_hooks(hooks: Any) -> list[tuple[type[Hook], dict[str, Any]]]:
    """The class of each hook, and the options that it was made with."""
    if not isinstance(hooks, list | tuple):
        raise ConfigError(f"hooks: expected a list, got {shortened(repr(hooks))}; one alone is hooks=[...]")
    found = []
    for i, hook in enumerate(hooks):
        kind = hook if inspect.isclass(hook) else type(hook)
        if not issubclass(kind, Hook):
            expected = "a class derived from odyssey_run.Hook or an object of one"
            raise ConfigError(f"hooks[{i}]: expected {expected}, got {shortened(repr(hook))}")
        found.append((kind, {} if hook is kind else _options(hook, f"hooks[{i}]")))
    return found


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
        try:
            options[name] = plain(vars(hook)[name])
        except TypeError:
            got = shortened(repr(vars(hook)[name]))
            raise ConfigError(f"{path}.{name}: expected a plain value, got {got}") from None
    return options


def _overrides_of(data: Any) -> dict[str, Any]:
    """Values of overrides by key, which stand for arrays or for all of a `Dataset` but its preparation.

    Raises:
        DataError: something else, or arrays that are no images and labels.
    """
    if isinstance(data, Dataset):
        cut = len(data.train) - data.validation
        pixels, labels = upright(data.train.pixels, data.orientation), data.train.labels
        arrays = {"x_train": pixels[:cut], "y_train": labels[:cut]}
        arrays |= {"x_val": pixels[cut:], "y_val": labels[cut:]} if data.validation else {}
        arrays |= {"x_test": data.upright_test.pixels, "y_test": data.upright_test.labels}
        augment = None if data.augment is None else dict(vars(data.augment))
        settings = {"classes": data.class_names, "mean": data.mean, "std": data.std, "augment": augment}
        return {"data.file": _stored(arrays), **{f"data.{name}": value for name, value in settings.items()}}
    if not isinstance(data, tuple) or len(data) != 2:
        raise DataError(f"data: expected {EXPECTED}, got {shortened(type(data).__name__)}")
    parts = data if all(isinstance(part, tuple) and len(part) == 2 for part in data) else (data,)
    arrays = {}
    for (x, y), part in zip((("x_train", "y_train"), ("x_test", "y_test")), parts, strict=False):
        arrays[x], arrays[y] = _checked(*part)
    return {"data.file": _stored(arrays)}


def _checked(images: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images and labels of a kind that a file holds."""
    pixels, classes = np.asarray(images), np.asarray(labels)
    if (
        pixels.dtype.kind not in "iu"
        or pixels.ndim not in (3, 4)
        or (pixels.size and not 0 <= pixels.min() <= pixels.max() <= 255)
    ):
        raise DataError(
            "data: images: expected whole numbers from 0 to 255, (N, H, W), (N, H, W, C) or (N, C, H, W), got "
            f"{_kind(pixels)}; pixels from 0 to 1 are made of these by (255 * images).round().astype('uint8')"
        )
    if classes.ndim != 1 or classes.dtype.kind not in "iuU":
        raise DataError(f"data: labels: expected whole numbers or names, (N,), got {_kind(classes)}")
    if len(classes) != len(pixels) or not len(pixels):
        raise DataError(f"data: expected one label an image, got {len(pixels)} images and {len(classes)} labels")
    return pixels.astype(np.uint8), classes


def _kind(array: np.ndarray) -> str:
    values = f" from {array.min():g} to {array.max():g}" if array.size and array.dtype.kind in "iuf" else ""
    return f"{array.dtype} of shape {array.shape}{values}"


def _stored(arrays: Mapping[str, np.ndarray]) -> str:
    sha = hashlib.sha256()
    for name, array in arrays.items():
        sha.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array).data)
    path = cache_home() / "arrays" / f"arrays-{sha.hexdigest()[:16]}.npz"
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path, durable=False) as file:
                np.savez(file, **dict[str, Any](arrays))
        except OSError as error:
            raise DataError(
                f"data: cannot write {path} ({error.strerror or error}); set ODYSSEY_CACHE elsewhere"
            ) from None
    return str(path)


def _written(value: Any) -> str:
    """A plain value in the grammar of overrides."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_written(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return quoted(value)
    return repr(int(value) if isinstance(value, int) else float(value))
