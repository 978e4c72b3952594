"""The forward pass of a model alone, for as many images as are asked for."""

import math
from collections.abc import Callable, Mapping
from threading import Lock
from typing import TypeVar

import numpy as np

from odyssey_core import ops
from odyssey_core.backends.base import Backend, Executable, Feed, Prepared
from odyssey_core.data.dataset import Images, PerChannel
from odyssey_core.losses import Loss
from odyssey_core.nn import Module
from odyssey_core.tensor import Shape, Tensor, for_inference
from odyssey_core.views import TestViews, averaged

Program = TypeVar("Program", Executable, Prepared)
LEAST, MOST = 16, 128  # images in one pass; a few sizes are enough, and a small one answers sooner
FEW = 12  # at most so many are worth a pass of their own: LeNet-5 answers to 13 as soon as to 16
# Such passes read the weights once for each image, together at most so many. Those of ResNet-18 (11 million) and of
# AlexNet (22 million) come from memory every time: 7 images of the one, or 3 of the other, take longer than 16 do.
WEIGHTS = 50_000_000
LONGEST = 1024  # images in one call, at whose beginning threads are woken


class Inference:
    """Programs of one model, each compiled when it is first needed.

    Args:
        model: the architecture.
        backend: what runs it.
        input_shape: (C, H, W) of the images.
        mean: normalisation of pixels in [0, 1]: ``(p / 255 - mean) / std``; one number, or one for each channel.
        std: see mean.
        weights: gives the parameters and buffers by path, float32; asked again after `forget`.
        loss: its `Loss.in_evaluation` is computed beside the logits.
        tta: views whose mean the logits are, see `views.averaged`.
    """

    def __init__(
        self,
        model: Module,
        backend: Backend,
        input_shape: Shape,
        mean: PerChannel,
        std: PerChannel,
        weights: Callable[[], Mapping[str, np.ndarray]],
        loss: Loss,
        tta: TestViews | None = None,
    ):
        self._model, self._backend, self._weights, self._loss = model, backend, weights, loss.in_evaluation()
        self._held = model.state()
        count = sum(math.prod(held.shape) for held in self._held.values())
        self._few = max(1, min(FEW, WEIGHTS // max(1, count)))
        self._shape, self._normalisation, self._tta = input_shape, (mean, std), tta
        self._programs: dict[int, Executable] = {}
        self._prepared: dict[int, Prepared] = {}
        self._current: set[Executable | Prepared] = set()
        self._lock = Lock()

    def forget(self) -> None:
        """Says that the weights have changed."""
        self._current.clear()

    def graph(self, batch: int) -> list[Tensor]:
        """The nodes of the logits (batch, classes) and the losses (batch,)."""
        logits = averaged(self._model, ops.images((batch, *self._shape), *self._normalisation), self._tta)
        return for_inference([logits, self._loss(logits, ops.labels(batch))])

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """(N, classes) float64, softmax in float32 of the logits that `evaluate` gives, whatever N is.

        Nothing of a call is made ready twice: for a single image that would take longer than the answer. Threads may
        ask at once.

        Args:
            pixels: (N, C, H, W) uint8, which may lie in memory as they will.
        """
        with self._lock:
            parts = []
            while len(pixels):
                prepared = self._ready(self._passed(len(pixels)))
                part, pixels = pixels[: len(prepared.images)], pixels[len(prepared.images) :]
                prepared.images[: len(part)] = part
                parts.append(prepared.run(len(part)).astype(np.float64))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def evaluate(self, data: Images, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits (n, classes) and losses (n,), both float32, of the images that ``order`` (n,) int64 names.

        Raises:
            DataError: an index outside the data, or a label beyond the model's classes.
        """
        batch = min(max(1 << (len(order) - 1).bit_length(), LEAST), MOST)
        padded = np.full(-(-len(order) // batch) * batch, -1, np.int64)
        padded[: len(order)] = order
        pixels = data.pixels.reshape(len(data.pixels), -1)
        out = self._program(batch).run(Feed(order=padded.reshape(-1, batch), pixels=pixels, labels=data.labels))
        out = out.reshape(-1, out.shape[-1])[: len(order)]
        return out[:, :-1], out[:, -1]

    def _passed(self, count: int) -> int:
        """Of so many images, how many the first call takes: the largest power of two, so that few lanes are empty."""
        return self._few if count <= self._few else min(max(1 << count.bit_length() - 1, LEAST), LONGEST)

    def _program(self, batch: int) -> Executable:
        if batch not in self._programs:
            self._programs[batch] = self._backend.compile(self.graph(batch), self._held)
        return self._with_weights(self._programs[batch])

    def _ready(self, batch: int) -> Prepared:
        if batch not in self._prepared:
            output = ops.softmax(self.graph(batch)[0])
            self._prepared[batch] = self._backend.prepare(output, self._held)
        return self._with_weights(self._prepared[batch])

    def _with_weights(self, program: Program) -> Program:
        """A program that has the weights as they are."""
        if program not in self._current:
            program.write(dict(self._weights()))
            self._current.add(program)
        return program
