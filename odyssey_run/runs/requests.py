"""From a command line to a checked request: the configuration that it means, and all that is wrong with both."""

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from odyssey_core.errors import ConfigError
from odyssey_run.config.binding import Faults, collecting, lines_of
from odyssey_run.config.command_line import EMPTY_GROUPS, CommandLine
from odyssey_run.config.composition import ConfigFiles, resolved, set_value, value_at, with_file

if TYPE_CHECKING:
    from odyssey_run.config.plugins import Plugin
    from odyssey_run.config.request import Request


def request_of(
    overrides: Sequence[str], config_dir: str | None = None, plugins: Sequence["str | Plugin"] = ()
) -> "Request":
    """The checked request of a command line that holds only overrides; plug-ins come beside those of the
    environment. Raises OdysseyError: everything that is wrong with it."""
    files = ConfigFiles(config_dir, plugins)
    line = CommandLine(overrides, files.options)
    return checked(composed(files, line), line, (*files.flags, *overrides), files)


def composed(files: ConfigFiles, line: CommandLine) -> dict[str, Any]:
    """The composed configuration with what was typed in it; what cannot be set is added to the command line's faults.
    Raises Faults: nothing can be composed."""
    if line.silent & set(EMPTY_GROUPS):  # what a preset sets, the rest may rest on
        raise Faults(line.faults)
    try:
        config = files.compose(line.groups)
        if config["task"]["name"] in ("evaluate", "verify") and not any(g.startswith("data=") for g in line.groups):
            from odyssey_run.runs.recorded import own_data

            config["data"] = own_data(config, {key: given.value for key, given in line.values.items()})
    except ConfigError as error:
        raise Faults([*line.faults, *lines_of(error)]) from None
    for key, given in line.values.items():
        with collecting(line.faults):
            set_value(config, key, given.value)
    line.faults += _faults_of_seeds(config)
    return config


def _faults_of_seeds(config: dict[str, Any]) -> list[str]:
    """What runs of several seeds cannot differ in: beside the seed, their configuration is that of the run above."""
    if config.get("seeds", 1) == 1 or "${" not in str(config):
        return []
    from odyssey_run.runs.provenance import NO_RESULT, flatten  # not for every mistake: it imports the core

    try:
        first, second = (flatten(resolved(copy.deepcopy(own))[0]) for own in (config, {**config, "seed": -1}))
    except ConfigError:  # reported when it is checked
        return []
    made = [key for key, value in first.items() if second.get(key) != value and key.partition(".")[0] not in NO_RESULT]
    shared = f"the {first.get('seeds')} runs share one configuration"
    why = f"depends on the seed, but {shared}; with odyssey-run -m each run has its own"
    return [f"{key}: {why}" for key in made if key != "seed" and first.get("seeds") != "1"]


def checked(config: dict[str, Any], line: CommandLine, typed: tuple[str, ...], files: ConfigFiles) -> "Request":
    """Checks a composed configuration, less what a sweep alone asks, together with the command line it came from.
    Raises Faults: of both, with the files that wrong values were set in."""
    from odyssey_run.config.request import as_typed, check  # not for --help: it imports the core

    values, broken = resolved(config)
    wrong = {**broken, **as_typed(values, line.values)}
    values = {key: value for key, value in values.items() if key != "sweep"}
    try:
        request = check(values, typed, line.silent, files.plugins)
    except Faults as faults:
        lines = [*faults.lines, *_faults_of_places(faults.sound, values)]
        lines = [with_file(x, typed, values, files.folders) for x in lines]
        lines = [x for x in lines if not any(x.startswith((f"{key}:", f"unknown key {key};")) for key in wrong)]
        raise Faults([*line.faults, *wrong.values(), *lines]) from None
    if line.faults or wrong:
        raise Faults([*line.faults, *wrong.values()])
    return request


def _faults_of_places(sound: Mapping[str, Any], values: dict[str, Any]) -> list[str]:
    """What is wrong with the folder and the store of a run whose configuration is wrong elsewhere."""
    from odyssey_run.config.combinations import RECORDING
    from odyssey_run.runs.folder import place_faults

    if not {"run", "tracking"} <= sound.keys() or values["task"].get("name") not in RECORDING:
        return []
    resuming = values.get("resume") is not None
    return place_faults(sound["run"], sound["tracking"], str(value_at(values, "data.name")), resuming)[1]
