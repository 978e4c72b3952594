"""The public names of the runner, for notebooks and scripts: what the command line takes, and objects beside it."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

from odyssey_core.errors import ConfigError, shortened
from odyssey_core.errors import OdysseyError as OdysseyError
from odyssey_core.nn import Module
from odyssey_run import cli
from odyssey_run.api.given import given
from odyssey_run.config.request import Request as Request
from odyssey_run.runs import recorded
from odyssey_run.runs.events import EpochEnd as EpochEnd
from odyssey_run.runs.recorded import RecordedRun as RecordedRun
from odyssey_run.runs.requests import request_of
from odyssey_run.tracking.names import Status
from odyssey_run.training.hooks import Hook as Hook
from odyssey_run.training.train import run as run_training

Function = TypeVar("Function", bound=Callable[..., Any])


class UnfinishedRun(OdysseyError):
    """A run that was begun and did not come to its end.

    Args:
        run: what it left.
    """

    def __init__(self, run: RecordedRun):
        self.run = run
        which = (run.folder.name if run.folder else "") or "auto"  # run.dir= may be called otherwise than the run
        hint = f'; train(..., "resume={which}") goes on with it' if run.status == Status.KILLED else ""
        super().__init__(f"{run.name} ended {run.status}: {run.reason}; see {run.folder}{hint}")


def _plainly(function: Function) -> Function:
    """Decorates what raises a user's mistakes without the way through the program that they took."""

    @wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except OdysseyError as error:
            mistake = error
        except Exception as error:
            if not (line := cli.told_of_plugin(error)):
                raise
            mistake = ConfigError(line)
        raise mistake.with_traceback(None) from None

    return cast("Function", called)


@_plainly
def compose(
    *overrides: str,
    model: Callable[..., Module] | None = None,
    data: Any = None,
    hooks: Sequence[Hook | type[Hook]] | None = None,
    config_dir: str | None = None,
    plugins: Sequence[str] = (),
) -> Request:
    """The checked request that ``odyssey-run`` would run: ``compose("data=emnist", "optim.lr=0.1").config``.

    Arguments are as `train` takes them. Raises OdysseyError: everything that is wrong, at once.
    """
    return _compose("compose", overrides, config_dir, plugins, model=model, data=data, hooks=hooks)


@_plainly
def train(
    *overrides: str,
    model: Callable[..., Module] | None = None,
    data: Any = None,
    hooks: Sequence[Hook | type[Hook]] | None = None,
    config_dir: str | None = None,
    plugins: Sequence[str] = (),
) -> RecordedRun:
    """Trains as ``odyssey-run`` does, with the same folder, screen and MLflow run.

    What is given as an object becomes a plug-in file, which is what runs: its source with all that it rests on. The run
    keeps it, and ``--plugin`` takes it again.

    Args:
        overrides: as on the command line.
        model: a class derived from `odyssey_core.Module`, or a function that returns one; it takes ``input_shape`` and
            ``classes``, and its other parameters are options.
        data: (images, labels), with images as whole numbers from 0 to 255, (N, H, W), (N, H, W, C) or (N, C, H, W), and
            labels as numbers or names; a pair of such, the second of which is for the test; a `Dataset`; or a function
            that returns one. Without a test part a fifth of each class is set aside for it (``data.test_share``).
        hooks: classes derived from `Hook`, or objects of such; each object is made again with its options.
        config_dir: a folder with configuration files of your own, as ``--config-dir`` takes it.
        plugins: files as ``--plugin`` takes them.

    Raises:
        UnfinishedRun: the run failed or was stopped; it is in the exception's ``run``.
        OdysseyError: a mistake in what was asked for; nothing has been written then.
    """
    request = _compose("train", overrides, config_dir, plugins, model=model, data=data, hooks=hooks)
    if request.task.name != "train":
        name = request.task.name
        how = f"run it on the command line: odyssey-run task={name} ..."
        raise ConfigError(f"train: expected task=train, got task={name}; {how}")
    run = recorded.open_folder(run_training(request)[1])
    if run.status != Status.FINISHED:
        raise UnfinishedRun(run)
    return run


@_plainly
def load(run_id: str, *overrides: str) -> RecordedRun:
    """A run of earlier: ``load("lenet5-sgd-lr0.01-s0-3f2a")``.

    Args:
        run_id: its folder, name, or MLflow id.
        overrides: such as ``tracking.uri=...``.

    Raises:
        OdysseyError: no such run.
    """
    _check_texts("load", overrides)
    return recorded.find(str(run_id), compose(*overrides).tracking)


def _compose(
    function: str, overrides: Sequence[str], config_dir: str | None, plugins: Sequence[str], **objects: Any
) -> Request:
    _check_texts(function, overrides)
    texts, own = given(overrides, **objects)
    return request_of((*overrides, *texts), config_dir, (*plugins, *own))


def _check_texts(function: str, arguments: Sequence[object]) -> None:
    """Refuses what is on no command line, and the flags of one."""
    for argument in arguments:
        if not isinstance(argument, str):
            spread = f"; a list is spread: {function}(*overrides)" if isinstance(argument, list | tuple) else ""
            kind = type(argument).__name__
            raise ConfigError(f'{function}: expected text such as "optim.lr=0.1", got a {kind}{spread}')
        if argument in ("-m", "--multirun"):
            raise ConfigError(f"{function}: makes a single run; call it once for each value, or use odyssey-run -m ...")
        if argument.startswith("-"):
            what = f"flags are for the command line, got {shortened(argument)}"
            raise ConfigError(f"{function}: {what}; --config-dir is config_dir=FOLDER")
