"""The public names of the runner, for notebooks and scripts. Arguments are what the command line takes."""

from collections.abc import Sequence

from odyssey_core.errors import ConfigError, OdysseyError, shortened
from odyssey_run import cli, runs, training
from odyssey_run.assemble import Request
from odyssey_run.runs import RecordedRun

__all__ = ["OdysseyError", "RecordedRun", "Request", "UnfinishedRun", "compose", "load", "train"]


class UnfinishedRun(OdysseyError):
    """A run that was begun and did not come to its end.

    Args:
        run: what it left.
    """

    def __init__(self, run: RecordedRun):
        self.run = run
        end = next((record for record in reversed(run.records) if record["kind"] == "end"), {})
        which = (run.folder.name if run.folder else "") or "auto"  # run.dir= may be called otherwise than the run
        hint = f'; train(..., "resume={which}") goes on with it' if run.status == "KILLED" else ""
        super().__init__(f"{run.name} ended {run.status}: {end.get('reason')}; see {run.folder}{hint}")


def compose(*overrides: str, config_dir: str | None = None, plugins: Sequence[str] = ()) -> Request:
    """The checked request that ``odyssey-run`` would run: ``compose("data=emnist", "optim.lr=0.1").config``.

    Args:
        overrides: as on the command line.
        config_dir: a folder with configuration files of your own, as ``--config-dir`` takes it.
        plugins: files as ``--plugin`` takes them.

    Raises:
        OdysseyError: everything that is wrong, at once.
    """
    _check_texts("compose", overrides)
    return cli.compose(overrides, config_dir, plugins)


def train(*overrides: str, config_dir: str | None = None, plugins: Sequence[str] = ()) -> RecordedRun:
    """Trains as ``odyssey-run`` does, with the same folder, screen and MLflow run.

    Args:
        overrides: as on the command line.
        config_dir: a folder with configuration files of your own, as ``--config-dir`` takes it.
        plugins: files as ``--plugin`` takes them.

    Raises:
        UnfinishedRun: the run failed or was stopped; it is in the exception's ``run``.
        OdysseyError: a mistake in what was asked for; nothing has been written then.
    """
    _check_texts("train", overrides)
    request = cli.compose(overrides, config_dir, plugins)
    if request.task.name != "train":
        name = request.task.name
        raise ConfigError(f"train: trains, got task={name}; run it on the command line: odyssey-run task={name} ...")
    _, folder = training.run(request)
    run = runs.open_folder(folder)
    if run.status != "FINISHED":
        raise UnfinishedRun(run)
    return run


def load(run_id: str, *overrides: str) -> RecordedRun:
    """A run of earlier: ``load("lenet5-sgd-lr0.01-s0-3f2a")``.

    Args:
        run_id: its folder, name, or MLflow id.
        overrides: such as ``tracking.uri=...``.

    Raises:
        OdysseyError: no such run.
    """
    _check_texts("load", overrides)
    return runs.find(str(run_id), compose(*overrides).tracking)


def _check_texts(function: str, arguments: tuple[object, ...]) -> None:
    """Refuses what is on no command line, and the flags of one."""
    for argument in arguments:
        if not isinstance(argument, str):
            spread = f"; a list is spread: {function}(*overrides)" if isinstance(argument, list | tuple) else ""
            kind = type(argument).__name__
            raise ConfigError(f'{function}: expected text such as "optim.lr=0.1", got a {kind}{spread}')
        if argument in ("-m", "--multirun"):
            raise ConfigError(f"{function}: makes one run; call it once for each value, or use odyssey-run -m ...")
        if argument.startswith("-"):
            flag = shortened(argument)
            raise ConfigError(
                f"{function}: flags are for the command line, got {flag}; --config-dir is config_dir=FOLDER"
            )
