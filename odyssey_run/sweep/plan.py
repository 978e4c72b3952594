"""From a command line to points: everything is composed and checked before anything runs."""

import copy
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from odyssey_core.errors import ConfigError
from odyssey_run.config import sources
from odyssey_run.config.binding import Faults, bind, collecting
from odyssey_run.config.command_line import CommandLine, typed
from odyssey_run.config.composition import ConfigFiles, resolved, set_value
from odyssey_run.config.request import Request, as_typed
from odyssey_run.config.schema import SweepConfig
from odyssey_run.runs import folder, provenance
from odyssey_run.runs.requests import checked
from odyssey_run.sweep import space
from odyssey_run.sweep.space import Assignment, Axis

Config = dict[str, Any]
NAME_LENGTH = 60


@dataclass(frozen=True)
class Point:
    label: str  # what tells it from the others, as it would be typed
    request: Request = field(repr=False)
    identity: str  # SHA-256, in hex, of the configuration and the code that decide its results


@dataclass(frozen=True)
class Trial:
    """An assignment and its runs: one, or one for each of several seeds."""

    assignment: Assignment
    points: tuple[Point, ...] = field(repr=False)
    number: int | None = None  # Optuna's, of a proposal
    expect: Mapping[str, Any] = field(default_factory=dict, repr=False)  # what the mean of its runs is to reach


def label(assignment: Assignment) -> str:
    """``optim=adam optim.lr=0.01``."""
    return " ".join(f"{key}={space.plain(text)}" for key, text in assignment)


