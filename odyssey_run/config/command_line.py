"""The command line, read before Hydra composes anything, so that all its faults are reported together.

Hydra stops at the first unknown group option or key. Here its grammar alone is used: options of groups are handed on to
be composed, values are set in what was composed, and the checker names every key that configures nothing.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from odyssey_core.errors import shortened
from odyssey_core.registry import Registry, resolved, unknown
from odyssey_run.config.masking import masked

if TYPE_CHECKING:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Override

CONFIG_MODULE = "odyssey_run.conf"  # the files that are shipped
EMPTY_GROUPS = ("experiment", "debug")  # those that a run may leave unset
# What the options of a group are: registered with the program, by plug-ins, or by installed packages.
KINDS = {"model": "model", "data": "dataset", "loss": "loss", "optim": "optimizer", "scheduler": "schedule"}
KINDS |= {"task": "task"}
KEY = re.compile(r"[A-Za-z_][\w/-]*(\.[\w/-]+)*")
# Characters, and brackets inside one another, for more of which Hydra's parser takes seconds; and names in a key.
LONGEST, DEEPEST = 4000, 30
OPENING, CLOSING = "[{(", "]})"
# What Hydra's own settings would do, done here in another way.
HYDRA = {
    "hydra.run": "the folder of a run is run.dir=FOLDER",
    "hydra.sweep": "the folder of a sweep is runs/NAME, with sweep.name=NAME",
    "hydra.sweeper": "give the values on the command line, with -m",
    "hydra.mode": "a sweep is asked for with -m",
    "hydra.launcher": "sweep.jobs= and sweep.executor= say where a sweep's runs are made",
    "hydra.searchpath": "a folder with files of your own is --config-dir FOLDER",
    "hydra.job": "the name of a run is run.name=NAME",
    "hydra.verbose": "everything that a run says is in its train.log",
}


# Text that the grammar reads as it stands, numbers, and names that it reads as other values whatever their case.
WORD, INTEGER = re.compile(r"[A-Za-z_/][\w./-]*", re.ASCII), re.compile(r"-?(0|[1-9][0-9]*)")
DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?(e-?[0-9]+)?")
NO_WORDS = {"true": True, "false": False, "null": None, "nan": float("nan"), "inf": float("inf")}


@dataclass(frozen=True)
class Typed:
    """The value that a key is given."""

    text: str  # what stands after `=`
    value: Any  # what that means; the text where it means no one value
    fault: str | None = None  # why it means none: it is no fault where the key takes any text
    varies: "Override | None" = None  # several values or an interval, for a sweep


class CommandLine:
    """What a command line asks for.

    Args:
        overrides: as they were typed.
        options: those of every group.
        sweeps: whether a key may have several values.

    Attributes:
        values: what is set in the composed configuration, by key, in the order typed.
        axes: what varies, for a sweep.
        faults: one line each.
        silent: groups whose option was wrong: what is said about their keys would rest on a guess.
    """

    def __init__(self, overrides: Iterable[str], options: Mapping[str, list[str]], sweeps: bool = False):
        self._options, self._sweeps = options, sweeps
        self._chosen: dict[str, str] = {}
        self.values: dict[str, Typed] = {}
        self.axes: list[Override] = []
        self.faults: list[str] = []
        self.silent: set[str] = set()
        for text in _joined(overrides):
            self._read(text)

    @property
    def groups(self) -> list[str]:
        """Options of groups, for Hydra to compose: ``model=mlp``."""
        return [f"{group}={option}" for group, option in self._chosen.items()]

    def _read(self, text: str) -> None:
        key, equals, value = text.lstrip("+").partition("=")
        group = key.partition(".")[0]
        if fault := _unfit(text, key, equals, value):
            self.faults.append(fault)
        elif group == "sweep" and not self._sweeps:
            self.faults.append(f"{_said(text if key == group else key)} is for sweeps: add -m")
        elif group in EMPTY_GROUPS and key != group:
            self.faults.append(f"{_said(key)}: {group}=NAME chooses a file of values, and has no keys of its own")
        elif key in self._options:
            self._choose(key, typed(key, value, self._options), text)
        else:
            given = typed(key, value, self._options)
            if given.varies and self._sweeps:
                self.axes.append(given.varies)
            else:
                self.values[key] = given

    def _choose(self, group: str, given: Typed, text: str) -> None:
        if given.fault and not given.varies:
            self._refuse(group, given.fault)
        elif given.varies and not given.varies.is_choice_sweep():
            self._refuse(group, f"{group}: expected the name of an option ({', '.join(self._options[group])})")
        elif wrong := list(self._wrong_options(group, given)):
            self._refuse(group, *wrong)
        elif given.varies and self._sweeps:
            self.axes.append(given.varies)
        elif given.varies:
            self._refuse(group, f"{_said(text)} has several values: sweep them with -m")
        else:
            chosen = [option for option in _names(given) if option != "null"]
            self._chosen.pop(group, None)
            if chosen:
                self._chosen[group] = chosen[0] if len(chosen) == 1 else f"[{','.join(chosen)}]"

    def _refuse(self, group: str, *faults: str) -> None:
        self.faults += faults
        self.silent.add(group)

    def _wrong_options(self, group: str, given: Typed) -> Iterable[str]:
        known, empty = self._options[group], group in EMPTY_GROUPS
        if isinstance(given.value, dict) or (isinstance(given.value, list) and not empty):
            got = "values" if isinstance(given.value, dict) else "a list"
            names = ", ".join(known)
            yield f"{group}: expected the name of an option ({names}), got {got}; set values as {group}.KEY=VALUE"
            return
        for option in _names(given):
            if option in known or (empty and option == "null"):
                continue
            registered = registry_of(group) if group in KINDS else {}
            if option not in registered:
                file = Path("conf") / group / f"{option}.yaml"  # of a folder that was not asked for
                there = KEY.fullmatch(option) and file.is_file()
                hint = f"; {file} is used with --config-dir conf" if there else ""
                yield unknown(group, option, {*known, *registered}) + hint


def typed(key: str, text: str, options: Mapping[str, list[str]]) -> Typed:
    """Reads a key's value; the options of groups are what it may ask ``glob()`` for."""
    if found := plain(text):
        return found
    override = parsed(key, text, options)
    if override is None:
        return Typed(text, text, _unreadable(f"{key}={text}", key))
    if override.is_sweep_override():
        return Typed(text, text, _several(key, text, override), override)
    return Typed(text, override.value())


