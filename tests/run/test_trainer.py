"""The loop, with a learner whose losses are known."""

import math
import signal

import numpy as np
import pytest

from odyssey_core.data import Dataset, Images
from odyssey_run import trainer as trainer_module
from odyssey_run.events import Listener
from odyssey_run.schema import TrainerConfig
from odyssey_run.trainer import Trainer

N, M = 70, 20


class FakeLearner:
    """The loss of an image in a step is (step + 1) / (image + 1); weights count the steps."""

    def __init__(self, bad_step=None):
        self.bad_step, self.steps, self.calls, self.orders = bad_step, 0, [], []

    def train(self, data, order, *, epoch, first_step, lr):
        assert first_step == self.steps
        assert lr.dtype == np.float32
        assert lr.shape == (len(order),)
        self.calls.append(len(order))
        self.orders.append(order)
        step = np.arange(first_step, first_step + len(order), dtype=np.float32)[:, None]
        losses = np.where(order < 0, 0, (step + 1) / (np.abs(order) + 1)).astype(np.float32)
        if self.bad_step is not None:
            losses[(step == self.bad_step)[:, 0]] = np.nan
        self.steps += len(order)
        return losses

    def evaluate(self, data, order):
        logits = np.eye(2, dtype=np.float32)[(order % 4 == 0).astype(int)]
        return logits, np.full(len(order), 0.25, np.float32)

    def weights(self):
        return {"w": np.array([self.steps])}


class Ear(Listener):
    def __init__(self):
        self.points, self.epochs, self.seen = [], [], []

    def metrics(self, step, values):
        self.points += [(step, k, v) for k, v in values.items() if not k.startswith("time/")]

    def epoch(self, epoch):
        self.epochs.append(epoch)

    def progress(self, progress):
        self.seen.append(progress)


def dataset():
    def images(n):
        return Images(np.zeros((n, 1, 2, 2), np.uint8), np.arange(n) % 2)

    return Dataset("fake", images(N + M), images(50), ("a", "b"), "upright", 0.0, 1.0, "0" * 64, False)


def make(learner, ear, stop=lambda: None, **config):
    values = {"epochs": 3, "batch_size": 16, "max_steps": None, "log_every": 4, "validation_size": M} | config
    config = TrainerConfig(label_smoothing=0.0, **values)
    train, validation = np.arange(N), np.arange(N, N + M)
    return Trainer(learner, dataset(), train, validation, config, seed=0, lr=0.1, listeners=(ear,), stop=stop)


def test_metrics_come_at_their_steps():
    ear = Ear()
    outcome = make(FakeLearner(), ear).run()
    assert (outcome.status, outcome.exit_code, outcome.step) == ("FINISHED", 0, 15)
    assert [step for step, key, _ in ear.points if key == "train/loss"] == [4, 8, 12, 15]  # the last window is short
    assert [step for step, key, _ in ear.points if key == "val/accuracy"] == [5, 10, 15]
    assert [step for step, key, _ in ear.points if key == "test/accuracy"] == [15]
    assert outcome.test_accuracy == outcome.test_correct / 50
    assert [e.epoch for e in ear.epochs] == [1, 2, 3]


def test_train_loss_is_the_mean_over_the_images_that_are_there():
    ear, learner = Ear(), FakeLearner()
    make(learner, ear, epochs=1, log_every=50).run()
    order = np.concatenate(learner.orders)
    assert (order < 0).sum() == 10  # 70 images in 5 batches of 16
    losses = [float(np.float32((s + 1) / (i + 1))) for s in range(5) for i in order[s] if i >= 0]
    assert sorted(order[order >= 0]) == list(range(N))
    assert (5, "train/loss", math.fsum(losses) / N) in ear.points
    assert ear.epochs[0].train_loss == math.fsum(losses) / N


@pytest.mark.parametrize("call_s", [0.0, 1e-4, 10.0])
def test_steps_per_call_change_no_result(call_s, monkeypatch):
    reference, ear = Ear(), Ear()
    make(FakeLearner(), reference, epochs=4).run()
    monkeypatch.setattr(trainer_module, "CALL_S", call_s)
    learner = FakeLearner()
    make(learner, ear, epochs=4).run()
    assert ear.points == reference.points
    assert [e.train_loss for e in ear.epochs] == [e.train_loss for e in reference.epochs]
    if call_s != 1e-4:
        assert (max(learner.calls) == 1) == (call_s == 0.0)


def test_max_steps_ends_inside_an_epoch():
    ear = Ear()
    outcome = make(FakeLearner(), ear, max_steps=7).run()
    assert outcome.step == 7
    assert [step for step, key, _ in ear.points if key == "val/loss"] == [5, 7]
    assert [step for step, key, _ in ear.points if key == "train/loss"] == [4, 7]


def test_no_validation():
    ear = Ear()
    trainer = make(FakeLearner(), ear, epochs=1)
    trainer.validation = np.empty(0, np.int64)
    assert trainer.run().status == "FINISHED"
    assert {key for _, key, _ in ear.points} == {"train/loss", "test/accuracy", "test/loss"}
    assert ear.epochs[0].val_accuracy is None


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_calls(signum):
    ear, learner = Ear(), FakeLearner()
    outcome = make(learner, ear, stop=lambda: signum if learner.steps >= 6 else None).run()
    assert (outcome.status, outcome.exit_code) == ("KILLED", 128 + signum)
    assert 6 <= outcome.step == learner.steps < 15
    assert outcome.weights["w"] == learner.steps
    assert outcome.test_accuracy is None
    assert ear.points[-1][:2] == (outcome.step, "train/loss") or outcome.step % 4 == 0


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_weights():
    ear = Ear()
    outcome = make(FakeLearner(bad_step=7), ear).run()
    assert (outcome.status, outcome.exit_code, outcome.step) == ("FAILED", 1, 8)
    assert outcome.reason == "train loss is not finite at step 8; lower optim.lr (now 0.1)"
    assert outcome.weights["w"] == 5  # of the end of the first epoch
    assert all(math.isfinite(value) for *_, value in ear.points)
