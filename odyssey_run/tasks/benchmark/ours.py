"""Our side of the benchmark: programs of one model for several batch sizes and numbers of threads."""

import base64
import math
import time
from typing import Any

import numpy as np

from odyssey_core import ops
from odyssey_core.backends.base import Backend, Feed
from odyssey_core.backends.numba import NumbaBackend
from odyssey_core.backends.numba.timing import RowTime, time_rows
from odyssey_core.checkpoint import artifact_names
from odyssey_core.classifier import Classifier
from odyssey_core.counterparts import torch_steps
from odyssey_core.data import Dataset
from odyssey_core.flops import flops
from odyssey_core.learner import Step, initial_values, training_step
from odyssey_core.ops.leaves import PARAMETER
from odyssey_core.tensor import for_inference
from odyssey_run.config.request import Request
from odyssey_run.tasks.benchmark.peers import INFER, TRAIN, Case
from odyssey_run.tasks.export import as_onnx
from odyssey_run.training.train import model_metadata

ROW_STEPS, ROW_SECONDS, ROW_BATCH = 1000, 1.0, 32


class Ours:
    """Runs the model of a request.

    A training step is all of it: images and labels gathered from uint8 by index, normalised, forward, loss, backward,
    update; many steps are one call, as in a run. Inference is from uint8 images to probabilities, one call a batch.
    """

    def __init__(self, request: Request, dataset: Dataset):
        self._request, self._dataset = request, dataset
        self._rule = request.trainer.step_rule
        self._programs: dict[Case, Any] = {}
        self._rates: dict[Case, float] = {}
        self._about = model_metadata(request, dataset)
        self._pixels = dataset.train.pixels.reshape(len(dataset.train), -1)
        inference, training = self._graph(INFER, 1), self._graph(TRAIN, 1)
        steps = {INFER: inference.outputs, TRAIN: [*training.outputs, *(u.grad for u in training.updates)]}
        # Of useful work in one image; and how many numbers the model has.
        self.flops = {kind: flops(nodes) for kind, nodes in steps.items()}
        self.parameters = sum(math.prod(x.shape) for x in training.values.values() if x.op is PARAMETER)

    def given(self, peer: str) -> dict[str, Any]:
        """What a peer is told of the model, the optimizer and the images. Raises ConfigError where it cannot be."""
        optim, dataset = self._request.optim, self._dataset
        # Groups take other numbers and the same work.
        arguments = {name: value for name, value in optim.arguments.items() if name != "groups"}
        told = {"input_shape": dataset.input_shape, "classes": dataset.classes}
        told |= {"optim": optim.name, "optim_arguments": arguments}
        if peer == "torch":
            return told | self.in_torch()
        file = as_onnx(self._classifier(1), self._about)
        return told | {"model": base64.b64encode(file).decode()}

    def in_torch(self) -> dict[str, Any]:
        """What PyTorch is told: shapes of parameters and buffers by path, the steps of training and of inference.
        Raises ConfigError: an operation that PyTorch has no counterpart for."""
        inference, training = self._graph(INFER, 1), self._graph(TRAIN, 1)
        trained, shapes = {u.name for u in training.updates}, {n: x.shape for n, x in training.values.items()}
        return {
            "parameters": {name: shape for name, shape in shapes.items() if name in trained},
            "buffers": {name: shape for name, shape in shapes.items() if name not in trained},
            INFER: torch_steps(inference.outputs, inference.values),
            TRAIN: torch_steps(training.outputs, training.values),
        }

    def _classifier(self, threads: int) -> Classifier:
        backend = NumbaBackend(threads, self._request.backend.arguments["groups"])
        weights = initial_values(self._graph(INFER, 1).values, self._request.seed)
        return Classifier(artifact_names(weights), self._about, backend)

    def prepare(self, case: Case) -> None:
        if case.kind == INFER:
            self._programs[case] = self._classifier(case.threads).probabilities
        else:
            backend: Backend = NumbaBackend(case.threads, self._request.backend.arguments["groups"])
            graph = self._graph(TRAIN, case.batch)
            program = self._programs[case] = backend.compile(*graph[:3], self._rule, graph.buffers)
            program.write(initial_values(graph.values, self._request.seed))
        self._rates[case] = 100.0
        for _ in range(3):
            self.measure(case, 0.01)

    def measure(self, case: Case, seconds: float) -> float:
        """Images/s over about so many seconds."""
        program, steps = self._programs[case], max(1, int(seconds * self._rates[case]))
        if case.kind == INFER:
            images = np.resize(self._dataset.train.pixels, (case.batch, *self._dataset.input_shape))
            begun = time.perf_counter()
            for _ in range(steps):
                program(images)
        else:
            feed = self._feed(case, steps)
            begun = time.perf_counter()
            program.run(feed)
        self._rates[case] = steps / (time.perf_counter() - begun)
        return self._rates[case] * case.batch

    def rows(self) -> list[RowTime]:
        """Where a training step of ROW_BATCH images goes on one thread; its program is of no use afterwards."""
        case = Case(TRAIN, ROW_BATCH, 1)
        if case not in self._programs:
            self.prepare(case)
        feed = self._feed(case, max(2, min(ROW_STEPS, int(ROW_SECONDS * self._rates[case]))))
        feed.scalars = {name: np.zeros_like(values) for name, values in feed.scalars.items()}
        return time_rows(self._programs.pop(case), feed)

    def _graph(self, kind: str, batch: int) -> Step:
        request, dataset = self._request, self._dataset
        model = request.model.build(input_shape=dataset.input_shape, classes=dataset.classes)
        amounts = dataset.augment.amounts() if dataset.augment and kind == TRAIN else None
        images = ops.images((batch, *dataset.input_shape), dataset.mean, dataset.std, amounts)
        if kind == INFER:
            return Step(for_inference([model(images)]), model.state(), [], {})
        return training_step(model, request.optim.build(), request.loss.build(), images)

    def _feed(self, case: Case, steps: int) -> Feed:
        images = np.arange(steps * case.batch) % len(self._pixels)
        optimizer = self._request.optim.build()
        scalars = self._rule.numbers(optimizer, 0, [optimizer.lr] * steps)
        return Feed(images.reshape(steps, case.batch), self._pixels, self._dataset.train.labels, scalars)
