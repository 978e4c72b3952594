"""The command ``odyssey-run``: Hydra composes, the checker answers for every mistake, a task runs."""

import atexit
import errno
import gc
import os
import sys
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

import yaml

from odyssey_core.errors import ConfigError, OdysseyError, shortened
from odyssey_core.machine import installed_version
from odyssey_core.registry import ENTRY_POINTS, unknown
from odyssey_core.registry import resolved as registry_at
from odyssey_run.config.binding import Faults
from odyssey_run.config.command_line import CommandLine
from odyssey_run.config.composition import HOUSE, ConfigFiles, registered, resolved, value_at
from odyssey_run.config.masking import masked
from odyssey_run.runs import requests
from odyssey_run.runs.streams import lasting

OK, FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LONGEST_LINE = 500  # characters
HELP = Path(__file__).with_name("help.txt").read_text(encoding="utf-8")
# Flags of Hydra's that would do nothing here, or something else, and what does it.
REFUSED = {
    ("--config-path", "-cp"): "files of your own are added by --config-dir FOLDER",
    ("--config-name", "-cn"): "a configuration of your own is FOLDER/experiment/NAME.yaml, chosen by --config-dir "
    "FOLDER experiment=NAME",
    ("--experimental-rerun",): "a run is made again by the command that task=doctor and its report name",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the command line asks for, by default ``sys.argv[1:]``; returns the exit code, as `HELP` lists them."""
    if argv is None:
        atexit.register(gc.freeze)  # Python looks through all that it has imported as it ends, for a fifth of a second
    argv = list(sys.argv[1:] if argv is None else argv)
    with lasting():
        try:
            os.getcwd()
        except FileNotFoundError:
            return report(ConfigError("the current folder was deleted; change to another"))
        try:
            return _run(argv)
        except KeyboardInterrupt as error:
            for line in ("interrupted", *getattr(error, "__notes__", ())):
                print(f"odyssey-run: {line}", file=sys.stderr)
            return INTERRUPTED
        except (Exception, SystemExit) as error:
            if (told := told_of_plugin(error)) or isinstance(error, OdysseyError):
                return report(error, told)
            if not isinstance(error, OSError):
                raise
            if error.errno in FULL:
                print(f"odyssey-run: {masked(str(error))}; make room and try again", file=sys.stderr)
                return FAILED
            if error.filename is None:
                raise
            return report(ConfigError(f"{shortened(str(error.filename))}: {error.strerror}; name another place"))


def version() -> str:
    """The program's version; "unknown" where it is run from its sources, without having been installed."""
    return installed_version("ml-odyssey") or "unknown"


def told_of_plugin(error: BaseException) -> str | None:
    """The line for an error that was raised in a plug-in; None for any other."""
    plugins = sys.modules.get("odyssey_run.config.plugins")  # None: nothing was loaded
    line: str | None = plugins.told(error) if plugins else None
    return line


def report(error: BaseException, line: str | None = None) -> int:
    """One line on stderr for every fault, or the one that is given; returns the exit code of a mistake."""
    if os.environ.get("HYDRA_FULL_ERROR") == "1":
        print(masked("".join(traceback.format_exception(error))), file=sys.stderr)
    lines = error.lines if isinstance(error, Faults) else [line or " ".join(str(error).split())]
    whole = getattr(error, "__notes__", ())  # commands to paste
    for line in (*(_cut(masked(line)) for line in lines), *map(masked, whole)):
        print(f"odyssey-run: {line}", file=sys.stderr)
    return MISTAKE


def _cut(line: str) -> str:
    """A line as long as a person reads, with its beginning and its end."""
    most = LONGEST_LINE - len("odyssey-run:  ... ")
    return line if len(line) <= most else f"{line[: most // 2]} ... {line[-(most // 2) :]}"


def _run(argv: list[str]) -> int:
    args, unknown_flags = _arguments(argv)
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere) if args.quiet else nullcontext():
        return _answer(argv, args, unknown_flags)


def _answer(argv: list[str], args: Namespace, unknown_flags: list[str]) -> int:
    if args.version:
        print(f"odyssey-run {version()}")
        return OK
    if args.hydra_help or args.shell_completion:
        return _of_hydra(argv)
    files = ConfigFiles(args.config_dir, args.plugin or ())
    if args.help:
        return _help(args, files)
    line = CommandLine(args.overrides, files.options, args.multirun)
    line.faults += unknown_flags
    typed = (*files.flags, *args.overrides)
    if args.multirun and not args.cfg and not args.info:
        from odyssey_run.sweep.conduct import sweep

        return sweep(line, typed, files)
    if args.multirun:
        raise ConfigError("--cfg and --info show one configuration: leave -m out, or use -m sweep.dry_run=true")
    if args.info:
        if line.faults:
            raise Faults(line.faults)
        own = [f"--config-dir={args.config_dir}"] if args.config_dir else []
        return _of_hydra(["--info", args.info, *own, *line.groups])
    config = requests.composed(files, line)
    request = requests.checked(config, line, typed, files)
    if args.cfg:
        return _show(config, args)
    code = request.task.target(request, **request.task.arguments)
    if not isinstance(code, int):
        raise ConfigError(f"task {request.task.name}: expected it to return its exit code, got {shortened(repr(code))}")
    return code


