"""The command ``odyssey-run``: Hydra composes, the checker answers for every mistake, a task runs."""

import errno
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import hydra
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from odyssey_core.errors import ConfigError, OdysseyError
from odyssey_run import overrides as command_line
from odyssey_run.binding import Faults
from odyssey_run.masking import masked
from odyssey_run.origin import told
from odyssey_run.streams import lasting

if TYPE_CHECKING:
    from odyssey_run.assemble import Request

CONFIG_MODULE = "odyssey_run.conf"
OK, FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
HELP = """\
odyssey-run trains a model from YAML on the CPU and leaves a run in MLflow.

  odyssey-run                                           LeNet-5 on glyphs, no network needed
  odyssey-run model=lenet5 data=emnist optim.lr=0.01
  odyssey-run --cfg job optim=adamw                     print the composed config, run nothing
  odyssey-run -m optim.lr=0.01,0.03,0.1                 a run for each value
  odyssey-run --hydra-help                              the other flags

Exit codes: 0 finished, 1 failed, 2 a mistake in what was asked for, 3 a claim was missed, 5 finished but MLflow has not
all of it, 128 + N stopped by signal N (129 a closed terminal, 130 Ctrl-C, 131 Ctrl-\\, 138 SIGUSR1, 143 SIGTERM).
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the command line asks for.

    Args:
        argv: without the program's name; ``sys.argv[1:]`` by default.

    Returns:
        The exit code: 0 finished, 1 failed, 2 a mistake in what was asked for, 130 interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its exceptions instead of printing them and exiting with 1
    with lasting():
        try:
            return _run(argv)
        except (OdysseyError, HydraException, OmegaConfBaseException) as error:
            return report(error)
        except KeyboardInterrupt as error:
            for line in ("interrupted", *getattr(error, "__notes__", ())):
                print(f"odyssey-run: {line}", file=sys.stderr)
            return INTERRUPTED
        except OSError as error:
            if error.errno not in FULL:
                raise
            print(f"odyssey-run: {error}; make room and try again", file=sys.stderr)
            return FAILED


def report(error: Exception) -> int:
    """One line on stderr for every fault; returns the exit code of a mistake."""
    lines = error.lines if isinstance(error, Faults) else [_one_line(error)]
    for line in (*lines, *getattr(error, "__notes__", ())):
        print(f"odyssey-run: {masked(line)}", file=sys.stderr)
    return MISTAKE


def _run(argv: list[str]) -> int:
    parser = get_args_parser()
    parser.error = _misused  # type: ignore[method-assign]
    args = parser.parse_intermixed_args(argv)
    if args.help:
        return _help(args)
    if args.hydra_help or args.info or args.shell_completion or args.experimental_rerun:
        return _hydra(argv)
    folders = _config_folders(args)
    options = command_line.group_options(folders)
    line = command_line.read(args.overrides, options)
    if args.multirun and not args.cfg:
        from odyssey_run.sweep import sweep

        return sweep(
            line, tuple(args.overrides), options, partial(_compose, args), partial(check_config, folders=folders)
        )
    if not args.multirun:
        stray = [text for text in args.overrides if text.lstrip("+~").startswith(("sweep=", "sweep."))]
        line = replace(line, faults=(*line.faults, *(f"{text}: says how to sweep; give -m too" for text in stray)))
        # Composed here, not by hydra.main, which composes twice and answers a mistake a third of a second later.
        config = _compose(args, line.overrides)
        request = check_config(config, line, tuple(args.overrides), folders)
        if not args.cfg:
            return request.task.target(request, **request.task.arguments)
    if line.faults:
        raise Faults(line.faults)
    flags = [argument for argument in argv if argument not in args.overrides]
    return _hydra([*flags, *line.overrides])


def _misused(message: str) -> NoReturn:
    raise ConfigError(f"{message}; odyssey-run --help shows what there is")


def compose(overrides: Sequence[str]) -> "Request":
    """The checked request of a command line that holds only overrides.

    Raises:
        OdysseyError: everything that is wrong with it.
    """
    args = Namespace(config_dir=None, config_name=None)
    folders = _config_folders(args)
    line = command_line.read(overrides, command_line.group_options(folders))
    try:
        return check_config(_compose(args, line.overrides), line, tuple(overrides), folders)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_one_line(error)) from None


def check_config(
    config: DictConfig, line: command_line.CommandLine, typed: tuple[str, ...], folders: list[Path]
) -> "Request":
    """Checks a composed configuration, less what a sweep alone asks, together with the command line it came from.

    Raises:
        Faults: of both, with the files that wrong values were set in.
    """
    from odyssey_run.assemble import check  # not for --help: it imports the core

    values = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    values.pop("sweep", None)
    try:
        request = check(values, typed, line.groups)
    except Faults as faults:
        raise Faults([*line.faults, *(told(each, typed, values, folders) for each in faults.lines)]) from None
    if line.faults:
        raise Faults(line.faults)
    return request


def _hydra(argv: list[str]) -> int:
    """Everything that Hydra does itself: ``--cfg``, ``--info``, shell completion."""
    saved = sys.argv
    sys.argv = [saved[0], *argv]
    said = StringIO()
    try:
        with redirect_stdout(said):
            hydra.main(config_path=f"pkg://{CONFIG_MODULE}", config_name="config", version_base="1.3")(print)()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        print(masked(said.getvalue()), end="")
        sys.argv = saved
        GlobalHydra.instance().clear()
    return OK


def _compose(args: Namespace, overrides: Sequence[str]) -> DictConfig:
    search = [f"hydra.searchpath=[file://{Path(args.config_dir).resolve()}]"] if args.config_dir else []
    with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
        return hydra.compose(args.config_name or "config", [*search, *overrides])


def _help(args: Namespace) -> int:
    """Groups, and the files of the chosen options as they are: their comments explain them.

    Hydra's own help reads every file of every group, which takes a second.
    """
    folders = _config_folders(args)
    chosen = dict(text.split("=", 1) for text in args.overrides if "=" in text)
    print(HELP)
    print("Groups, choose one of each (group=option):")
    for group, options in sorted(command_line.group_options(folders).items()):
        print(f"  {group:<12}{', '.join(options)}")
    print("\nValues, set any (group.name=value, and seed= run.name= run.dir=):")
    for default in yaml.safe_load((folders[0] / "config.yaml").read_text())["defaults"]:
        for group, option in default.items() if isinstance(default, dict) else ():
            file = folders[0] / group / f"{chosen.get(group, option)}.yaml"
            if file.exists():
                print(f"  {group}:")
                print("".join(f"    {line}\n" for line in file.read_text().splitlines()), end="")
    return OK


def _config_folders(args: Namespace) -> list[Path]:
    own = Path(str(files(CONFIG_MODULE)))
    return [own, *([Path(args.config_dir)] if args.config_dir else [])]


def _one_line(error: Exception) -> str:
    """A message of Hydra's or OmegaConf's without its layout; with the key and the cause, where it has them."""
    parts = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, OdysseyError):
        return " ".join(parts)
    key = getattr(error, "full_key", None)
    text = f"{key}: {parts[0]}" if key and parts else " ".join(parts) or type(error).__name__
    cause = error.__cause__
    return f"{text}: {_one_line(cause)}" if isinstance(cause, OmegaConfBaseException) else text


if __name__ == "__main__":
    sys.exit(main())
