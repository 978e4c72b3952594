"""PyTorch's side of the benchmark. It runs in a process of its own, one for each number of threads.

A step works on one batch that lies there as float32, already normalised: nothing is gathered, unlike in ours.
"""

import math
from operator import attrgetter
from typing import Any

import torch
from torch import nn, optim

from odyssey_run.tasks.benchmark.peers import answer, rate

OPTIMIZERS = {kind.__name__.lower(): kind for kind in (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop)}


class Net(nn.Module):
    """Steps, as `odyssey_core.counterparts` writes them down, over parameters and buffers of its own."""

    def __init__(self, given: dict[str, Any]):
        super().__init__()
        self.names = {path: path.replace(".", "_") for path in (*given["parameters"], *given["buffers"])}
        for path, shape in given["parameters"].items():
            fan_in = max(1, math.prod(shape[1:]))
            setattr(self, self.names[path], nn.Parameter(torch.empty(shape).uniform_(0, fan_in**-0.5)))
        for path, shape in given["buffers"].items():
            self.register_buffer(self.names[path], torch.ones(shape))
        self.steps = {
            kind: [(result, attrgetter(name)(torch), *rest) for result, name, *rest in given[kind]]
            for kind in ("training", "inference")
        }

    def forward(self, kind: str, images: Any, labels: Any) -> Any:
        found = {path: getattr(self, name) for path, name in self.names.items()}
        found |= {"images": images, "labels": labels}

        def value(operand: Any) -> Any:
            if isinstance(operand, list):
                return [value(x) for x in operand]
            return found.get(operand) if isinstance(operand, str) else operand

        for result, call, operands, arguments in self.steps[kind]:
            found[result] = call(*map(value, operands), **arguments)
        return found[result]


class Model:
    """The model in one of torch's modes: eager, channels_last or compiled."""

    def __init__(self, given: dict[str, Any], mode: str):
        self.format = torch.channels_last if mode == "channels_last" else torch.contiguous_format
        self.shape, self.classes = given["input_shape"], given["classes"]
        model = Net(given).to(memory_format=self.format)
        if given["optim"] not in OPTIMIZERS:
            raise ValueError(f"PyTorch has no optimizer {given['optim']}")
        self.optimizer = OPTIMIZERS[given["optim"]](model.parameters(), **given["optim_arguments"])
        # Each batch size compiled by itself infers a fifth faster than one compilation for all of them.
        self.model = torch.compile(model, dynamic=False) if mode == "compiled" else model

    def train(self, images: Any, labels: Any) -> None:
        self.optimizer.zero_grad()
        self.model("training", images, labels).backward()
        self.optimizer.step()

    def measure(self, kind: str, batch: int, seconds: float) -> float:
        """Images/s over about so many seconds, of random images (batch, C, H, W) float32."""
        images = torch.rand(batch, *self.shape).to(memory_format=self.format)
        labels = torch.randint(self.classes, (batch,))
        with torch.inference_mode(kind == "inference"):
            training = kind == "training"
            step = (lambda: self.train(images, labels)) if training else (lambda: self.model(kind, images, labels))
            return rate(step, batch, seconds)


def serve(given: dict[str, Any]) -> None:
    """The process; it is given the model as `odyssey_core.counterparts` writes it down, optimizer, shapes, threads."""
    torch.set_num_threads(given["threads"])
    torch.manual_seed(0)
    torch._dynamo.config.cache_size_limit = 64  # batch sizes compiled, beyond which it would run eagerly
    models: dict[str, Model] = {}

    def measure(question: dict[str, Any]) -> float:
        mode = question["mode"]
        if mode not in models:
            models[mode] = Model(given, mode)
        return models[mode].measure(question["kind"], question["batch"], question["seconds"])

    answer(measure)
