"""What the trainer tells, and whoever listens: the journal, the console. The trainer knows none of them."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from odyssey_core.errors import ConfigError, shortened
from odyssey_run.tracking.names import Status

ROW = ("epoch", "step", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr")
_NAME = re.compile(r"[A-Za-z_][\w.-]*")

Row = Mapping[str, Any]


class EpochEnd:
    """Where a run is after an epoch and its validation.

    Attributes:
        history: a row for each epoch so far, this one last, with epoch, step, train_loss, train_accuracy, val_loss,
            val_accuracy, lr, and what hooks have logged. ``pandas.DataFrame(state.history)`` is a table of it.
        epochs: that the run was planned for.
        epoch, step, train_loss, train_accuracy, val_loss, val_accuracy, lr: of this epoch, which is counted from 1; the
            two of validation are None without validation images. train_loss is the mean over the epoch's images while
            they were trained on; train_accuracy is measured after the epoch as that of validation is, on as many
            training images, but at most 1,000.
    """

    def __init__(self, history: Sequence[Row], epochs: int):
        self.history, self.epochs = tuple(history), epochs
        row = self.history[-1]
        self.epoch, self.step, self.lr = row["epoch"], row["step"], row["lr"]
        self.train_loss, self.train_accuracy = row["train_loss"], row["train_accuracy"]
        self.val_loss, self.val_accuracy = row["val_loss"], row["val_accuracy"]
        self.logged: dict[str, float] = {}
        self.reason: str | None = None

    def log(self, name: str, value: float) -> None:
        """Records a number of this epoch as the metric ``own/NAME``; one that is not finite is left out.

        Raises:
            ConfigError: no name, or no number.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in ROW:
            taken = " that is not the program's" if name in ROW else ""
            raise ConfigError(
                f"state.log: expected a name of letters, digits and _.-{taken}, got {shortened(repr(name))}"
            )
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise ConfigError(f"state.log: expected a number for {name}, got {shortened(repr(value))}") from None
        if math.isfinite(number):
            self.logged[name] = number

    def stop(self, reason: str = "") -> None:
        """Ends the run after this epoch, with its test, as after its last."""
        self.reason = str(reason)


@dataclass
class Clock:
    """Where a run's time went, in seconds; the first call of a process, which may compile, is counted apart."""

    first_call_s: float = 0.0
    first_call_images: int = 0
    call_s: float = 0.0
    images: int = 0  # trained in all calls but the first
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
        return self.call_s + self.first_call_s

    @property
    def images_per_s(self) -> float:
        """Over all training calls but the first, if there were any."""
        if self.call_s:
            return self.images / self.call_s
        return self.first_call_images / self.first_call_s if self.first_call_s else 0.0

    def metrics(self) -> dict[str, float]:
        names = ("train_s", "first_call_s", "evaluation_s", "run_s", "cpu_s", "images_per_s")
        return {f"time/{name}": getattr(self, name) for name in names}


class Answers(NamedTuple):
    """What a model says of images.

    Attributes:
        logits: (N, classes) float32.
        losses: (N,) float32.
    """

    logits: np.ndarray
    losses: np.ndarray

    def correct(self, labels: np.ndarray) -> int:
        """How many are classified as (N,) labels say."""
        return int((self.logits.argmax(axis=1) == labels).sum())


@dataclass(frozen=True)
class Outcome:
    status: Status
    exit_code: int  # of the process
    step: int
    weights: dict[str, np.ndarray] = field(repr=False)  # the last good parameters
    reason: str | None = None  # why it did not finish
    pruned: bool = False  # whether a sweep stopped it
    test_accuracy: float | None = None  # share of the test images, None if the run did not get there
    test_loss: float | None = None
    test_correct: int | None = None  # how many that is
    images_per_s: float = 0.0
    answers: Answers | None = field(default=None, repr=False)  # to the test images


class Pruned(Exception):
    """Raised by a listener after an epoch: the run is not worth its time; says why."""


class Listener:
    """Hears what happens in a run; every method may be left as it is."""

    def progress(self, step: int, epoch: int, loss: float, images_per_s: float, seconds_left: float | None) -> None:
        """After a call into the backend.

        Args:
            epoch: counted from 1.
            loss: mean training loss of the call's images.
            images_per_s: over all training calls but the first, which may compile; 0 before the second.
            seconds_left: of training, estimated; None before the second call.
        """

    def evaluating(self, what: str) -> None:
        """Before images are evaluated: ``training images``, ``validation`` or ``test``."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Finite numbers that belong to an optimizer step."""

    def stopping(self, reason: str) -> None:
        """Before a run ends sooner than was planned since a hook asked for it."""

    def epoch(self, end: EpochEnd, train_s: float, images_per_s: float) -> None:
        """After an epoch and its validation: seconds of its training alone, and images/s in these, but for a first
        call, which may compile. Raises Pruned to end the run."""
