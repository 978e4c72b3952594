"""The public names of the runner, for notebooks and scripts. Arguments are what the command line takes."""

from odyssey_run import cli, runs, training
from odyssey_run.assemble import Request
from odyssey_run.runs import RecordedRun

__all__ = ["RecordedRun", "Request", "compose", "load", "train"]


def compose(*overrides: str) -> Request:
    """The checked request that ``odyssey-run`` would run: ``compose("data=emnist", "optim.lr=0.1").config``.

    Raises:
        OdysseyError: everything that is wrong, at once.
    """
    return cli.compose(overrides)


def train(*overrides: str) -> RecordedRun:
    """Trains as ``odyssey-run`` does, with the same folder, screen and MLflow run.

    Raises:
        OdysseyError: a mistake in what was asked for; nothing has been written then.
    """
    _, folder = training.run(compose(*overrides))
    return runs.open_folder(folder)


def load(run_id: str, *overrides: str) -> RecordedRun:
    """A run of earlier: ``load("lenet5-sgd-lr0.01-s0-3f2a")``.

    Args:
        run_id: its folder, name, or MLflow id.
        overrides: such as ``tracking.uri=...``.

    Raises:
        OdysseyError: no such run.
    """
    return runs.find(run_id, compose(*overrides).tracking)
