"""``model=layers``: a model from a list of layers, as a configuration states one.

    [conv 32 3 padding 1, batch_norm, relu, max_pool 2, flatten, linear 120, relu, linear classes]

A layer is a text: its name in `LAYERS`, values for its first options in order, then pairs of an option and a value. The
shapes of what it takes are inferred. A block is a mapping: ``{residual: [layers], shortcut: [layers]}`` adds the two,
``{repeat: 3, layers: [layers]}`` stands for its layers three times.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from inspect import Parameter, signature
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from odyssey_core import ops
from odyssey_core.errors import ConfigError, OdysseyError, ShapeError, shortened
from odyssey_core.fitting import Check, Misfit, describe, fit
from odyssey_core.nn import INITIALIZERS, LAYERS, Module, Sequential
from odyssey_core.ranges import Count
from odyssey_core.registry import nearest
from odyssey_core.tensor import Shape, Tensor

INFERRED = ("in_channels", "in_features")  # of a layer's arguments, from the shape of what comes before it
CLASSES = "classes"  # as a value: how many the data have
STEMS = {"linear": "fc", "batch_norm": "bn"}  # what names begin with, where it is not the layer's own
BLOCKS = {"residual": ("residual", "shortcut", "name"), "repeat": ("repeat", "layers")}
EXAMPLE = "conv 32 3 padding 1"
MOST = 1000  # layers
_NAME = re.compile(r"\w+(\.\w+)*")
_SIZES = re.compile(r"\d+(x\d+)+")


@dataclass(frozen=True)
class Layer:
    """A layer as it was written, read.

    Attributes:
        path: in the configuration, ``model.layers[3]``.
        text: as it was written.
        name: in the model.
        kind: makes it.
        arguments: but for those that are inferred.
    """

    path: str
    text: str
    name: str
    kind: Callable[..., Module]
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Residual:
    """A block as it was written, read: its layers and those of the shortcut, where there are any."""

    path: str
    name: str
    layers: list["Layer | Residual"]
    shortcut: list["Layer | Residual"]


class Sum(Module):
    """The sum of what some layers make of x and of what others make of it, which is x itself without any.

    Args:
        layers: by name.
        shortcut: by name.
    """

    def __init__(self, layers: Mapping[str, Module], shortcut: Mapping[str, Module]):
        self.layers, self.shortcut = Sequential(layers), Sequential(shortcut)

    def children(self) -> Iterator[tuple[str, Module]]:
        yield from self.layers.children()
        yield from ((f"shortcut.{name}", layer) for name, layer in self.shortcut.children())

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + self.shortcut(x)


def layers(
    input_shape: Shape,
    classes: int,
    *,
    layers: Annotated[Sequence[Any], Check(lambda value, path: read(value, path)[1])],
    init: str = "kaiming",
) -> Sequential:
    """The layers of a list one after the other.

    Args:
        input_shape: (C, H, W) of the data.
        classes: number of the data's classes.
        layers: texts and blocks, see above; the last gives (classes,).
        init: initializer of every layer that has weights and names none: kaiming, kaiming_normal, xavier,
            lecun, pytorch or dirac.

    Raises:
        ConfigError: everything that is wrong with the list, a line each.
        ShapeError: a layer that cannot take what the one before it gives.
    """
    INITIALIZERS[init]
    entries, faults = read(layers, "model.layers", classes)
    if faults:
        raise ConfigError("\n".join(faults))
    modules, result = _build(entries, ops.images((1, *input_shape)), init)
    if result.shape != (1, classes):
        raise ShapeError(
            f"model.layers: the last layer gives {_shown(result)}, expected the data's {classes} classes; end with "
            f"{'linear classes' if len(result.shape) == 2 else 'flatten or global_avg_pool, then linear classes'}"
        )
    return Sequential(modules)


def read(value: Sequence[Any], path: str, classes: int = 2) -> tuple[list[Layer | Residual], list[str]]:
    """What a list of layers says.

    Args:
        value: texts and mappings.
        path: of it in the configuration, for messages.
        classes: of the data.

    Returns:
        The layers, and one line for every fault.
    """
    reader = _Reader(classes)
    entries = reader.entries(value, path, _Names())
    return entries, reader.faults


def names(value: Any) -> set[str]:
    """The names of layers that texts anywhere in a list of layers begin with."""
    if isinstance(value, str):
        return set(value.split()[:1])
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return set().union(*map(names, inner))


@dataclass
class _Names:
    """The names of the layers of one list, so that none is given twice."""

    count: Counter[str] = field(default_factory=Counter)
    paths: dict[str, str] = field(default_factory=dict)

    def next(self, stem: str) -> str:
        """``conv3`` for the third of its kind, whether or not the others have names of their own."""
        self.count[stem] += 1
        return f"{stem}{self.count[stem]}"


@dataclass
class _Reader:
    """Reads lists of layers; collects what is wrong with them."""

    classes: int
    faults: list[str] = field(default_factory=list)
    left: int = MOST

    def entries(self, value: Any, path: str, names: _Names) -> list[Layer | Residual]:
        if not isinstance(value, list | tuple) or not value:
            self._fault(path, f"expected a list of layers such as [{EXAMPLE}, relu], got {_got(value)}")
            return []
        return [entry for i, each in enumerate(value) for entry in self._entry(each, f"{path}[{i}]", names)]

    def _entry(self, value: Any, path: str, names: _Names) -> list[Layer | Residual]:
        self.left -= 1
        if self.left < 0:
            if self.left == -1:
                self._fault(path, f"more than {MOST:,} layers")
            return []
        if isinstance(value, str) and value.strip():
            return self._layer(value, path, names)
        if isinstance(value, Mapping):
            return self._block(value, path, names)
        self._fault(path, f"expected a layer such as '{EXAMPLE}' or a block, got {_got(value)}")
        return []

    def _block(self, value: Mapping[str, Any], path: str, names: _Names) -> list[Layer | Residual]:
        kind = next((kind for kind in BLOCKS if kind in value), None)
        if kind is None:
            keys = ", ".join(map(str, value))
            self._fault(
                path, f"expected a block with residual: or repeat:, got {keys}; a layer is a text such as '{EXAMPLE}'"
            )
            return []
        for key in value:
            if key not in BLOCKS[kind]:
                near = nearest(str(key), BLOCKS[kind])
                hint = f"; did you mean {near}?" if near else ""
                self._fault(f"{path}.{key}", f"unknown key; this block has {', '.join(BLOCKS[kind])}{hint}")
        if kind == "repeat":
            times = self._fit(value["repeat"], Count, f"{path}.repeat")
            found = []
            for _ in range(times or 1):
                before = len(self.faults)
                found += self.entries(value.get("layers"), f"{path}.layers", names)
                if self.faults[before:]:  # the same as they would be the next time
                    break
            return found
        name = self._name(value.get("name"), "block", path, names)
        body = self.entries(value["residual"], f"{path}.residual", _Names())
        shortcut = value.get("shortcut")
        around = [] if shortcut is None else self.entries(shortcut, f"{path}.shortcut", _Names())
        return [Residual(path, name, body, around)]

    def _layer(self, text: str, path: str, names: _Names) -> list[Layer | Residual]:
        kind, *words = text.split()
        try:
            target = LAYERS[kind]
        except ConfigError as error:
            self._fault(path, str(error))
            return []
        options = _options(target)
        arguments = self._arguments(kind, words, options, path)
        name = self._name(arguments.pop("name", None), STEMS.get(kind, kind), path, names)
        for option, parameter in options.items():
            if option not in arguments and parameter.default is Parameter.empty:
                self._fault(f"{path}.{option}", f"expected {_expected(parameter)}, got nothing in {shortened(text)!r}")
        return [Layer(path, text, name, target, arguments)]

    def _arguments(
        self, kind: str, words: Sequence[str], options: Mapping[str, Parameter], path: str
    ) -> dict[str, Any]:
        """Values by option, those of the first options first, then pairs."""
        rest, arguments = list(words), {}
        for option, parameter in options.items():
            if not rest or rest[0] in (*options, "name") or (_is_word(rest[0]) and not _takes_text(parameter)):
                break
            arguments[option] = self._value(rest.pop(0), parameter, f"{path}.{option}")
        while rest:
            if not _is_word(rest[0]):
                self._fault(path, f"{rest.pop(0)} is a value of no option; {_known(kind, options)}")
                continue
            option, *values = rest[:2]
            del rest[:2]
            if option in arguments:
                self._fault(f"{path}.{option}", "is given twice")
            elif option == "name":
                arguments["name"] = values[0] if values else ""
            elif option not in options:
                near = nearest(option, [*options, "name"])
                hint = f"; did you mean {near}?" if near else ""
                self._fault(f"{path}.{shortened(option)}", f"unknown option; {_known(kind, options)}{hint}")
            elif not values:
                self._fault(f"{path}.{option}", f"expected {_expected(options[option])}, got nothing")
                arguments[option] = None
            else:
                arguments[option] = self._value(values[0], options[option], f"{path}.{option}")
        return arguments

    def _value(self, word: str, parameter: Parameter, path: str) -> Any:
        value = self.classes if word == CLASSES and not _takes_text(parameter) else _meaning(word, parameter)
        return self._fit(value, parameter.annotation, path, _expected(parameter), word)

    def _fit(self, value: Any, annotation: Any, path: str, expected: str | None = None, word: str | None = None) -> Any:
        try:
            return fit(value, annotation)
        except Misfit as misfit:
            self._fault(path, f"expected {expected or misfit}, got {shortened(word) if word else _got(value)}")
            return None

    def _name(self, given: Any, stem: str, path: str, names: _Names) -> str:
        made = names.next(stem)
        if given is not None and not (isinstance(given, str) and _NAME.fullmatch(given)):
            self._fault(f"{path}.name", f"expected letters, digits, _ and dots between them, got {_got(given)}")
            return made
        name = given or made
        if before := names.paths.get(name):
            self._fault(f"{path}.name", f"{name} is the name of {before} already; give another")
        names.paths[name] = path
        return name

    def _fault(self, path: str, text: str) -> None:
        self.faults.append(f"{path}: {text}")


@cache
def _options(target: Callable[..., Module]) -> dict[str, Parameter]:
    """The arguments of a layer that a text may give."""
    hints = get_type_hints(
        target.__init__ if isinstance(target, type) else target,  # type: ignore[misc]
        include_extras=True,
    )
    return {
        name: parameter.replace(annotation=hints.get(name, parameter.annotation))
        for name, parameter in signature(target).parameters.items()
        if name not in INFERRED
    }


def _known(kind: str, options: Mapping[str, Parameter]) -> str:
    return f"{kind} has {', '.join(options) or 'no options'}"


def _takes_text(parameter: Parameter) -> bool:
    return str in (parameter.annotation, *get_args(parameter.annotation))


def _is_word(text: str) -> bool:
    """Whether it is the name of an option rather than a value."""
    return text[0].isalpha() and text not in ("true", "false", "null", "inf", "nan", CLASSES)


def _meaning(word: str, parameter: Parameter) -> Any:
    """What a word is as a value: 3, 3x5, 0.5, true, null; text where an option takes text."""
    if word in ("true", "false", "null") and not (word != "null" and _takes_text(parameter)):
        return {"true": True, "false": False, "null": None}[word]
    if _takes_text(parameter) or _is_word(word):
        return word
    if _SIZES.fullmatch(word):
        return tuple(map(int, word.split("x")))
    for number in (int, float):
        try:
            return number(word)
        except ValueError:
            continue
    return word


def _expected(parameter: Parameter) -> str:
    """What an option takes, in words; a tuple is written with x."""
    choices = get_args(parameter.annotation)
    pair = next((choice for choice in choices if get_origin(choice) is tuple), None)
    if pair is None:
        return describe(parameter.annotation)
    others = [describe(choice) for choice in choices if choice is not pair]
    return f"{' or '.join(others)}, or {len(get_args(pair))} of them as in 3x5"


def _got(value: Any) -> str:
    return "nothing" if value is None else shortened(f"the text {value!r}" if isinstance(value, str) else str(value))


def _build(entries: Sequence[Layer | Residual], x: Tensor, init: str) -> tuple[dict[str, Module], Tensor]:
    """The modules by name, and what they make of x."""
    modules: dict[str, Module] = {}
    for entry in entries:
        modules[entry.name], x = _sum(entry, x, init) if isinstance(entry, Residual) else _layer(entry, x, init)
    return modules, x


def _layer(layer: Layer, x: Tensor, init: str) -> tuple[Module, Tensor]:
    where = f"{layer.path} ({shortened(layer.text)})"
    takes = signature(layer.kind).parameters
    given = {"init": init, **layer.arguments} if "init" in takes else layer.arguments
    inferred = {name: x.shape[1] for name in INFERRED if name in takes}
    if ("in_channels" in takes and len(x.shape) != 4) or ("in_features" in takes and len(x.shape) != 2):
        needs = "(channels, height, width)" if "in_channels" in takes else "(features,); put flatten before it"
        raise ShapeError(f"{where}: takes values of shape {needs}, got {_shown(x)}")
    try:
        module = layer.kind(**inferred, **given)
        return module, module(x)
    except OdysseyError as error:
        raise ShapeError(f"{where}: {error}") from error


def _sum(block: Residual, x: Tensor, init: str) -> tuple[Module, Tensor]:
    layers, result = _build(block.layers, x, init)
    shortcut, passed = _build(block.shortcut, x, init)
    if result.shape != passed.shape:
        raise ShapeError(
            f"{block.path}: the residual layers give {_shown(result)}, and the shortcut {_shown(passed)}; give "
            f"shortcut: a list of layers that makes {_shown(result)} of {_shown(x)}, such as [conv {result.shape[1]} 1]"
        )
    module = Sum(layers, shortcut)
    return module, module(x)


def _shown(x: Tensor) -> str:
    return "×".join(map(str, x.shape[1:]))
