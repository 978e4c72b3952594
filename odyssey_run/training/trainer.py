"""The training loop: many optimizer steps per call into the backend, everything else between calls.

How many steps a call takes is found from the clock and changes no result: batches, random numbers and learning rates
are functions of epoch and step, and means are exact sums (``math.fsum``). `State` holds all that a run is between two
calls, so that a run which goes on from a checkpoint ends as one that was never interrupted.
"""

import math
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from odyssey_core.data import Dataset, Images, epoch_order
from odyssey_core.learner import Learner, Taken
from odyssey_run.config.claims import OF_HOOKS
from odyssey_run.config.schema import TrainerConfig
from odyssey_run.runs.events import ROW, Answers, Clock, EpochEnd, Listener, Outcome, Pruned, Row
from odyssey_run.tracking.names import Status
from odyssey_run.training.hooks import Hook

CALL_S = 0.12  # aimed at, so that a call stays under the 0.2 s in which a signal must be answered
GROWTH = 4
EVALUATION_IMAGES = 512  # per call
SAMPLE = 1000  # training images, at most, of which train/accuracy is
NOT_FINITE = "loss is not finite"  # in the reason of a run that diverged, and of no other
LOWER_IS_BETTER = {"val/loss": 1, "val/accuracy": -1}  # sign that makes it so


def norm(array: np.ndarray) -> float:
    """The Euclidean norm of a float32 array, correctly rounded before the root.

    A square is exact in float64. Of all of them the multiples of one number are split off, so large that float64 adds
    these up without rounding, and of what is left the multiples of a smaller one, until nothing is. ``math.fsum`` of
    all squares gives the same bits, many times as slowly.

    Source: Rump, Ogita, Oishi, "Accurate floating-point summation, part I", SIAM J. Sci. Comput. 31, 2008, algorithm
    3.2, ExtractVector.
    """
    rest, parts = np.square(array.ravel(), dtype=np.float64), list[float]()
    largest, spare = float(rest.max(initial=0.0)), rest.size.bit_length() + 1
    if not math.isfinite(largest):
        return largest
    above = math.ldexp(1.0, math.frexp(largest)[1] + spare)
    while rest.any():
        split = rest + above
        split -= above
        rest -= split
        parts.append(float(split.sum()))
        above = math.ldexp(above, spare - 53)  # what is left is at most half a unit in the last place of the one before
    return math.sqrt(math.fsum(parts))


class _Stopped(Exception): ...


class _Diverged(Exception): ...


@dataclass
class State:
    """Where a run is, beside the learner's own state."""

    step: int = 0
    epoch: int = 0  # counted from 0; the steps of an epoch may be done before its end is
    losses: list[float] = field(default_factory=list)  # of the epoch's images so far
    window: list[float] = field(default_factory=list)  # losses since the last `train/loss`
    lr: float = 0.0  # learning rate of the last step
    # The monitored value after each epoch, in the sense in which lower is better.
    history: list[float] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)  # of each finished epoch, as in `EpochEnd.history`
    # Weights at the start of the epoch, the last that are known to be good.
    kept: dict[str, np.ndarray] = field(default_factory=dict)
    best: dict[str, np.ndarray] = field(default_factory=dict)  # weights of the best epoch; empty before the first