def _arguments(argv: list[str]) -> tuple[Namespace, list[str]]:
    """The flags, the overrides between them, and a fault for each flag that does not exist. Raises ConfigError: a
    flag with a wrong value, or one that would do nothing."""
    parser = ArgumentParser(prog="odyssey-run", add_help=False, allow_abbrev=False)
    parser.error = _misused  # type: ignore[method-assign]
    parser.add_argument("overrides", nargs="*")
    for names in (("--help", "-h"), ("--version",), ("--hydra-help",), ("--resolve",), ("--run", "-r")):
        parser.add_argument(*names, action="store_true")
    for names in (("--multirun", "-m"), ("--shell-completion", "-sc"), ("--quiet", "-q")):
        parser.add_argument(*names, action="store_true")
    parser.add_argument("--cfg", "-c", choices=["job"])
    parser.add_argument("--package", "-p")
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--plugin", action="append")
    infos = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
    parser.add_argument("--info", "-i", const="all", nargs="?", choices=infos)
    for refused in REFUSED:
        parser.add_argument(*refused, dest=refused[0])
    args, others = parser.parse_known_intermixed_args(argv)
    for refused, instead in REFUSED.items():
        if getattr(args, refused[0]) is not None:
            raise ConfigError(f"{refused[0]}: is not used here; {instead}")
    if (args.resolve or args.package) and not args.cfg:
        raise ConfigError("--resolve and --package say how to print a configuration: add --cfg job")
    args.overrides += [text for text in others if not text.startswith("-")]
    why = "there is no such flag; odyssey-run --help shows what there is"
    return args, [f"{shortened(text)}: {why}" for text in others if text.startswith("-")]


def _misused(message: str) -> NoReturn:
    raise ConfigError(f"{message}; odyssey-run --help shows what there is")


def _show(config: dict[str, Any], args: Namespace) -> int:
    """``--cfg job``: the configuration as YAML."""
    from omegaconf import OmegaConf

    shown = resolved(config)[0] if args.resolve else config
    if args.package:
        if (shown := value_at(shown, args.package)) is None:
            raise ConfigError(unknown("--package", args.package, config))
        print(f"# @package {args.package}")
    print(masked(OmegaConf.to_yaml(OmegaConf.create(shown)) if isinstance(shown, dict | list) else str(shown)))
    return OK


def _of_hydra(argv: list[str]) -> int:
    from odyssey_run.config.hydra_composition import answer

    return answer(argv)


def _help(args: Namespace, files: ConfigFiles) -> int:
    """Groups, and the files of the chosen options as they are: their comments explain them.

    Hydra's own help reads every file of every group, which takes a second.
    """
    chosen = dict(text.split("=", 1) for text in args.overrides if "=" in text)
    print(HELP)
    print("Plug-ins:")
    for name, parts in sorted(_plugins(files).items()):
        print(f"  {name}: {', '.join(parts)}")
    print("\nGroups, choose one of each (group=option):")
    for group, options in sorted(files.options.items()):
        print(f"  {group:<12}{', '.join(options)}")
    print("\nValues, set any (group.name=value, and seed= run.name= run.dir=):")
    for default in yaml.safe_load((HOUSE / "config.yaml").read_text())["defaults"]:
        for group, option in default.items() if isinstance(default, dict) else ():
            which = str(chosen.get(group, option))
            file = HOUSE / group / f"{which}.yaml"
            own = registered(group, which)
            text = "" if own is None else str(yaml.safe_dump({"name": which, **own}, sort_keys=False))
            if text := file.read_text() if file.exists() else text:
                print(f"  {group}:")
                print("".join(f"    {line}\n" for line in text.splitlines()), end="")
    return OK


def _plugins(files: ConfigFiles) -> dict[str, list[str]]:
    """What each plug-in adds, by its name: installed packages, which are not imported, and the files that are named."""
    from importlib.metadata import entry_points

    found: dict[str, list[str]] = {}
    for group in sorted(group for group in entry_points().groups if group.startswith(f"{ENTRY_POINTS}.")):
        kind = group.partition(".")[2].removesuffix("es" if group.endswith("losses") else "s")
        for point in entry_points(group=group):
            found.setdefault(point.module.partition(".")[0], []).append(f"{kind} {point.name}")
    if files.plugins:
        from odyssey_core.register import REGISTRIES

        for kind, registry in REGISTRIES.items():
            for name, source in registry_at(registry).added.items():
                if source in {plugin.name for plugin in files.plugins}:
                    found.setdefault(source, []).append(f"{kind} {name}")
    return found


if __name__ == "__main__":
    sys.exit(main())