class Composer:
    """Makes trials. Hydra composes once for each combination of groups; values are set in what it made."""

    def __init__(self, line: CommandLine, typed: Sequence[str], files: ConfigFiles):
        self.line, self._files = line, files
        self.faults: list[str] = []  # of the axes
        axes, swept = list[Axis](), [override.key_or_group for override in line.axes]
        for key, override in zip(swept, line.axes, strict=True):
            with collecting(self.faults):
                if key.partition(".")[0] in ("sweep", "tracking", "run"):
                    raise ConfigError(f"{key}: is the same for all runs of a sweep; give one value")
                axes.append(space.axis(override, key in files.options))
        self.axes = tuple(axes)
        self._fixed = [text for text in typed if text.lstrip("+").partition("=")[0] not in swept]
        self._composed: dict[Assignment, Config] = {}
        self._values: dict[tuple[str, str], Any] = {}
        self._metric = ""

    def sweep(self) -> SweepConfig:
        """How to sweep. Raises Faults: what is wrong with that."""
        first = tuple((axis.key, axis.corners()[0]) for axis in self.axes)
        values, broken = resolved(self._config(first))
        unread = as_typed(values, self.line.values)
        arguments, faults = bind(SweepConfig, values["sweep"], "sweep")
        faults = [*(wrong for key, wrong in {**broken, **unread}.items() if key.startswith("sweep.")), *faults]
        faults = [*self.line.faults, *self.faults, *faults]
        if not faults:
            config = SweepConfig(**arguments)
            faults = list(_sweep_faults(config, self.axes))
        if faults:
            raise Faults(faults)
        self._metric = config.metric
        return config

    def trial(self, assignment: Assignment, number: int | None = None) -> Trial:
        """The runs of an assignment. Raises Faults where it cannot be configured."""
        config = self._config(assignment)
        request = checked(config, self.line, self._typed(assignment), self._files)
        faults = [f"{key}: {why}" for key, why in _not_for_sweeps(request, self._metric)]
        if faults:
            raise Faults(faults)
        points, seeds = [], range(request.seed, request.seed + request.seeds)
        composed = "${" in str(config)  # of other keys, such as the seed
        for seed in seeds:
            own, run = assignment, request
            if len(seeds) > 1:
                own = (*[(k, t) for k, t in assignment if k != "seed"], ("seed", str(seed)))
                typed = self._typed((*own, ("seeds", "1")), without=("expect",))
                run = replace(request.of_seed(seed), overrides=typed)
                if composed:
                    run = checked({**config, "seed": seed, "seeds": 1, "expect": {}}, self.line, typed, self._files)
            both = f"{provenance.identity(run.config)} {sources.digest(run.plugins)}"
            points.append(Point(label(own), run, hashlib.sha256(both.encode()).hexdigest()))
        return Trial(assignment, tuple(points), number, request.expect)

    def trials(self, assignments: Iterator[Assignment]) -> list[Trial]:
        """The runs of several assignments. Raises the Faults of all of them."""
        trials: list[Trial] = []
        faults: dict[str, list[str]] = {}  # labels of the points that have it
        for count, assignment in enumerate(assignments, 1):  # noqa: B007  (the last one is how many there are)
            try:
                trials.append(self.trial(assignment))
            except Faults as wrong:
                for line in wrong.lines:
                    faults.setdefault(line, []).append(label(assignment))
        if faults:
            raise Faults([line + _where(labels, count) for line, labels in faults.items()])
        return trials

    def _typed(self, assignment: Assignment, without: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The overrides of one run, without those of some groups."""
        own, left_out = dict(assignment), {"sweep", *without}
        fixed = [text.lstrip("+") for text in self._fixed]
        kept = [t for t in fixed if (key := t.partition("=")[0]) not in own and key.partition(".")[0] not in left_out]
        return (*kept, *(f"{key}={text}" for key, text in assignment))

    def _config(self, assignment: Assignment) -> Config:
        """The composed configuration; Hydra composes once for all assignments with the same groups."""
        groups = {axis.key for axis in self.axes if axis.group}
        chosen = tuple(item for item in assignment if item[0] in groups)
        if chosen not in self._composed:
            config = self._files.compose([*self.line.groups, *(f"{key}={text}" for key, text in chosen)])
            for key, given in self.line.values.items():
                set_value(config, key, given.value)
            self._composed[chosen] = config
        config = copy.deepcopy(self._composed[chosen])
        for key, text in assignment:
            if key not in groups:
                set_value(config, key, self._value(key, text))
        return config

    def _value(self, key: str, text: str) -> Any:
        if (key, text) not in self._values:
            self._values[key, text] = typed(key, text, self._files.options).value
        return self._values[key, text]


def name_of(sweep: SweepConfig, axes: tuple[Axis, ...], first: Request) -> str:
    """The name that was given, or one that the same command makes again: ``lenet5-lr-momentum-1f0c``."""
    if sweep.name:
        return sweep.name
    fixed = json.loads(json.dumps(first.config))
    for axis in axes:  # what varies is no part of it, and a group is whatever its name makes of it
        if axis.group:
            fixed[axis.key] = {}
        else:
            set_value(fixed, axis.key, None)
    told = [sources.digest(first.plugins), provenance.identity(fixed), first.seeds]
    told += [sweep.strategy, sweep.seed, sweep.metric]
    digest = hashlib.sha256(json.dumps([*told, *map(str, axes)]).encode()).hexdigest()
    swept = "-".join(dict.fromkeys(axis.key.rpartition(".")[2] for axis in axes))
    return f"{re.sub(r'[^A-Za-z0-9._+-]', '-', f'{first.model.name}-{swept}')[:NAME_LENGTH]}-{digest[:4]}"


def parent_request(first: Request, expect: Mapping[str, Any], sweep: SweepConfig, axes: tuple[Axis, ...]) -> Request:
    """The request of the sweep's own run: its configuration, where a key that varies has all its values."""
    config = json.loads(json.dumps(first.config)) | {"sweep": vars(sweep), "expect": expect}
    for axis in axes:
        key = f"{axis.key}.name" if axis.group and axis.key in config else axis.key
        set_value(config, key, str(axis).partition("=")[2])
    return replace(first, config=config)


def _where(labels: list[str], points: int) -> str:
    """Which points of a sweep have a fault, where not all have it."""
    more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
    return f" (with {labels[0]}{more})" if len(labels) < points else ""


def _not_for_sweeps(request: Request, metric: str) -> Iterator[tuple[str, str]]:
    if request.task.name != "train":
        yield "task", f"-m sweeps over task=train, got task={request.task.name}"
    if request.resume is not None:
        yield "resume", "a sweep goes on by itself, run by run; leave it out"
    for key, value in vars(request.run).items():
        if value is not None:
            yield f"run.{key}", "would be the same for all runs of a sweep; set sweep.name"
    if request.trainer.validation_size == 0 and metric.startswith("val/"):
        yield "trainer.validation_size", f"0 leaves no {metric} to compare the points of a sweep by"


def _sweep_faults(sweep: SweepConfig, axes: tuple[Axis, ...]) -> Iterator[str]:
    endless = [axis.key for axis in axes if not axis.values]
    if sweep.strategy == "grid":
        if (points := math.prod(len(axis.values) for axis in axes)) > space.MOST_POINTS:
            yield f"sweep: a grid of {points:,} points, at most {space.MOST_POINTS:,} are planned; choose sweep=random"
        if endless:
            yield f"{', '.join(endless)}: a grid needs single values, got an interval; choose sweep=random or sweep=tpe"
        if sweep.trials is not None:
            yield f"sweep.trials: a grid runs every combination; choose sweep=random or sweep=tpe, got {sweep.trials}"
    elif sweep.trials is None:
        yield f"sweep.trials: expected an integer at least 1 with sweep={sweep.strategy}, got null"
    elif not axes:
        yield f"sweep={sweep.strategy}: nothing varies; give a key several values or an interval"
    if sweep.prune and sweep.strategy != "tpe":
        yield "sweep.prune: needs sweep=tpe"
    if sweep.name is not None and not folder.NAME.fullmatch(sweep.name):
        yield f"sweep.name: expected letters, digits and ._+- only, got {sweep.name!r}"
    if (sweep.executor == "dask") != (sweep.address is not None):
        yield "sweep.address: expected tcp://HOST:PORT with sweep.executor=dask, and null without"
    if sweep.prune and not sweep.metric.startswith("val/"):
        yield f"sweep.prune: needs a metric that every epoch has, val/accuracy or val/loss, got {sweep.metric}"
