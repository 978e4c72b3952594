"""The reference backend: walks the graph node by node with plain NumPy, in float32 or float64."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from inspect import signature
from typing import Any, Literal

import numpy as np

from odyssey_core.backends.base import NO_BUFFERS, Feed, FeedBounds, input_nodes, require_ops
from odyssey_core.backends.numpy.functions import FUNCTIONS
from odyssey_core.errors import ConfigError
from odyssey_core.ops.leaves import IMAGES
from odyssey_core.optim import PLAIN, StepRule, Update, WholeRule
from odyssey_core.optim.muon import orthogonalized
from odyssey_core.tensor import Tensor, topological


@cache  # a step asks for every node
def _arguments(function: Callable[..., np.ndarray]) -> frozenset[str]:
    return frozenset(signature(function).parameters)


class NumpyBackend:
    """Plain and slow, to be read and to hold the others to.

    Args:
        dtype: "float32" or "float64".

    Raises:
        ConfigError: another dtype.
    """

    threads = 1

    def __init__(self, dtype: Literal["float32", "float64"] = "float32"):
        if dtype not in ("float32", "float64"):
            raise ConfigError(f"backend.dtype: expected float32 or float64, got {dtype!r}")
        self.dtype = np.dtype(dtype)

    def describe(self) -> str:
        """One line for people."""
        return f"numpy, {self.dtype} (reference)"

    def compile(
        self,
        outputs: Sequence[Tensor],
        parameters: dict[str, Tensor],
        updates: Sequence[Update] = (),
        rule: StepRule = PLAIN,
        buffers: Mapping[str, Tensor] = NO_BUFFERS,
    ) -> "Interpreter":
        """See `Backend.compile`."""
        return Interpreter(list(outputs), dict(parameters), list(updates), rule, dict(buffers), self.dtype)

    def prepare(self, output: Tensor, parameters: dict[str, Tensor]) -> "PreparedInterpreter":
        """See `Backend.prepare`."""
        return PreparedInterpreter(self.compile([output], parameters), output)

    def memory(
        self,
        outputs: Sequence[Tensor],
        parameters: Mapping[str, Tensor],
        updates: Sequence[Update] = (),
        rule: StepRule = PLAIN,
        buffers: Mapping[str, Tensor] = NO_BUFFERS,
    ) -> dict[str, int]:
        """See `Backend.memory`; all values of a step are kept to its end."""
        nodes = topological([*outputs, *(u.grad for u in updates), *buffers.values()])
        held = [*parameters.values(), *(u.parameter for u in updates for _ in rule.all_slots(u))]
        sizes = {"parameters and slots": held, "values": [x for x in nodes if x not in parameters.values()]}
        return {name: self.dtype.itemsize * sum(int(np.prod(x.shape)) for x in each) for name, each in sizes.items()}

    def require(self, outputs: Sequence[Tensor]) -> None:
        """See `Backend.require`."""
        own = {node.op.name for node in topological(outputs) if node.op.numpy}
        require_ops("numpy", "function", outputs, FUNCTIONS.keys() | own)


@dataclass(eq=False)
class Interpreter:
    """See `backends.base.Executable`."""

    outputs: list[Tensor]
    parameters: dict[str, Tensor]
    updates: list[Update]
    rule: StepRule
    buffers: dict[str, Tensor]
    dtype: np.dtype

    def __post_init__(self) -> None:
        self.order = topological([*self.outputs, *(u.grad for u in self.updates), *self.buffers.values()])
        self.inputs = input_nodes(self.outputs, self.updates)
        self.bounds = FeedBounds.of(self.outputs, self.updates, self.rule)
        shapes = {name: p.shape for name, p in self.parameters.items()}
        for u in self.updates:
            shapes |= {f"{u.name}/{slot}": u.parameter.shape for slot in self.rule.all_slots(u)}
        self.state = {name: np.zeros(shape, self.dtype) for name, shape in shapes.items()}

    def read(self) -> dict[str, np.ndarray]:
        return {name: value.copy() for name, value in self.state.items()}

    def write(self, values: Mapping[str, np.ndarray]) -> None:
        for name, value in values.items():
            self.state[name][...] = value

    def run(self, feed: Feed) -> np.ndarray:
        self.bounds.check(feed)
        columns = sum(int(np.prod(x.shape[1:])) for x in self.outputs)
        results = np.zeros((*feed.order.shape, columns), np.float32)
        for t, order in enumerate(feed.order):
            now = replace(feed, order=order, inputs=None if feed.inputs is None else feed.inputs[t])
            values = self.values(now)
            if columns:
                results[t] = np.concatenate([values[x].reshape(len(order), -1) for x in self.outputs], axis=1)
            self._update(values, {name: self.dtype.type(each[t]) for name, each in feed.scalars.items()})
            self.state |= {name: values[node].astype(self.dtype) for name, node in self.buffers.items()}
        return results

    def _update(self, values: dict[Tensor, np.ndarray], numbers: dict[str, np.floating]) -> None:
        """Applies the rules to the gradients of a step."""
        norms = [self._norm(values[u.grad]) for u in self.updates]
        given = numbers | {"all_gradients_norm": self._norm(np.array(norms, self.dtype))}
        for u in self.updates:
            g, (*before, last) = values[u.grad], self.rule.stages(u.optimizer, u.group)
            for stage in before:
                g = self._apply(stage, u, g, given)
                g = orthogonalized(g) if u.orthogonal else g
            self.state[u.name] = self._apply(last, u, g, given)

    def _apply(self, rule: WholeRule, u: Update, g: np.ndarray, given: Mapping[str, np.floating]) -> np.ndarray:
        """Changes the slots of a parameter, and returns what the rule gives."""
        p, keys = self.state[u.name], [f"{u.name}/{slot}" for slot in rule.slots]
        constants = {name: self.dtype.type(value) for name, value in rule.constants.items()}
        own = {name: given[column] for name, column in rule.columns.items()}
        asked = {"parameter_norm": self._norm(p), "gradient_norm": self._norm(g)}
        slots = tuple(self.state[key] for key in keys)
        result, *changed = rule(p, g, slots, {**given, **constants, **own, **asked})
        self.state |= {key: value.astype(self.dtype) for key, value in zip(keys, changed, strict=True)}
        found: np.ndarray = result.astype(self.dtype)
        return found

    def _norm(self, values: np.ndarray) -> np.floating:
        norm: np.floating[Any] = np.sqrt(np.square(values).sum())
        return norm

    def gradients(self, feed: Feed) -> dict[str, np.ndarray]:
        self.bounds.check(feed)
        last = replace(feed, order=feed.order[-1], inputs=None if feed.inputs is None else feed.inputs[-1])
        values = self.values(last)
        return {u.name: values[u.grad] for u in self.updates}

    def values(self, feed: Feed) -> dict[Tensor, np.ndarray]:
        """The value of every node, for one step: ``order`` and ``inputs`` of the feed lack their first axis."""
        values = {node: self.state[name] for name, node in self.parameters.items()}
        extras, column = {"feed": feed, "dtype": self.dtype}, 0
        for node in self.inputs:
            size = int(np.prod(node.shape[1:]))
            inputs = np.empty(0) if feed.inputs is None else feed.inputs
            values[node] = inputs[:, column : column + size].reshape(node.shape).astype(self.dtype)
            column += size
        for node in self.order:
            if node in values:
                continue
            function, operands = node.op.numpy or FUNCTIONS[node.op.name], [values[x] for x in node.inputs]
            given = {name: value for name, value in extras.items() if name in _arguments(function)}
            values[node] = function(*operands, **node.attrs, **given)
        return values


class PreparedInterpreter:
    """See `backends.base.Prepared`.

    Args:
        interpreter: of one output.
        output: for as many images as there may be.
    """

    def __init__(self, interpreter: Interpreter, output: Tensor):
        shape = next(node.shape for node in topological([output]) if node.op is IMAGES)
        self.images, self._interpreter = np.zeros(shape, np.uint8), interpreter
        self._feed = Feed(np.arange(shape[0])[None], self.images.reshape(shape[0], -1))

    def run(self, count: int) -> np.ndarray:
        """See `Prepared.run`."""
        return self._interpreter.run(self._feed)[0, :count]

    def write(self, values: Mapping[str, np.ndarray]) -> None:
        """See `Prepared.write`."""
        self._interpreter.write(values)
