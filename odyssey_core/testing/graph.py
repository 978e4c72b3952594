"""A small graph, run by any backend with the same values, and its gradients."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from odyssey_core import ops
from odyssey_core.autodiff import gradients
from odyssey_core.backends.base import Backend, Feed
from odyssey_core.backends.numpy import NumpyBackend
from odyssey_core.ops import leaves
from odyssey_core.optim import SGD, Update
from odyssey_core.tensor import Shape, Tensor, after_step, topological

STEP, TOLERANCE = 1e-5, 1e-7  # of central differences in float64
ALIKE = 1e-5  # relative error of float32 against the float64 reference
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

        def draw(shape: Shape) -> np.ndarray:
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


def run(backend: Backend, graph: Graph, parameters: dict[str, np.ndarray], feed: Feed) -> dict[str, np.ndarray]:
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


def reference() -> NumpyBackend:
    return NumpyBackend("float64")


def classify(x: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the flattened values: a loss per image through which every element of ``x`` is felt."""
    x = ops.flatten(x) if len(x.shape) > 2 else x
    return ops.cross_entropy(x, ops.labels(x.shape[0]), label_smoothing)


def demand(holds: Any, message: str) -> None:
    """Raises AssertionError with a message unless something holds."""
    if not holds:
        raise AssertionError(message)


def check_gradients(graph: Graph, alive: int, seed: int = 11) -> None:
    """Holds every gradient of a graph against central differences, in float64.

    Args:
        graph: small, since each element is moved twice.
        alive: images in the batch.
        seed: of the values.
    """
    parameters, inputs = graph.values(seed)

    def values_of(nodes: Sequence[Tensor]) -> list[np.ndarray]:
        executable = reference().compile(nodes, graph.state)
        executable.write(parameters)
        feed = graph.feed(inputs, alive=alive, classes=classes_of(graph))
        feed.order = feed.order[0]
        feed.inputs = None if feed.inputs is None else feed.inputs[0]
        # The interface rounds to float32; differences need all of float64.
        computed = executable.values(feed)
        return [computed[x] for x in nodes]

    of_parameters, of_inputs = graph.differentiated()
    grads = {**of_parameters, **of_inputs}
    computed = dict(zip(grads, values_of(list(grads.values())), strict=True))
    for name, value in {**parameters, **inputs}.items():
        if name in graph.buffers:
            continue
        expected = np.zeros(value.shape)
        for place in np.ndindex(value.shape):
            before, sides = value[place], []
            for moved in (before + STEP, before - STEP):
                value[place] = moved
                sides.append(values_of([graph.losses])[0].sum() / alive)
            expected[place] = (sides[0] - sides[1]) / (2 * STEP)
            value[place] = before
        demand(np.abs(expected).max() > 1e-3, f"the loss does not feel {name}")
        demand(computed[name].shape == value.shape, f"d {name}: shape {computed[name].shape}, of a {value.shape}")
        error = np.abs(computed[name] - expected).max()
        demand(error <= TOLERANCE, f"d {name}: the gradient rule is off by {error:.2e} from finite differences")


def check_backend(
    graph: Graph,
    backend: Backend,
    alive: int,
    feed: Feed | None = None,
    parameters: dict[str, np.ndarray] | None = None,
    alike: float = ALIKE,
) -> None:
    """Holds what a backend makes of a graph against the float64 reference: values, gradients, buffers.

    Args:
        graph: of any size.
        backend: to be held.
        alive: images in the batch.
        feed: drawn where there is none.
        parameters: likewise.
        alike: the largest relative error allowed.
    """
    drawn, inputs = graph.values(seed=5)
    parameters = parameters or drawn
    feed = feed or graph.feed(inputs, alive=alive, classes=classes_of(graph))
    expected, got = run(reference(), graph, parameters, feed), run(backend, graph, parameters, feed)
    demand(got.keys() == expected.keys(), f"expected {[*expected]}, got {[*got]}")
    for name, value in expected.items():
        demand(got[name].shape == value.shape, f"{name}: shape {got[name].shape}, the reference has {value.shape}")
        of_images = name == "losses" or name.startswith("output")
        here = slice(alive if of_images else None)
        error = relative_error(got[name][here], value[here])
        demand(error <= alike, f"{name}: relative error {error:.2e} on {backend.describe()}")