def plain(text: str) -> Typed | None:
    """The value as Hydra's grammar has it, which takes a quarter of a second to import, without the grammar; None where
    there is more to it."""
    if len(text) > LONGEST:
        return None
    if INTEGER.fullmatch(text):
        return Typed(text, int(text))
    if DECIMAL.fullmatch(text):
        return Typed(text, float(text))
    return Typed(text, NO_WORDS.get(text.lower(), text)) if WORD.fullmatch(text) else None


def parsed(key: str, text: str, options: Mapping[str, list[str]]) -> "Override | None":
    """What Hydra's grammar makes of it; None where it cannot read it."""
    if len(text) > LONGEST or _depth(text) > DEEPEST:
        return None
    try:
        override = _grammar().parse_override(f"key={text}")
    except Exception:  # of Hydra's, of ANTLR's, or of a function in the grammar
        return None
    override.key_or_group, override.input_line = key, f"{key}={text}"
    # What it asks for ``glob()``.
    override.config_loader = SimpleNamespace(get_group_options=lambda group, results_filter: options.get(group, []))
    return override


@cache
def _grammar() -> "OverridesParser":
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


def registry_of(group: str) -> Registry:
    """What the options of a group name; imported when it is asked for, as its entries are."""
    from odyssey_core.register import REGISTRIES

    registry: Registry = resolved(REGISTRIES[KINDS[group]])
    return registry


def _joined(overrides: Iterable[str]) -> list[str]:
    """Overrides without spaces around their ``=``, each of which the shell makes an argument of its own."""
    joined, rest = [], list(overrides)
    while rest:
        text = rest.pop(0)
        if rest and rest[0] == "=" and "=" not in text:
            text = " ".join([text, *rest[:2]])
            del rest[:2]
        joined.append(text)
    return joined


def _names(given: Typed) -> list[str]:
    several = [*given.varies.sweep_string_iterator()] if given.varies else given.value
    names = several if isinstance(several, list) else [several]
    return ["null" if name is None else str(name).strip("'\"").removesuffix(".yaml") for name in names]


def _unfit(text: str, key: str, equals: str, value: str) -> str | None:
    """What is wrong with an override whatever its value means."""
    if any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in text):
        return f"cannot read {_said(text)!r}: it holds control characters, or bytes that are not UTF-8"
    if text.startswith("~"):
        return f"cannot read {_said(text)!r}: keys cannot be removed; set another value"
    if equals and (key != key.rstrip() or value != value.lstrip()):
        return f"cannot read {_said(text)!r}: no spaces around =: {_said(f'{key.strip()}={value.strip()}')}"
    if not equals:
        return f"cannot read {_said(text)!r}: expected name=value, for example optim.lr=0.01 or model=lenet5"
    if not KEY.fullmatch(key):
        return f"cannot read {_said(text)!r}: expected a name such as optim.lr before =, got {_said(key)!r}"
    if key.count(".") > DEEPEST:
        return f"cannot read {_said(text)!r}: a key has at most {DEEPEST} dots"
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        return f"{_said(key)}: Hydra's own settings are not used here{hydra_hint(key)}"
    return None


def hydra_hint(key: str) -> str:
    setting = ".".join(key.replace("/", ".").split(".")[:2])
    near = HYDRA.get(setting) or HYDRA.get(next(iter(get_close_matches(setting, HYDRA, n=1, cutoff=0.9)), ""))
    return f"; {near}" if near else ""


def _several(key: str, value: str, override: "Override") -> str:
    said = _said(f"{key}={value}")
    parts = value.split(",")
    if len(parts) == 2 and all(part.lstrip("-").isdigit() for part in parts):
        return f"{said} has two values: sweep them with -m, or write {parts[0]}.{parts[1]}"
    how = (
        f"or write a list: {key}=[{value}]" if override.is_choice_sweep() and "(" not in value else "or give one value"
    )
    return f"{said} has several values: sweep them with -m, {_said(how)}"


def _unreadable(text: str, key: str) -> str:
    if len(text) > LONGEST:
        return f"cannot read {_said(text)!r}: it has {len(text):,} characters, at most {LONGEST:,} are read"
    if _depth(text) > DEEPEST:
        return f"cannot read {_said(text)!r}: more than {DEEPEST} brackets inside one another"
    quotes = f"'{_said(key)}=\"...\"'"
    return f"cannot read {_said(text)!r}: close brackets and quotes; special characters need quotes: {quotes}"


def _said(text: str) -> str:
    """What was typed, as a message repeats it: a password is taken out before the rest is cut short."""
    return shortened(masked(text))


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character in OPENING) - (character in CLOSING)
        deepest = max(deepest, depth)
    return deepest
