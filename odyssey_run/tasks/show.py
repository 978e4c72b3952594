"""``task=show``: what a model is made of and what a training step does."""

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from odyssey_core import ops
from odyssey_core.errors import ConfigError
from odyssey_core.flops import flops
from odyssey_core.nn import Module, makers
from odyssey_core.places import expanded
from odyssey_core.tensor import Tensor, topological
from odyssey_run.config.request import Request
from odyssey_run.reports.outputs import writing
from odyssey_run.reports.tables import columns


@dataclass(frozen=True)
class ShowConfig:
    """What to show beside the layers; conf/task/show.yaml explains each key."""

    listing: bool


@dataclass(frozen=True)
class Layer:
    """One operation of the forward pass, for one image."""

    name: str  # of the layer that makes it; followed by the operation's where a layer has more of them
    block: str  # path of the outermost block that the layer is in; "" for none
    shape: tuple[int, ...]
    parameters: int  # how many numbers it learns
    flops: int  # see `odyssey_core.flops`
    node: Tensor = field(repr=False)


def show(request: Request, show: ShowConfig, out: str | None) -> int:
    """Prints the layers and, where asked for, the instructions; draws the graph into a file; trains nothing."""
    from odyssey_core.learner import training_step
    from odyssey_run.training.build import assemble

    dataset = request.data.build()
    model = request.model.build(input_shape=dataset.input_shape, classes=dataset.classes)
    found = layers(model, dataset.input_shape)
    rows = [("layer", "shape", "parameters", "MFLOP")]
    rows += [(x.name, "×".join(map(str, x.shape)), f"{x.parameters:,}", f"{x.flops / 1e6:.3f}") for x in found]
    parameters, work = sum(x.parameters for x in found), sum(x.flops for x in found)
    rows.append(("all", "", f"{parameters:,}", f"{work / 1e6:.3f}"))
    print(*columns(rows), sep="\n")
    batch, values = request.trainer.batch_size, sum(math.prod(x.shape) for x in found)
    print(f"\nweights      {4 * parameters / 1024:,.0f} KiB")
    each = f"{4 * values / 1024:,.0f} KiB an image"
    print(f"activations  {each}, {4 * values * batch / 2**20:,.1f} MiB a batch of {batch}")
    parts = model, request.optim.build(), request.loss.build()
    one = training_step(*parts, ops.images((1, *dataset.input_shape)))
    print(f"training     {flops(one.nodes()) / 1e6:,.3f} MFLOP an image, forward and back")
    amounts = dataset.augment.amounts() if dataset.augment else None
    step = training_step(*parts, ops.images((batch, *dataset.input_shape), dataset.mean, dataset.std, amounts))
    rule = request.trainer.step_rule
    memory = request.backend.build().memory(step.outputs, step.values, step.updates, rule, step.buffers)
    shown = ", ".join(f"{name} {size / 2**20:,.1f}" for name, size in memory.items() if size)
    print(f"memory       {sum(memory.values()) / 2**20:,.1f} MiB in a training step: {shown}")
    print(f"graph        {_draw(found, dataset.input_shape, out) if out else 'out=FILE.png draws it'}")
    if show.listing:
        print(f"\n{assemble(request).learner.listing()}")
    return 0


def layers(model: Module, input_shape: tuple[int, int, int]) -> list[Layer]:
    parameters = set(model.parameters().values())
    blocks = {p for p, module in model.modules() if p and any(isinstance(x, Module) for _, x in module.children())}
    result, paths = makers(model, ops.images((1, *input_shape)))
    # Parameters and images; statistics of a batch.
    nodes = [node for node in topological([result]) if node.inputs and node.batched]
    several = Counter(paths[node.serial] for node in nodes)
    found = []
    for node in nodes:
        path = paths[node.serial]
        name = path if several[path] == 1 and path and path not in blocks else f"{path}.{node.op.name}".lstrip(".")
        block = min((b for b in blocks if f"{path}.".startswith(f"{b}.")), key=len, default="")
        own = sum(math.prod(x.shape) for x in node.inputs if x in parameters)
        found.append(Layer(name, block, node.shape[1:], own, flops([node]) - flops(node.inputs), node))
    return found


def _draw(found: list[Layer], input_shape: tuple[int, int, int], file: str) -> Path:
    """Raises ConfigError for a file that is no PNG or that this program did not make."""
    path = expanded(file)
    if path.suffix.lower() != ".png":
        raise ConfigError(f"out: expected the name of a PNG file, got {file}; write {path.stem}.png")
    from odyssey_run.reports import graph, style

    with writing(path), style.styled():
        return style.save(graph.graph(found, input_shape), path)
