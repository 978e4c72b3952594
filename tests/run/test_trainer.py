"""The loop, with a learner whose losses are known."""

import copy
import math
import signal

import numpy as np
import pytest

from odyssey_core.data import Dataset, Images
from odyssey_core.errors import ConfigError
from odyssey_core.learner import Taken
from odyssey_core.optim import SGD, Plan
from odyssey_core.optim.schedules import Constant, Plateau, Polynomial
from odyssey_run.config.schema import TrainerConfig
from odyssey_run.runs.events import Listener
from odyssey_run.training import trainer as trainer_module
from odyssey_run.training.hooks import Hook
from odyssey_run.training.trainer import Trainer

N, M = 70, 20


class FakeLearner:
    """The loss of an image in a step is (step + 1) / (image + 1); weights count the steps.

    The validation loss after so many steps is ``valleys[steps]``, 0.25 otherwise.
    """

    optimizer = SGD(lr=0.1)

    def __init__(self, bad_step=None, valleys=None):
        self.bad_step, self.steps, self.calls, self.orders, self.rates = bad_step, 0, [], [], []
        self.plan = None
        self.valleys = valleys or {}

    def train(self, data, order, *, epoch, first_step, history):
        assert first_step == self.steps
        assert len(history) == epoch
        self.calls.append(len(order))
        rates = [0.1 * self.plan.factor(step, history) for step in range(first_step, first_step + len(order))]
        self.rates += rates
        self.orders.append(order)
        step = np.arange(first_step, first_step + len(order), dtype=np.float32)[:, None]
        losses = np.where(order < 0, 0, (step + 1) / (np.abs(order) + 1)).astype(np.float32)
        if self.bad_step is not None:
            losses[(step == self.bad_step)[:, 0]] = np.nan
        self.steps += len(order)
        return Taken(losses, rates)

    def evaluate(self, data, order):
        logits = np.eye(2, dtype=np.float32)[(order % 4 == 0).astype(int)]
        return logits, np.full(len(order), self.valleys.get(self.steps, 0.25), np.float32)

    def gradients(self, data, order):
        return {"w": np.zeros(1, np.float32)}

    def weights(self):
        return {"w": np.array([self.steps])}

    def load_weights(self, weights):
        self.shown = weights

    def state(self):
        return {"w": np.array([self.steps])}

    def load_state(self, state):
        self.steps = int(state["w"][0])

    def first_nonfinite(self, state, data, row, epoch):
        assert state["w"][0] == self.bad_step
        return "fc2"


class Ear(Listener):
    def __init__(self):
        self.points, self.epochs = [], []

    def metrics(self, step, values):
        self.points += [(step, k, v) for k, v in values.items() if not k.startswith("time/")]

    def epoch(self, end, train_s, images_per_s):
        self.epochs.append(end)


def dataset():
    def images(n):
        return Images(np.zeros((n, 1, 2, 2), np.uint8), np.arange(n) % 2)

    return Dataset("fake", images(N + M), images(50), ("a", "b"), "upright", 0.0, 1.0, "0" * 64, False)


DEFAULTS = {
    "epochs": 3, "batch_size": 16, "max_steps": None, "log_every": 4, "validation_size": M, "train_size": None,
    "clip_norm": None, "ema": None, "monitor": "val/loss", "keep": "last", "patience": None, "time_budget_s": None,
    "checkpoint_s": None, "lookahead": None, "tta": None,
}  # fmt: skip


