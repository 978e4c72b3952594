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

from odyssey_core.errors import ConfigError
from odyssey_run.runs.events import EpochEnd


class Hook:
    """Base of the hooks; the parameters of a subclass are its options."""

    def on_epoch_end(self, state: EpochEnd) -> None:
        """Called after each epoch and its validation; a run that goes on hears of its earlier epochs again first."""
        raise ConfigError(f"{type(self).__name__}: define on_epoch_end(self, state)")
