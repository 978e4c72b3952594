"""What every layer is: a callable on graph nodes with a tree of named parameters and buffers."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from odyssey_core.errors import ConfigError
from odyssey_core.ops import leaves
from odyssey_core.tensor import Op, Tensor

# How often each path was called in the model that is being called; None where none is.
_calls: ContextVar[Counter[str] | None] = ContextVar("calls", default=None)


class Module:
    """A layer or a model: a subclass keeps its parameters and sub-modules as attributes and defines `forward`.

    Attributes that are lists, tuples or mappings of modules are searched as well. The names on the way make a path:
    ``self.blocks = [Block(), ...]`` gives ``blocks.0.conv1.weight``.

    Attributes:
        path: where the module stands in the tree of the model that was called last; "" for the model itself.
        call: which call of this path it is in that model, counted from 1.
    """

    path: str = ""
    call: int = 0

    def __init_subclass__(cls) -> None:
        if "__call__" in vars(cls):
            raise TypeError(f"{cls.__name__}: define forward(self, x); __call__ belongs to Module")

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The node computed from the inputs by `forward`."""
        calls = _calls.get()
        if calls is None:
            for path, module in self.modules():
                module.path = path
            token = _calls.set(Counter())
            try:
                return self(*inputs)
            finally:
                _calls.reset(token)
        calls[self.path] += 1
        self.call = calls[self.path]
        return self.forward(*inputs)

    def _undefined(self, *inputs: Tensor) -> Tensor:
        """The node computed from the inputs; defined by each layer and model."""
        raise ConfigError(f"{type(self).__name__}: define forward(self, x), which returns what the model makes of x")

    forward: Callable[..., Tensor] = _undefined

    def children(self) -> Iterator[tuple[str, "Module | Tensor"]]:
        """Parameters, buffers and sub-modules with their names, in the order in which they were assigned."""
        return _members(vars(self).items(), "")

    def modules(self, path: str = "", above: tuple["Module", ...] = ()) -> Iterator[tuple[str, "Module"]]:
        """This module and every one below it with its path, a shared one by its last path.

        Raises:
            ConfigError: a module contains itself, or one of those above it.
        """
        if any(self is module for module in above):
            raise ConfigError(f"{type(above[0]).__name__}: {path} is a module that contains it; assign another to it")
        yield path, self
        for name, value in self.children():
            if isinstance(value, Module):
                yield from value.modules(f"{path}.{name}" if path else name, (*above, self))

    def parameters(self) -> dict[str, Tensor]:
        """What is trained, by path: ``{"conv1.weight": ...}``; a shared parameter by its first path."""
        return self._leaves(leaves.PARAMETER)

    def buffers(self) -> dict[str, Tensor]:
        """What is kept with the parameters without being trained, by path: ``{"bn1.running_mean": ...}``."""
        return self._leaves(leaves.BUFFER)

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers by path: all values that the model needs, in the order of the tree."""
        return self._leaves(leaves.PARAMETER, leaves.BUFFER)

    def _leaves(self, *kinds: Op) -> dict[str, Tensor]:
        found: dict[Tensor, str] = {}
        for path, module in self.modules():
            for name, value in module.children():
                if isinstance(value, Tensor) and value.op in kinds:
                    found.setdefault(value, f"{path}.{name}" if path else name)
        return {path: x for x, path in found.items()}


def makers(model: Module, x: Tensor) -> tuple[Tensor, dict[int, str]]:
    """Calls a model and watches its modules.

    Args:
        model: the whole.
        x: what it takes.

    Returns:
        Its result, and by the serial of every node that was made the path of the innermost module that made it.
    """
    paths: dict[int, str] = {}

    def watched(path: str, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*inputs: Tensor) -> Tensor:
            first = Tensor.made()
            result = forward(*inputs)
            paths.update({serial: path for serial in range(first, Tensor.made()) if serial not in paths})
            return result

        return call

    watching = list(model.modules())
    for path, module in watching:
        vars(module)["forward"] = watched(path, module.forward)
    try:
        return model(x), paths
    finally:
        for _, module in watching:
            vars(module).pop("forward", None)


def _members(items: Iterable[tuple[Any, Any]], prefix: str) -> Iterator[tuple[str, "Module | Tensor"]]:
    for key, value in items:
        if value is None or isinstance(value, (int, float, str)):  # most are: sizes, which cost as much as all else
            continue
        name = f"{prefix}{key}"
        if isinstance(value, Module | Tensor):
            yield name, value
        elif isinstance(value, Mapping):
            yield from _members(value.items(), f"{name}.")
        elif isinstance(value, list | tuple):
            yield from _members(enumerate(value), f"{name}.")


class Sequential(Module):
    """Modules called one after the other.

    Args:
        layers: the modules by name, or a list, whose names are 0, 1, 2, ...
    """

    def __init__(self, layers: Mapping[str, Module] | Iterable[Module]):
        self.layers = dict(layers) if isinstance(layers, Mapping) else {str(i): x for i, x in enumerate(layers)}

    def children(self) -> Iterator[tuple[str, Module]]:
        return iter(self.layers.items())

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers.values():
            x = layer(x)
        return x
