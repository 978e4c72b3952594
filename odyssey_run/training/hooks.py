"""What a user's own code may do after each epoch: record numbers, and end the run.

    class Reached(Hook):
        def __init__(self, accuracy: float = 0.95):
            self.accuracy = accuracy

        def on_epoch_end(self, state):
            if state.val_accuracy >= self.accuracy:
                state.stop(f"{state.val_accuracy:.2%} of the validation images are right")

A hook is a component like a model: a plug-in registers it, ``hooks=[{name: Reached, accuracy: 0.9}]`` names it, and its
source is a part of the run's code. What it does must follow from what it is told, so that the run can be made again.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from odyssey_core.errors import ConfigError, shortened

ROW = ("epoch", "step", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr")
_NAME = re.compile(r"[A-Za-z_][\w.-]*")

Row = Mapping[str, Any]


class EpochEnd:
    """Where a run is after an epoch and its validation.

    Args:
        history: see below.
        epochs: that the run was planned for.

    Attributes:
        history: a row for each epoch so far, this one last, with epoch, step, train_loss, train_accuracy, val_loss,
            val_accuracy, lr, and what hooks have logged. ``pandas.DataFrame(state.history)`` is a table of it.
        epochs: likewise.
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


class Hook:
    """Base of the hooks; the parameters of a subclass are its options."""

    def on_epoch_end(self, state: EpochEnd) -> None:
        """Called after each epoch and its validation; a run that goes on hears of its earlier epochs again first."""
        raise ConfigError(f"{type(self).__name__}: define on_epoch_end(self, state)")
