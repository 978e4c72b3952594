"""Our side of the benchmark: programs of one model for several batch sizes and numbers of threads."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from odyssey_core import ops
from odyssey_core.autodiff import gradients
from odyssey_core.backends.base import Feed
from odyssey_core.backends.numba import NumbaBackend
from odyssey_core.backends.numba.timing import RowTime, time_rows
from odyssey_core.data import Dataset
from odyssey_core.flops import flops
from odyssey_core.learner import initial_values
from odyssey_core.optim import PLAIN, StepRule, Update
from odyssey_core.tensor import Tensor, for_inference
from odyssey_run.assemble import Request

TRAIN, INFER = "training", "inference"
ROW_STEPS, ROW_BATCH = 1000, 32


@dataclass(frozen=True)
class Case:
    """What is measured: ``kind`` is training or inference."""

    kind: str
    batch: int
    threads: int


class Ours:
    """Runs the model of a request.

    A training step is all of it: images and labels gathered from uint8 by index, normalised, forward, loss, backward,
    update. Inference is images to logits. Many steps are one call, as in a run; a single image is a call of its own.

    Args:
        request: for model, optimizer and backend.
        dataset: whose images are used.

    Attributes:
        flops: of useful work in one image, for training and inference.
        layers: the model as a peer builds it, see `layers_of`.
        parameters: how many numbers the model has.
    """

    def __init__(self, request: Request, dataset: Dataset):
        self._request, self._dataset = request, dataset
        self._rule = StepRule(request.trainer.clip_norm, request.trainer.ema)
        self._programs: dict[Case, Any] = {}
        self._rates: dict[Case, float] = {}
        self._pixels = dataset.train.pixels.reshape(len(dataset.train), -1)
        (logits,), parameters, _ = self._graph(INFER, 1)
        losses, _, updates = self._graph(TRAIN, 1)
        self.layers = layers_of(logits)
        self.parameters = sum(int(np.prod(p.shape)) for p in parameters.values())
        self.flops = {INFER: flops([logits]), TRAIN: flops([*losses, *(u.grad for u in updates)])}

    def prepare(self, case: Case) -> None:
        """Compiles what a case needs and runs it once."""
        backend = NumbaBackend(case.threads, self._request.backend.arguments["groups"])
        outputs, parameters, updates = self._graph(case.kind, case.batch)
        rule = self._rule if updates else PLAIN
        program = self._programs[case] = backend.compile(outputs, parameters, updates, rule)
        program.write(initial_values(parameters, self._request.seed))
        self._rates[case] = 100.0
        for _ in range(3):
            self.measure(case, 0.01)

    def measure(self, case: Case, seconds: float) -> float:
        """Images/s over about so many seconds."""
        program, feed = self._programs[case], self._feed(case, max(1, int(seconds * self._rates[case])))
        begun = time.perf_counter()
        if case.batch == 1:
            feeds = [self._feed(case, 1)] * len(feed.order)
            begun = time.perf_counter()
            for one in feeds:
                program.run(one)
        else:
            program.run(feed)
        self._rates[case] = len(feed.order) / (time.perf_counter() - begun)
        return self._rates[case] * case.batch

    def rows(self) -> list[RowTime]:
        """Where a training step of ROW_BATCH images goes on one thread; its program is of no use afterwards."""
        case = Case(TRAIN, ROW_BATCH, 1)
        if case not in self._programs:
            self.prepare(case)
        feed = self._feed(case, ROW_STEPS)
        feed.scalars = np.zeros_like(feed.scalars)
        return time_rows(self._programs.pop(case), feed)

    def _graph(self, kind: str, batch: int) -> tuple[list[Tensor], dict[str, Tensor], list[Update]]:
        request, dataset = self._request, self._dataset
        model = request.model.build(input_shape=dataset.input_shape, classes=dataset.classes)
        parameters, values = model.parameters(), model.state()
        amounts = dataset.augment.amounts() if dataset.augment and kind == TRAIN else None
        logits = model(ops.images((batch, *dataset.input_shape), dataset.mean, dataset.std, amounts))
        if kind == INFER:
            return for_inference([logits]), values, []
        losses = request.loss.build()(logits, ops.labels(batch))
        optimizer = request.optim.build()
        grads = gradients(losses, list(parameters.values()))
        updates = [Update(name, p, grad, optimizer) for (name, p), grad in zip(parameters.items(), grads, strict=True)]
        return [losses], values, updates

    def _feed(self, case: Case, steps: int) -> Feed:
        images = np.arange(steps * case.batch) % len(self._pixels)
        optimizer, scalars = self._request.optim.build(), None
        if case.kind == TRAIN:
            scalars = np.array(
                [(*optimizer.scalars(i, optimizer.lr), *self._rule.scalars(i)) for i in range(steps)], np.float32
            )
        return Feed(images.reshape(steps, case.batch), self._pixels, self._dataset.train.labels, scalars)


def layers_of(logits: Tensor) -> list[tuple[str, dict[str, Any]]]:
    """A model that is a chain, as operations with their sizes: ``("conv2d", {"weight": (6, 1, 5, 5), ...})``."""
    layers, node = [], logits
    while node.inputs:
        sizes = dict(node.attrs)
        if len(node.inputs) > 1:
            sizes |= {"weight": node.inputs[1].shape, "bias": len(node.inputs) > 2}
        layers.append((node.op.name, sizes))
        node = node.inputs[0]
    return layers[::-1]