@dataclass(eq=False)
class Trainer:
    learner: Learner
    dataset: Dataset
    train: np.ndarray  # (n,) int64 indices of the images to train on, in `dataset.train`
    validation: np.ndarray  # (m,) int64 indices of the validation images, likewise; m may be 0
    config: TrainerConfig  # how long, how much
    seed: int
    hooks: Sequence[Hook] = ()  # called after each epoch, in this order
    listeners: Sequence[Listener] = ()  # called in this order
    stop: Callable[[], int | None] = lambda: None  # the number of the signal that asked to stop, or None
    # Called every `config.checkpoint_s` seconds and when the run is stopped.
    save: Callable[["Trainer"], None] = lambda trainer: None
    # The step to end at, where that is before the planned end. A time budget is not asked then: who gives the step
    # knows where it ended.
    until: int | None = None
    cut: bool = False  # whether to end there as a signal would, with no test and, inside an epoch, no validation
    # Where it begins; both may be replaced before `run`, together with the learner's state.
    state: State = field(default_factory=State)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        self.plan, train, until = self.learner.plan, self.train, self.until
        sampled = min(SAMPLE, len(train), len(self.validation) or SAMPLE)
        self._sample = train[np.arange(sampled) * len(train) // sampled]
        self._epochs = -(-self.plan.steps // self.plan.per_epoch)
        self._last = self.plan.steps if until is None else min(self.plan.steps, until)
        self._budget_s = self.config.time_budget_s if until is None else None
        self._portion = 1
        self._saved = self._ticked = time.perf_counter()
        self._cpu = time.process_time()

    @np.errstate(all="ignore")  # numbers that are not finite are looked for, and reported
    def run(self) -> Outcome:
        """Trains to the end, to a signal, or to a loss that is not finite.

        A failed run keeps the weights from the start of the epoch in which it failed: a loss shows a step too late
        that weights are bad, and which steps share a call depends on the clock.
        """
        self._ticked, self._cpu = time.perf_counter(), time.process_time()
        state = self.state
        state.kept = state.kept or self.learner.weights()
        try:
            self._go_on()
            while state.step < self._last or state.losses:
                self._epoch()
                self._save_if_due()
            if self.cut:
                raise _Stopped
            weights = state.kept
            if self.config.keep == "best":
                weights = state.best
                self.learner.load_weights(weights)
            test = self.dataset.test
            answers = self._answers(test, np.arange(len(test)), "test")
            loss = self._mean(answers, "test")
        except _Stopped:
            number = signal.Signals(self.stop() or signal.SIGINT)
            self._tick()
            self.save(self)
            return Outcome(Status.KILLED, 128 + number, state.step, self.learner.weights(), f"stopped by {number.name}")
        except Pruned as verdict:
            self._tick()
            return Outcome(Status.KILLED, 0, state.step, self.learner.weights(), str(verdict), pruned=True)
        except _Diverged as error:
            self._tick()
            self._tell("metrics", state.step, self.clock.metrics())
            return Outcome(Status.FAILED, 1, state.step, state.kept, str(error))
        self._tick()
        correct = answers.correct(test.labels)
        accuracy = correct / len(test)
        self._tell("metrics", state.step, {"test/accuracy": accuracy, "test/loss": loss} | self.clock.metrics())
        return Outcome(
            Status.FINISHED,
            0,
            state.step,
            weights,
            test_accuracy=accuracy,
            test_loss=loss,
            test_correct=correct,
            answers=answers,
            images_per_s=self.clock.images_per_s,
        )

    def _epoch(self) -> None:
        state, clock = self.state, self.clock
        first = state.epoch * self.plan.per_epoch
        order = epoch_order(self.train, self.config.batch_size, self.seed, state.epoch)
        images, seconds = clock.images, clock.call_s
        while state.step < min(first + len(order), self._last):
            done = state.step - first
            self._call(order[done : min(done + self._portion, self._last - first)])
            if self._budget_s and clock.train_s >= self._budget_s:
                self._last = state.step
            self._save_if_due()
        if self.cut and state.step < min(first + len(order), self.plan.steps):
            raise _Stopped
        answers = self._answers(self.dataset.train, self._sample, "training images")
        right = answers.correct(self.dataset.train.labels[self._sample])
        end = self._conclude(right / len(self._sample), *self._validate())
        if state.step == self._last:
            self._close_window()
        self._tell("metrics", state.step, self._norms())
        seconds = clock.call_s - seconds
        rate = (clock.images - images) / seconds if seconds else clock.images_per_s
        self._tell("epoch", end, seconds + clock.first_call_s * (images == 0), rate)
        state.kept, state.losses = self.learner.weights(), []
        state.epoch += 1

    def _validate(self) -> tuple[float | None, float | None]:
        """Loss and accuracy on the validation images; keeps the best weights."""
        state = self.state
        if not len(self.validation):
            return None, None
        answers = self._answers(self.dataset.train, self.validation, "validation")
        loss = self._mean(answers, "validation")
        accuracy = answers.correct(self.dataset.train.labels[self.validation]) / len(self.validation)
        values = {"val/loss": loss, "val/accuracy": accuracy}
        self._tell("metrics", state.step, values)
        value = values[self.config.monitor] * LOWER_IS_BETTER[self.config.monitor]
        if value < min(state.history, default=math.inf):
            state.best = self.learner.weights()
        state.history.append(value)
        return loss, accuracy

    def _conclude(self, train_accuracy: float, loss: float | None, accuracy: float | None) -> EpochEnd:
        """Records an epoch and calls the hooks, which may make it the last."""
        state = self.state
        train_loss = math.fsum(state.losses) / len(state.losses)
        values = (state.epoch + 1, state.step, train_loss, train_accuracy, loss, accuracy, state.lr)
        row = dict(zip(ROW, values, strict=True))
        state.rows.append(row)
        end = self._ask_hooks(state.rows)
        state.rows[-1] = row | end.logged
        own = {f"{OF_HOOKS}{name}": value for name, value in end.logged.items()}
        known = {"epoch": row["epoch"], "train/epoch_loss": train_loss, "train/accuracy": train_accuracy}
        self._tell("metrics", state.step, known | own)
        if self._is_over(end):
            self._last = state.step
        return end

    def _ask_hooks(self, rows: Sequence[Row]) -> EpochEnd:
        """Calls the hooks for the last of some epochs, which holds nothing yet that they log."""
        end = EpochEnd([*rows[:-1], {name: rows[-1][name] for name in ROW}], self._epochs)
        for hook in self.hooks:
            hook.on_epoch_end(end)
        return end

    def _is_over(self, end: EpochEnd) -> bool:
        """Whether a run ends after an epoch since a hook asked for it or nothing has become better for too long."""
        history, patience = self.state.history, self.config.patience
        if end.reason is not None:
            self._tell("stopping", f"ended by a hook after epoch {end.epoch}{': ' if end.reason else ''}{end.reason}")
            return True
        return patience is not None and bool(history) and len(history) - 1 - history.index(min(history)) >= patience

    def _go_on(self) -> None:
        """Calls the hooks for the epochs that were finished before this process; a run that is over stays so."""
        rows = self.state.rows
        ends = [self._ask_hooks(rows[: i + 1]) for i in range(len(rows))]
        if ends and not self.state.losses and self._is_over(ends[-1]):
            self._last = self.state.step

    def _norms(self) -> dict[str, float]:
        """Euclidean norms of every layer's weights and of their gradient on the first training images."""
        batch = np.full(self.config.batch_size, -1, np.int64)
        batch[: len(self.train)] = self.train[: len(batch)]
        gradients = self.learner.gradients(self.dataset.train, batch)
        found = {"weight_norm": self.learner.weights(), "weight_grad_norm": gradients}
        norms = {f"{kind}/{key}": norm(v) for kind, arrays in found.items() for key, v in arrays.items() if v.ndim > 1}
        return {name: value for name, value in norms.items() if math.isfinite(value)}

    def _call(self, rows: np.ndarray) -> None:
        state = self.state
        self._check_stop()
        before = self.learner.state()
        begun = time.perf_counter()
        losses, rates = self._take(rows, state.step)
        seconds = time.perf_counter() - begun
        present = rows >= 0
        if self.clock.count(seconds, int(present.sum())):
            fitting = max(1, int(CALL_S / max(seconds / len(rows), 1e-9)))
            self._portion = min(fitting, self._portion * GROWTH)
        finite = np.isfinite(losses).all(axis=1)
        good = len(rows) if finite.all() else int(np.argmin(finite))
        self._log(losses[:good], present[:good], rates)
        if good < len(rows):
            self._diverged(before, rows, good)
        values = state.losses[-int(present.sum()) :]
        loss = math.fsum(values) / len(values)
        self._tell("progress", state.step, state.epoch + 1, loss, *self._speed())

    def _take(self, rows: np.ndarray, first: int) -> Taken:
        state = self.state
        return self.learner.train(self.dataset.train, rows, epoch=state.epoch, first_step=first, history=state.history)

    def _diverged(self, before: dict[str, np.ndarray], rows: np.ndarray, bad: int) -> None:
        """Finds the layer by taking the call's good steps once more."""
        state = self.state
        self.learner.load_state(before)
        if bad:
            self._take(rows[:bad], state.step - bad)
        where = self.learner.first_nonfinite(self.learner.state(), self.dataset.train, rows[bad], state.epoch)
        self._close_window()
        state.step += 1
        first = f", first in {where}" if where else ""
        raise _Diverged(f"train {NOT_FINITE} at step {state.step}{first}; {self.learner.optimizer.remedy()}")

    def _log(self, losses: np.ndarray, present: np.ndarray, rates: list[float]) -> None:
        """Takes steps into account: closes the windows of train/loss that end in them."""
        state, every = self.state, self.config.log_every
        done = 0
        while done < len(losses):
            count = min(every - state.step % every, len(losses) - done)
            part = losses[done : done + count][present[done : done + count]].tolist()
            state.window += part
            state.losses += part
            state.step += count
            done += count
            state.lr = rates[done - 1]
            if state.step % every == 0:
                self._close_window()

    def _close_window(self) -> None:
        state = self.state
        if state.window:
            mean = math.fsum(state.window) / len(state.window)
            self._tell("metrics", state.step, {"train/loss": mean, "train/lr": state.lr})
            state.window = []

    def _mean(self, answers: Answers, what: str) -> float:
        """The mean loss. Raises _Diverged where that is no number."""
        losses = answers.losses.tolist()
        mean = math.fsum(losses) / len(losses) if all(map(math.isfinite, losses)) else math.nan
        if not math.isfinite(mean):
            raise _Diverged(f"{what} {NOT_FINITE} after step {self.state.step}; {self.learner.optimizer.remedy()}")
        return mean

    def _answers(self, images: Images, order: np.ndarray, what: str) -> Answers:
        """To some images, with nothing drawn at random.

        For the training images that is as validation does it: no dropout, no augmentation, the same weights for all.
        """
        self._tell("evaluating", what)
        begun = time.perf_counter()
        parts = []
        for start in range(0, len(order), EVALUATION_IMAGES):
            self._check_stop()
            parts.append(self.learner.evaluate(images, order[start : start + EVALUATION_IMAGES]))
        self.clock.evaluation_s += time.perf_counter() - begun
        return Answers(*map(np.concatenate, zip(*parts, strict=True)))

    def _check_stop(self) -> None:
        if self.stop() is not None:
            raise _Stopped

    def _save_if_due(self) -> None:
        every, now = self.config.checkpoint_s, time.perf_counter()
        if every is not None and now - self._saved >= every:
            self._tick()
            self.save(self)
            self._saved = time.perf_counter()

    def _tick(self) -> None:
        now, cpu = time.perf_counter(), time.process_time()
        self.clock.run_s += now - self._ticked
        self.clock.cpu_s += cpu - self._cpu
        self._ticked, self._cpu = now, cpu

    def _speed(self) -> tuple[float, float | None]:
        """Images/s and the seconds that are left, as `Listener.progress` is told."""
        state, clock = self.state, self.clock
        if not clock.call_s:
            return 0.0, None
        images = (self.plan.steps - state.step) * self.config.batch_size
        # Epochs still to be validated take as long as those that were.
        validations = clock.evaluation_s / max(state.epoch, 1) * (self._epochs - state.epoch)
        return clock.images_per_s, images / clock.images_per_s + validations

    def _tell(self, what: str, *arguments: object) -> None:
        for listener in self.listeners:
            getattr(listener, what)(*arguments)
