"""The training loop: many optimizer steps per call into the backend, everything else between calls.

How many steps a call takes is found from the clock and changes no result: batches, random numbers and learning rates
are functions of epoch and step, and means are exact sums (``math.fsum``).
"""

import math
import signal
import time
from collections.abc import Callable, Sequence

import numpy as np

from odyssey_core.data import Dataset, Images, epoch_order
from odyssey_core.learner import Learner
from odyssey_run.events import Epoch, Listener, Outcome, Progress
from odyssey_run.schema import TrainerConfig

CALL_S = 0.12  # aimed at, so that a call stays under the 0.2 s in which a signal must be answered
GROWTH = 4
EVALUATION_IMAGES = 512  # per call


class _Stopped(Exception):
    """A signal asked the run to stop."""


class _Diverged(Exception):
    """The loss is not finite."""


class Trainer:
    """One run of one learner.

    Args:
        learner: compiled and initialised.
        dataset: its test set is read once, at the end.
        train: (n,) int64 indices of the training images.
        validation: (m,) int64 indices of the validation images, in ``dataset.train``; m may be 0.
        config: how long, how much.
        seed: of the order of the images.
        lr: learning rate.
        listeners: told in this order.
        stop: the number of the signal that asked to stop, or None.
    """

    def __init__(
        self,
        learner: Learner,
        dataset: Dataset,
        train: np.ndarray,
        validation: np.ndarray,
        config: TrainerConfig,
        *,
        seed: int,
        lr: float,
        listeners: Sequence[Listener] = (),
        stop: Callable[[], int | None] = lambda: None,
    ):
        self.learner, self.dataset, self.config, self.seed, self.lr = learner, dataset, config, seed, lr
        self.train, self.validation = train, validation
        self.listeners, self.stop = listeners, stop
        per_epoch = -(-len(train) // config.batch_size)
        self.steps = min(per_epoch * config.epochs, config.max_steps or per_epoch * config.epochs)
        self.epochs = -(-self.steps // per_epoch)
        self.step = 0
        self._portion = 1
        self._window: list[float] = []
        self._first_call_s: float | None = None
        self._first_call_images = 0
        self._call_s = 0.0
        self._images = 0
        self._evaluation_s = 0.0

    def run(self) -> Outcome:
        """Trains to the end, to a signal, or to a loss that is not finite.

        A failed run keeps the weights from the start of the epoch in which it failed: a loss shows a step too late
        that weights are bad, and which steps share a call depends on the clock.
        """
        begun = time.perf_counter()
        good = self.learner.weights()
        try:
            for epoch in range(self.epochs):
                self._epoch(epoch)
                good = self.learner.weights()
            loss, accuracy, correct = self._evaluate(self.dataset.test, np.arange(len(self.dataset.test)), "test")
        except _Stopped:
            number = signal.Signals(self.stop() or signal.SIGINT)
            self._close_window()
            self._times(begun)
            return Outcome("KILLED", 128 + number, self.step, self.learner.weights(), f"stopped by {number.name}")
        except _Diverged as error:
            self._close_window()
            self._times(begun)
            return Outcome("FAILED", 1, self.step, good, str(error))
        self._tell("metrics", self.step, {"test/accuracy": accuracy, "test/loss": loss})
        self._times(begun)
        return Outcome(
            "FINISHED",
            0,
            self.step,
            good,
            test_accuracy=accuracy,
            test_loss=loss,
            test_correct=correct,
            images_per_s=self._rate(),
        )

    def _epoch(self, epoch: int) -> None:
        order = epoch_order(self.train, self.config.batch_size, self.seed, epoch)[: self.steps - self.step]
        losses: list[float] = []
        images, seconds = self._images, self._call_s
        done = 0
        while done < len(order):
            rows = order[done : done + self._portion]
            losses += self._call(epoch, rows)
            done += len(rows)
        if self.step == self.steps:
            self._close_window()
        values: tuple = (None, None)
        if len(self.validation):
            values = self._evaluate(self.dataset.train, self.validation, "validation")[:2]
            self._tell("metrics", self.step, {"val/loss": values[0], "val/accuracy": values[1]})
        seconds = self._call_s - seconds
        self._tell(
            "epoch",
            Epoch(
                epoch=epoch + 1,
                epochs=self.epochs,
                step=self.step,
                train_loss=math.fsum(losses) / len(losses),
                val_loss=values[0],
                val_accuracy=values[1],
                lr=self.lr,
                train_s=seconds + (self._first_call_s or 0.0) * (epoch == 0),
                images_per_s=(self._images - images) / seconds if seconds else self._rate(),
            ),
        )

    def _call(self, epoch: int, rows: np.ndarray) -> list[float]:
        """One call into the backend; returns the losses of its images."""
        self._check_stop()
        begun = time.perf_counter()
        lr = np.full(len(rows), self.lr, np.float32)
        losses = self.learner.train(self.dataset.train, rows, epoch=epoch, first_step=self.step, lr=lr)
        seconds = time.perf_counter() - begun
        present = rows >= 0
        self._count(seconds, int(present.sum()), len(rows))
        finite = np.isfinite(losses).all(axis=1)
        if not finite.all():
            first = int(np.argmin(finite))
            self._log(losses[:first], present[:first])
            self.step += 1
            raise _Diverged(f"train loss is not finite at step {self.step}; lower optim.lr (now {self.lr})")
        values = self._log(losses, present)
        self._tell("progress", self._progress(epoch, math.fsum(values) / len(values), seconds))
        return values

    def _log(self, losses: np.ndarray, present: np.ndarray) -> list[float]:
        """Takes steps into account: closes the windows of train/loss that end in them; returns the losses."""
        values: list[float] = []
        done = 0
        while done < len(losses):
            count = min(self.config.log_every - self.step % self.config.log_every, len(losses) - done)
            part = losses[done : done + count][present[done : done + count]].tolist()
            self._window += part
            values += part
            self.step += count
            done += count
            if self.step % self.config.log_every == 0:
                self._close_window()
        return values

    def _close_window(self) -> None:
        if self._window:
            self._tell("metrics", self.step, {"train/loss": math.fsum(self._window) / len(self._window)})
            self._window = []

    def _evaluate(self, images: Images, order: np.ndarray, what: str) -> tuple[float, float, int]:
        """Mean loss, accuracy and number of right answers over some images."""
        self._tell("evaluating", what)
        begun = time.perf_counter()
        losses: list[float] = []
        correct = 0
        for start in range(0, len(order), EVALUATION_IMAGES):
            self._check_stop()
            part = order[start : start + EVALUATION_IMAGES]
            logits, loss = self.learner.evaluate(images, part)
            losses += loss.tolist()
            correct += int((logits.argmax(axis=1) == images.labels[part]).sum())
        mean = math.fsum(losses) / len(losses) if all(map(math.isfinite, losses)) else math.nan
        self._evaluation_s += time.perf_counter() - begun
        if not math.isfinite(mean):
            raise _Diverged(f"{what} loss is not finite after step {self.step}; lower optim.lr (now {self.lr})")
        return mean, correct / len(order), correct

    def _check_stop(self) -> None:
        if self.stop() is not None:
            raise _Stopped

    def _count(self, seconds: float, images: int, steps: int) -> None:
        if self._first_call_s is None:
            self._first_call_s, self._first_call_images = seconds, images
            return
        self._call_s += seconds
        self._images += images
        fitting = max(1, int(CALL_S / max(seconds / steps, 1e-9)))
        self._portion = min(fitting, self._portion * GROWTH)

    def _rate(self) -> float:
        if self._call_s:
            return self._images / self._call_s
        return self._first_call_images / self._first_call_s if self._first_call_s else 0.0

    def _progress(self, epoch: int, loss: float, seconds: float) -> Progress:
        left = None
        if self._call_s:
            images = (self.steps - self.step) * self.config.batch_size
            # Epochs still to be validated take as long as those that were.
            left = images / self._rate() + self._evaluation_s / max(epoch, 1) * (self.epochs - epoch)
        rate = self._rate() if self._call_s else 0.0
        return Progress(self.step, self.steps, epoch + 1, loss, rate, left, seconds)

    def _times(self, begun: float) -> None:
        train_s = self._call_s + (self._first_call_s or 0.0)
        values = {
            "time/train_s": train_s,
            "time/first_call_s": self._first_call_s or 0.0,
            "time/evaluation_s": self._evaluation_s,
            "time/run_s": time.perf_counter() - begun,
            "time/images_per_s": self._rate(),
        }
        self._tell("metrics", self.step, values)

    def _tell(self, what: str, *arguments: object) -> None:
        for listener in self.listeners:
            getattr(listener, what)(*arguments)
