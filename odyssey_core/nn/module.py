"""What every layer is: a callable on graph nodes with a tree of named parameters."""

from collections.abc import Iterator, Mapping

from odyssey_core.tensor import Tensor


class Module:
    """A layer or a model. Parameters and sub-modules are its attributes; their names make the parameter's path."""

    def __call__(self, x: Tensor) -> Tensor:
        """The node computed from ``x``."""
        raise NotImplementedError

    def children(self) -> Iterator[tuple[str, "Module | Tensor"]]:
        """Parameters and sub-modules, in the order in which they were assigned."""
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Module | Tensor))

    def parameters(self) -> dict[str, Tensor]:
        """Every parameter of the tree by its dotted path, ``{"conv1.weight": ...}``; a shared one by its first path."""
        found: dict[Tensor, str] = {}
        for name, value in self.children():
            inner = {"": value} if isinstance(value, Tensor) else value.parameters()
            for path, x in inner.items():
                found.setdefault(x, f"{name}.{path}" if path else name)
        return {path: x for x, path in found.items()}


class Sequential(Module):
    """Modules called one after the other, each under its name."""

    def __init__(self, layers: Mapping[str, Module]):
        self.layers = dict(layers)

    def children(self) -> Iterator[tuple[str, Module]]:
        return iter(self.layers.items())

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self.layers.values():
            x = layer(x)
        return x
