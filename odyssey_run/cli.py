"""The command ``odyssey-run``: Hydra composes, the checker answers for every mistake, a task runs."""

import os
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from odyssey_core.errors import OdysseyError
from odyssey_run import overrides as command_line
from odyssey_run.assemble import Request, check
from odyssey_run.binding import Faults

CONFIG_MODULE = "odyssey_run.conf"
OK, FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the command line asks for.

    Args:
        argv: without the program's name; ``sys.argv[1:]`` by default.

    Returns:
        The exit code: 0 finished, 1 failed, 2 a mistake in what was asked for, 130 interrupted. With several jobs
        the first that is not 0.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its exceptions instead of printing them and exiting with 1
    try:
        return _run(argv)
    except (OdysseyError, HydraException, OmegaConfBaseException) as error:
        return report(error)
    except KeyboardInterrupt:
        print("odyssey-run: interrupted", file=sys.stderr)
        return INTERRUPTED


def report(error: Exception) -> int:
    """One line on stderr for every fault; returns the exit code of a mistake."""
    if isinstance(error, OmegaConfBaseException) and getattr(error, "full_key", None):
        lines: Sequence[str] = [f"{error.full_key}: {_first_line(error)}"]
    else:
        lines = error.lines if isinstance(error, Faults) else [_first_line(error)]
    for line in lines:
        print(f"odyssey-run: {line}", file=sys.stderr)
    return MISTAKE


def _run(argv: list[str]) -> int:
    args = get_args_parser().parse_args(argv)
    line = command_line.CommandLine(tuple(args.overrides), (), frozenset())
    if not (args.help or args.hydra_help or args.info or args.shell_completion or args.experimental_rerun):
        line = command_line.read(args.overrides, command_line.group_options(_config_folders(args.config_dir)))
        argv = [*(a for a in argv if a not in args.overrides), *line.overrides]
    if args.multirun and line.faults:
        raise Faults(line.faults)
    codes: list[int] = []

    def job(config: DictConfig) -> None:
        codes.append(_job(config, line, tuple(args.overrides)))

    if args.cfg == "job":
        check_config(_compose(line.overrides, args.config_dir), line, ())
    return _hydra(job, argv) or next((code for code in codes if code), OK)


def _job(config: DictConfig, line: command_line.CommandLine, typed: tuple[str, ...]) -> int:
    """One job of a single run or a sweep; answers with an exit code, so that a sweep goes on after a mistake."""
    try:
        request = check_config(config, line, typed)
        return request.task.target(request, **request.task.arguments)
    except (OdysseyError, OmegaConfBaseException) as error:
        return report(error)


def check_config(config: DictConfig, line: command_line.CommandLine, typed: tuple[str, ...]) -> Request:
    """Checks a composed configuration together with the command line it came from.

    Raises:
        Faults: of both.
    """
    values = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    try:
        request = check(values, typed, line.groups)
    except Faults as faults:
        raise Faults([*line.faults, *faults.lines]) from None
    if line.faults:
        raise Faults(line.faults)
    return request


def _hydra(job, argv: list[str]) -> int:
    saved = sys.argv
    sys.argv = [saved[0], *argv]
    try:
        hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name="config", version_base="1.3")(job)()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = saved
        GlobalHydra.instance().clear()
    return OK


def _compose(overrides: Sequence[str], config_dir: str | None) -> DictConfig:
    search = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return hydra.compose("config", [*search, *overrides])


def _config_folders(config_dir: str | None) -> list[Path]:
    own = Path(str(files(CONFIG_MODULE)))
    return [own, *([Path(config_dir)] if config_dir else [])]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException) and str(cause).strip():
        lines = [*lines[:1], str(cause).splitlines()[0].strip()]
    return ": ".join(lines[:2]) if lines else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
