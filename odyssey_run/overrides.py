"""The command line, read before Hydra reads it, so that all its faults are told together.

Hydra stops at the first unknown group option or key. Here a value is handed on as ``++key=value``, which Hydra lets
through whatever the key is, and the checker of the composed configuration names every key that configures nothing.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from odyssey_core.registry import unknown

EMPTY_GROUPS = ("experiment", "debug")  # those that a run may leave unset


@dataclass(frozen=True)
class CommandLine:
    """What is handed to Hydra, and what was already found wrong.

    Args:
        overrides: those that Hydra can compose.
        faults: one line each.
        groups: whose option was wrong; their keys say nothing, since another option had to be put in.
    """

    overrides: tuple[str, ...]
    faults: tuple[str, ...]
    groups: frozenset[str]


def read(overrides: Iterable[str], options: Mapping[str, list[str]]) -> CommandLine:
    """Makes the overrides composable.

    Args:
        overrides: as typed.
        options: of every group: ``{"model": ["lenet5", ...], ...}``.
    """
    parse = parser_for(options)
    passed, faults, groups = [], [], set()
    for text in overrides:
        try:
            override = parse(text)
        except HydraException as error:
            faults.append(_unreadable(text, error))
            continue
        group = override.key_or_group
        if override.is_hydra_override() or override.is_delete():
            passed.append(text)
        elif group not in options:
            passed.append("++" + text.lstrip("+"))
        elif wrong := _wrong_options(override, options[group]):
            faults += [_wrong_group(group, option, options[group]) for option in wrong]
            groups.add(group)
            if near := get_close_matches(str(wrong[0]), options[group], n=1):
                passed.append(f"{group}={near[0]}")
        else:
            passed.append(text)
    return CommandLine(tuple(passed), tuple(faults), frozenset(groups))


class _Groups:
    """What Hydra's parser asks for ``glob()``."""

    def __init__(self, options: Mapping[str, list[str]]):
        self.options = options

    def get_group_options(self, group: str, results_filter: object) -> list[str]:
        return self.options.get(group, [])


def parser_for(options: Mapping[str, list[str]]) -> Callable[[str], Override]:
    """Hydra's parser of an override, which knows the groups."""
    parser, groups = OverridesParser.create(), _Groups(options)

    def parse(text: str) -> Override:
        override = parser.parse_override(text)
        override.config_loader = groups
        return override

    return parse


def group_options(folders: Iterable[Path]) -> dict[str, list[str]]:
    """The groups in configuration folders and the options of each."""
    options: dict[str, list[str]] = {group: [] for group in EMPTY_GROUPS}
    for folder in folders:
        for file in sorted(folder.glob("*/**/*.yaml")):
            options.setdefault(file.parent.relative_to(folder).as_posix(), []).append(file.stem)
    return {group: sorted(set(names)) for group, names in options.items()}


def _wrong_options(override: Override, options: list[str]) -> list[object]:
    if override.is_sweep_override():
        if not override.is_choice_sweep():
            return []
        values: list[object] = list(override.sweep_string_iterator())
    else:
        value = override.value()
        values = list(value) if isinstance(value, list) else [value]
    if override.key_or_group in EMPTY_GROUPS:
        values = [value for value in values if value not in (None, "null")]
    return [value for value in values if str(value).removesuffix(".yaml") not in options]


def _wrong_group(group: str, option: object, options: list[str]) -> str:
    if isinstance(option, dict):
        names = ", ".join(options)
        return f"{group}: expected the name of an option ({names}), got values; set them as {group}.KEY=VALUE"
    return unknown(group, "null" if option is None else str(option), options)


def _unreadable(text: str, error: HydraException) -> str:
    if "=" not in text and not text.startswith("~"):
        return f"cannot read {text!r}: expected name=value, for example optim.lr=0.01 or model=lenet5"
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "not name=value")
    reason = reason.partition(" expecting ")[0]
    return f"cannot read {text!r}: {reason}; put values with special characters in quotes: 'name=\"...\"'"
