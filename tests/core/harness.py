"""What tests of the core share: a graph with its feed, run by any backend with the same values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from odyssey_core import ops
from odyssey_core.autodiff import gradients
from odyssey_core.backends.base import Feed
from odyssey_core.backends.numba import NumbaBackend
from odyssey_core.backends.numpy import NumpyBackend
from odyssey_core.ops import leaves
from odyssey_core.optim import SGD, Update
from odyssey_core.tensor import Tensor, after_step, topological

FIXTURES = Path(__file__).parents[1] / "fixtures"

# Every gradient of a step is asked for; with a rate of 0 nothing moves.
STILL = SGD(lr=0.0)


@dataclass
class Graph:
    """Nodes of a small network: what makes the losses, and what is to be compared.

    Attributes:
        losses: (N,) node.
        parameters: by name.
        buffers: by name.
        inputs: batched ``input`` nodes, by name; gradients are compared for these too.
        outputs: further batched nodes to compare.
    """

    losses: Tensor
    parameters: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    outputs: Sequence[Tensor] = ()
    buffers: dict[str, Tensor] = field(default_factory=dict)

    @property
    def state(self) -> dict[str, Tensor]:
        return self.parameters | self.buffers

    @property
    def changed(self) -> dict[str, Tensor]:
        """For every buffer that a step changes, by name, the node of its value after it."""
        after = after_step([self.losses])
        return {name: after[node] for name, node in self.buffers.items() if node in after}

    @property
    def batch_size(self) -> int:
        return self.losses.shape[0]

    def differentiated(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Gradient nodes of the parameters and of the inputs, by name."""
        wanted = {**self.parameters, **self.inputs}
        grads = dict(zip(wanted, gradients(self.losses, list(wanted.values())), strict=True))
        return {n: grads[n] for n in self.parameters}, {n: grads[n] for n in self.inputs}

    def op_names(self) -> set[str]:
        """Every op of the graph, backward pass included."""
        of_parameters, of_inputs = self.differentiated()
        grads = (*of_parameters.values(), *of_inputs.values())
        nodes = topological([self.losses, *self.outputs, *grads, *self.changed.values()])
        return {node.op.name for node in nodes}

    def values(self, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Random values of parameters and buffers, and of inputs, exact in float32 but held as float64.

        Buffers lie between 0.5 and 1.5: a variance among them must be above 0.
        """
        rng = np.random.default_rng(seed)

        def draw(shape):
            return rng.uniform(-1, 1, shape).astype(np.float32).astype(np.float64)

        return (
            {name: draw(p.shape) for name, p in self.parameters.items()}
            | {name: 1 + draw(b.shape) / 2 for name, b in self.buffers.items()},
            {name: draw(x.shape) for name, x in self.inputs.items()},
        )

    def feed(self, inputs: dict[str, np.ndarray], *, alive: int | None = None, seed: int = 3, classes: int = 2) -> Feed:
        """One step; of the batch's places the first ``alive`` hold an image."""
        n = self.batch_size
        order = np.arange(n, dtype=np.int64) * 5 % (2 * n + 1)
        order[n if alive is None else alive :] = -1
        rng = np.random.default_rng(seed)
        gathered = [x for x in topological([self.losses]) if x.op is leaves.IMAGES]
        size = int(np.prod(gathered[0].shape[1:])) if gathered else 0
        flat = [np.asarray(inputs[name]).reshape(n, -1) for name in sorted(inputs)]
        return Feed(
            order=order[None],
            pixels=rng.integers(0, 256, (2 * n + 1, size), np.uint8),
            labels=rng.integers(0, classes, 2 * n + 1),
            scalars={"lr": np.zeros(1, np.float32)},
            inputs=np.concatenate(flat, axis=1)[None] if flat else None,
            seed=seed,
            epoch=2,
        )


def classes_of(graph: Graph) -> int:
    """The fewest classes of the graph's losses: what labels must stay below."""
    return min(x.inputs[0].shape[1] for x in topological([graph.losses]) if leaves.LABELS in {y.op for y in x.inputs})


def run(backend, graph: Graph, parameters: dict, feed: Feed) -> dict[str, np.ndarray]:
    """Losses, outputs, all gradients, and buffers after the step, by name."""
    of_parameters, of_inputs = graph.differentiated()
    nodes = [graph.losses, *graph.outputs, *of_inputs.values()]
    names = ["losses", *(f"output {i}" for i in range(len(graph.outputs))), *(f"d {n}" for n in of_inputs)]
    updates = [Update(n, graph.parameters[n], grad, STILL) for n, grad in of_parameters.items()]
    executable = backend.compile(nodes, graph.state, updates, buffers=graph.changed)
    executable.write(parameters)
    grads = executable.gradients(feed)
    rows = executable.run(feed)[0]
    found, column = {}, 0
    for name, node in zip(names, nodes, strict=True):
        size = int(np.prod(node.shape[1:]))
        found[name] = rows[:, column : column + size]
        column += size
    state = executable.read()
    found |= {f"after the step {n}": state[n] for n in graph.changed}
    return found | {f"d {n}": grads[n] for n in of_parameters}


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, as a part of the largest expected value."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if not np.all(np.isfinite(got)):
        return np.inf
    return float(np.abs(got - expected).max() / max(np.abs(expected).max(), 1e-30))


class FixedTiles:
    """Register tiles of one size wherever it fits: few variants to compile, and every edge case of an odd shape."""

    def __init__(self, rows: int = 2, columns: int = 2):
        self.size = rows, columns

    def outer(self, rows: int, columns: int) -> tuple[int, int]:
        return min(rows, self.size[0]), min(columns, self.size[1])

    def inner(self, rows: int, columns: int) -> tuple[int, int, int]:
        return *self.outer(rows, columns), 8

    patch = outer


def numba_backend(groups: int = 8, tiles=None) -> NumbaBackend:
    """One thread, so that only the serial loop is compiled."""
    backend = NumbaBackend(threads=1, groups=groups)
    if tiles is not None:
        backend.tiles = tiles
    return backend


def reference() -> NumpyBackend:
    return NumpyBackend("float64")


def classify(x: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the flattened values: a loss per image through which every element of ``x`` is felt."""
    x = ops.flatten(x) if len(x.shape) > 2 else x
    return ops.cross_entropy(x, ops.labels(x.shape[0]), label_smoothing)


Builder = Callable[[int], Graph]