def make(
    learner, ear, schedule=None, stop=lambda: None, until=None, cut=False, save=lambda trainer: None, hooks=(), **config
):
    config = TrainerConfig(**DEFAULTS | config)
    per_epoch = -(-N // config.batch_size)
    steps = min(per_epoch * config.epochs, config.max_steps or per_epoch * config.epochs)
    learner.plan = Plan(steps, per_epoch, schedule or Constant())
    return Trainer(
        learner,
        dataset(),
        np.arange(N),
        np.arange(N, N + M),
        config,
        seed=0,
        hooks=hooks,
        listeners=(ear,),
        stop=stop,
        until=until,
        cut=cut,
        save=save,
    )


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
    assert (5, "train/epoch_loss", math.fsum(losses) / N) in ear.points
    assert ear.epochs[0].train_loss == math.fsum(losses) / N


def test_train_accuracy_is_of_training_images_after_the_epoch():
    ear = Ear()
    make(FakeLearner(), ear).run()
    # As many as there are for validation, 20 of the 70: 0, 3, 7, 10, ..., 66. The fake is right for the even ones but
    # multiples of four: 10, 14, 38, 42, 66.
    assert [(s, v) for s, key, v in ear.points if key == "train/accuracy"] == [(s, 5 / 20) for s in (5, 10, 15)]
    assert [(s, v) for s, key, v in ear.points if key == "epoch"] == [(5, 1), (10, 2), (15, 3)]
    assert [e.train_accuracy for e in ear.epochs] == [5 / 20] * 3


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
    assert {key for _, key, _ in ear.points} == {
        "epoch", "train/loss", "train/epoch_loss", "train/accuracy", "train/lr", "test/accuracy", "test/loss",
    }  # fmt: skip
    assert ear.epochs[0].val_accuracy is None


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_calls(signum):
    ear, learner = Ear(), FakeLearner()
    outcome = make(learner, ear, stop=lambda: signum if learner.steps >= 6 else None).run()
    assert (outcome.status, outcome.exit_code) == ("KILLED", 128 + signum)
    assert 6 <= outcome.step == learner.steps < 15
    assert outcome.weights["w"] == learner.steps
    assert outcome.test_accuracy is None
    assert {step % 4 for step, key, _ in ear.points if key == "train/loss"} == {0}  # no window is cut short


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_weights():
    ear = Ear()
    outcome = make(FakeLearner(bad_step=7), ear).run()
    assert (outcome.status, outcome.exit_code, outcome.step) == ("FAILED", 1, 8)
    assert outcome.reason == ("train loss is not finite at step 8, first in fc2; lower optim.lr (now 0.1)")
    assert outcome.weights["w"] == 5  # of the end of the first epoch
    assert all(math.isfinite(value) for *_, value in ear.points)


def copied(trainer):
    """What a checkpoint holds."""
    return copy.deepcopy(trainer.state), trainer.learner.steps, copy.deepcopy(trainer.clock)


class Third(Hook):
    """Logs how often it was called, which it has to remember, and ends a run at the third call."""

    def __init__(self):
        self.calls = 0

    def on_epoch_end(self, state):
        self.calls += 1
        state.log("calls", self.calls)
        assert state.history[-1]["epoch"] == state.epoch == len(state.history)
        assert [row["calls"] for row in state.history[:-1]] == list(range(1, self.calls))
        if self.calls == 3:
            state.stop("enough")


@pytest.mark.parametrize("interrupted", range(1, 17))
@pytest.mark.parametrize("early", [{}, {"epochs": 9, "patience": 1}, {"epochs": 9, "hooks": "third"}], ids=str)
def test_a_run_that_goes_on_from_a_checkpoint_ends_as_one_that_was_never_interrupted(interrupted, early):
    """Whether it is to run to its planned end, until nothing becomes better, or until a hook ends it."""

    def prepared(ear, **rest):
        learner = FakeLearner(valleys={5: 0.2, 10: 0.1, 15: 0.3})
        hooks = {"hooks": [Third()]} if "hooks" in early else {}
        return learner, make(learner, ear, keep="best", **{**early, **hooks}, **rest)

    whole = Ear()
    expected = prepared(whole)[1].run()
    saved, ear = [], Ear()
    prepared(ear, checkpoint_s=0.0, save=lambda t: saved.append(copied(t)))[1].run()
    state, steps, clock = saved[min(interrupted, len(saved)) - 1]
    known = {(step, key): value for step, key, value in ear.points if step <= steps}
    again = Ear()
    learner, trainer = prepared(again)
    learner.steps, trainer.state, trainer.clock = steps, state, clock
    outcome = trainer.run()
    assert known | {(s, k): v for s, k, v in again.points} == {(s, k): v for s, k, v in whole.points}
    assert outcome.weights == expected.weights == {"w": np.array([10])}
    assert (outcome.step, outcome.test_accuracy) == (expected.step, expected.test_accuracy)


def test_the_schedule_multiplies_the_learning_rate():
    learner, ear = FakeLearner(), Ear()
    make(learner, ear, Polynomial(power=1), epochs=2).run()
    assert learner.rates == [0.1 * (1 - step / 10) for step in range(10)]
    rates = {step: value for step, key, value in ear.points if key == "train/lr"}
    assert rates == {4: 0.1 * (1 - 3 / 10), 8: 0.1 * (1 - 7 / 10), 10: 0.1 * (1 - 9 / 10)}


def test_the_recorded_rate_is_the_one_that_was_trained_with():
    """A plateau is seen after an epoch, whose own steps were taken with the rate before it."""
    learner, ear = FakeLearner(), Ear()
    make(learner, ear, Plateau(gamma=0.5, patience=0), log_every=5).run()
    assert learner.rates == [0.1] * 10 + [0.05] * 5  # the first value always improves, the second is a plateau
    assert [(step, value) for step, key, value in ear.points if key == "train/lr"] == [(5, 0.1), (10, 0.1), (15, 0.05)]
    assert [epoch.lr for epoch in ear.epochs] == [0.1, 0.1, 0.05]


def test_the_best_epoch_is_kept_and_tested():
    learner = FakeLearner(valleys={5: 0.3, 10: 0.1, 15: 0.2})
    outcome = make(learner, Ear(), keep="best").run()
    assert outcome.weights["w"] == learner.shown["w"] == 10
    assert make(FakeLearner(valleys={10: 0.1}), Ear()).run().weights["w"] == 15


def test_patience_ends_a_run_that_does_not_improve():
    ear = Ear()
    learner = FakeLearner(valleys={5: 0.3, 10: 0.1})
    outcome = make(learner, ear, epochs=9, patience=2).run()
    assert outcome.step == 20  # the best epoch is the second, and two more were given
    assert (outcome.status, len(ear.epochs)) == ("FINISHED", 4)


def test_a_time_budget_ends_a_run_and_until_repeats_it():
    ear, again = Ear(), Ear()
    outcome = make(FakeLearner(), ear, epochs=1000, time_budget_s=0.001).run()
    assert outcome.status == "FINISHED"
    assert outcome.step < 5000
    assert make(FakeLearner(), again, epochs=1000, until=outcome.step).run().step == outcome.step
    assert again.points == ear.points


def test_checkpoints_come_when_they_are_due_and_when_a_run_is_stopped():
    saved = []
    make(FakeLearner(), Ear(), checkpoint_s=3600.0, save=saved.append).run()
    assert saved == []
    learner = FakeLearner()
    stop = lambda: signal.SIGINT if learner.steps else None  # noqa: E731
    make(learner, Ear(), stop=stop, save=saved.append).run()
    assert len(saved) == 1


def test_a_norm_is_exact():
    assert trainer_module.norm(np.array([[3e20, 4e20]], np.float32)) == pytest.approx(5e20, rel=1e-7)  # beyond float32
    assert trainer_module.norm(np.array([1.0] + [2**-27] * 64, np.float32)) > 1  # lost one by one in float64's sum


def test_a_run_is_cut_where_a_signal_stopped_it():
    """In the middle of an epoch nothing follows; at the end of one comes what always does, and no test."""
    ear = Ear()
    outcome = make(FakeLearner(), ear, until=8, cut=True).run()
    assert (outcome.status, outcome.step) == ("KILLED", 8)
    assert [step for step, key, _ in ear.points if key == "train/loss"] == [4, 8]
    assert {step for step, key, _ in ear.points if key == "val/loss"} == {5}
    ear = Ear()
    outcome = make(FakeLearner(), ear, until=10, cut=True).run()
    assert (outcome.status, outcome.step) == ("KILLED", 10)
    assert {step for step, key, _ in ear.points if key == "val/loss"} == {5, 10}
    assert not [key for _, key, _ in ear.points if key.startswith("test/")]


def test_who_gives_the_last_step_asks_no_clock():
    outcome = make(FakeLearner(), Ear(), until=12, time_budget_s=1e-9).run()
    assert (outcome.status, outcome.step) == ("FINISHED", 12)


def test_hooks_see_each_epoch_and_log_numbers_of_their_own():
    seen = []

    class Gap(Hook):
        def on_epoch_end(self, state):
            seen.append((state.epoch, state.epochs, state.step, state.val_loss, state.val_accuracy, state.lr))
            state.log("gap", state.val_loss - state.train_loss)
            state.log("nothing", math.nan)

    ear = Ear()
    assert make(FakeLearner(), ear, hooks=[Gap()]).run().step == 15
    assert seen == [(i, 3, 5 * i, 0.25, 5 / 20, 0.1) for i in (1, 2, 3)]
    gaps = {step: value for step, key, value in ear.points if key == "own/gap"}
    assert gaps == {epoch.step: 0.25 - epoch.train_loss for epoch in ear.epochs}
    assert not [key for _, key, _ in ear.points if key == "own/nothing"]


def test_a_hook_ends_a_run_with_its_test():
    told, ear = [], Ear()
    ear.stopping = told.append
    outcome = make(FakeLearner(), ear, epochs=9, hooks=[Third()]).run()
    assert (outcome.status, outcome.step, len(ear.epochs)) == ("FINISHED", 15, 3)
    assert outcome.test_accuracy is not None
    assert told == ["ended by a hook after epoch 3: enough"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("a b", 1, r"expected a name of letters, digits and _\.-, got 'a b'"),
        ("val_loss", 1, r"expected a name of letters, digits and _\.- that is not the program's, got 'val_loss'"),
        ("gap", "much", r"expected a number for gap, got 'much'"),
        ("gap", None, r"expected a number for gap, got None"),
    ],
)
def test_what_a_hook_cannot_log_is_refused(name, value, message):
    class Bad(Hook):
        def on_epoch_end(self, state):
            state.log(name, value)

    with pytest.raises(ConfigError, match=rf"^state\.log: {message}$"):
        make(FakeLearner(), Ear(), hooks=[Bad()]).run()


@pytest.mark.parametrize("spread", [0, 1, 8])
def test_a_norm_is_the_root_of_the_exact_sum_of_squares(spread):
    """Values of many magnitudes, zeros, the least and the largest of float32."""
    rng = np.random.default_rng(spread)
    values = (rng.standard_normal((500, 3)) * np.exp(spread * rng.standard_normal((500, 3)))).astype(np.float32)
    values[::7, 1], values[3] = 0, (1e-45, 3e38, -1e-38)
    wide = np.ldexp(np.float32(1), np.arange(-149, 128))
    odd = np.full(4099, np.nextafter(np.float32(1), np.float32(0)))
    ends = np.float32([np.inf, 1]), np.float32([1, np.nan]), np.float32([np.nan, np.inf])
    for some in (values, values[4:], values[:0], np.zeros(3, np.float32), wide, odd, *ends):
        expected = math.sqrt(math.fsum(some.astype(np.float64).ravel() ** 2))
        np.testing.assert_equal(trainer_module.norm(some), expected)
    assert trainer_module.norm(np.float32([[3], [4]])) == 5
