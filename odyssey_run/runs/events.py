"""What the trainer tells, and whoever listens: the journal, the console. The trainer knows none of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from odyssey_run.tracking.names import Status


@dataclass(frozen=True)
class Progress:
    """After each call into the backend.

    Attributes:
        epoch: counted from 1.
        loss: mean training loss of the call's images.
        images_per_s: over all training calls but the first, which may compile; 0 before the second.
        seconds_left: of training, estimated; None before the second call.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    images_per_s: float
    seconds_left: float | None


@dataclass(frozen=True)
class Epoch:
    """After each epoch and its validation, as `hooks.EpochEnd` explains it; ``train_s`` holds training alone."""

    epoch: int
    epochs: int
    step: int
    train_loss: float
    train_accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    lr: float
    train_s: float
    images_per_s: float


@dataclass
class Clock:
    """Where a run's time went, in seconds; the first call of a process, which may compile, is counted apart.

    Attributes:
        images: trained in all calls but the first.
    """

    first_call_s: float = 0.0
    first_call_images: int = 0
    call_s: float = 0.0
    images: int = 0
    evaluation_s: float = 0.0
    run_s: float = 0.0
    cpu_s: float = 0.0

    def count(self, seconds: float, images: int) -> bool:
        """Adds a call; returns whether it was not the first."""
        if not self.first_call_images:
            self.first_call_s, self.first_call_images = seconds, images
            return False
        self.call_s += seconds
        self.images += images
        return True

    @property
    def train_s(self) -> float:
        """Of training alone."""
        return self.call_s + self.first_call_s

    @property
    def images_per_s(self) -> float:
        """Over all training calls but the first, if there were any."""
        if self.call_s:
            return self.images / self.call_s
        return self.first_call_images / self.first_call_s if self.first_call_s else 0.0

    def metrics(self) -> dict[str, float]:
        """For the journal."""
        names = ("train_s", "first_call_s", "evaluation_s", "run_s", "cpu_s", "images_per_s")
        return {f"time/{name}": getattr(self, name) for name in names}


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        exit_code: of the process.
        reason: why it did not finish.
        pruned: whether a sweep stopped it.
        weights: the last good parameters.
        test_accuracy: share of the test images, None if the run did not get there.
        test_correct: how many that is.
    """

    status: Status
    exit_code: int
    step: int
    weights: dict[str, np.ndarray] = field(repr=False)
    reason: str | None = None
    pruned: bool = False
    test_accuracy: float | None = None
    test_loss: float | None = None
    test_correct: int | None = None
    images_per_s: float = 0.0


class Pruned(Exception):
    """Raised by a listener after an epoch: the run is not worth its time; says why."""


class Listener:
    """Hears what happens in a run; every method may be left as it is."""

    def progress(self, progress: Progress) -> None:
        """After a call into the backend."""

    def evaluating(self, what: str) -> None:
        """Before images are evaluated: ``training images``, ``validation`` or ``test``."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Finite numbers that belong to an optimizer step."""

    def stopping(self, reason: str) -> None:
        """Before a run ends sooner than was planned since a hook asked for it."""

    def epoch(self, epoch: Epoch) -> None:
        """After an epoch and its validation. Raises Pruned to end the run."""
