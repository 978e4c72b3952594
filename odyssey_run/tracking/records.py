"""What the lines of a run's journal hold.

Each class derived from `Record` is a kind of line, ``{"kind": "metrics", "time": ..., "step": ..., "values": {...}}``.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from functools import cache, cached_property
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, TypeVar, Union, dataclass_transform, get_args, get_origin, get_type_hints

from odyssey_core.errors import DataError
from odyssey_run.tracking.names import Status

MAX_PARAM = 6000  # characters of a parameter that MLflow takes
# Groups of a configuration that every run has, and that are mappings with, if any, a name that is text.
_GROUPS = ("model", "data", "optim", "trainer", "backend", "run", "task")

Kind = TypeVar("Kind", bound="Record")


@dataclass_transform(frozen_default=True, kw_only_default=True)
@dataclass(frozen=True, kw_only=True)
class Record:
    """A line; what is derived from it is made a dataclass.

    Args:
        time: milliseconds since 1970; set when the record is written.
    """

    kind: ClassVar[str]
    time: int = 0

    def __init_subclass__(cls, kind: str) -> None:
        cls.kind = kind
        dataclass(frozen=True, kw_only=True)(cls)


class Start(Record, kind="start"):
    """The first line.

    Args:
        run: the run's key, which no other run has.
        parent: the key of the run that this one is nested under.
        name: of the run, for people.
        config: composed and resolved.
        params: the same as MLflow's parameters.
        tags: for MLflow.
        process: host, boot and pid.
        store: ``uri`` and ``experiment`` of the MLflow store that it is sent to.
    """

    run: str
    parent: str | None
    name: str
    config: dict[str, Any]
    params: dict[str, str]
    tags: dict[str, str]
    process: dict[str, Any]
    store: dict[str, str] | None = None


class Resume(Record, kind="resume"):
    """Another process continues the run; arguments as `Start` has them."""

    process: dict[str, Any]
    store: dict[str, str] | None = None


class Metrics(Record, kind="metrics"):
    """Finite numbers that belong to an optimizer step."""

    step: int
    values: dict[str, float]


class Tags(Record, kind="tags"):
    """More tags, or other values for some."""

    values: dict[str, str]


class Artifact(Record, kind="artifact"):
    """A file or folder that was written.

    Args:
        path: in the run's folder.
        folder: among MLflow's artifacts.
    """

    path: str
    folder: str


class Model(Record, kind="model"):
    """A folder that MLflow can load.

    Args:
        path: in the run's folder.
        step: optimizer steps after which the model was taken.
        register: the name to register it under.
    """

    path: str
    step: int
    register: str | None = None


class Creating(Record, kind="tracking"):
    """MLflow is about to be asked to make the run."""

    state: str = "creating"


class Created(Record, kind="tracking"):
    """MLflow has made the run."""

    run_id: str
    experiment_id: str


class Registered(Record, kind="tracking"):
    """MLflow has registered the run's model under a name, as a version."""

    registered: str
    version: int


class Refused(Record, kind="refused"):
    """What MLflow will never take, and why."""

    what: str
    reason: str


class End(Record, kind="end"):
    """How the run ended, and why it did not finish."""

    status: Status
    reason: str | None = None


class Sent(Record, kind="sent"):
    """MLflow has everything up to the end, except what it refused."""


NAMES = {made: made.kind for made in Record.__subclasses__()}  # what MLflow answers comes in three forms of one kind


@cache
def _annotations() -> dict[type[Record], dict[str, Any]]:
    """The type of each field, by kind."""
    return {made: get_type_hints(made) for made in NAMES}


@dataclass(frozen=True)
class RunRecords:
    """All that a run's journal says, from its start on."""

    records: Sequence[Record] = field(repr=False)

    def of(self, kind: type[Kind]) -> list[Kind]:
        return [record for record in self.records if isinstance(record, kind)]

    @cached_property
    def start(self) -> Start:
        return self.of(Start)[0]

    @property
    def config(self) -> dict[str, Any]:
        return self.start.config

    @property
    def name(self) -> str:
        """Other runs may have the same."""
        return self.start.name

    @property
    def has_parts(self) -> bool:
        """Whether runs are under it that trained: of a sweep, or of several seeds."""
        return "sweep" in self.config or self.config.get("seeds", 1) != 1

    @property
    def key(self) -> str:
        """The run's key, which a child names as its parent."""
        return self.start.run

    @cached_property
    def tags(self) -> dict[str, str]:
        """Each tag with its last value."""
        return self.start.tags | {name: value for each in self.of(Tags) for name, value in each.values.items()}

    @cached_property
    def metrics(self) -> dict[str, list[tuple[int, float]]]:
        """Name to (step, value), in the order of the journal."""
        found: dict[str, list[tuple[int, float]]] = {}
        for record in self.of(Metrics):
            for name, value in record.values.items():
                found.setdefault(name, []).append((record.step, value))
        return found

    @property
    def last(self) -> dict[str, float]:
        """The last value of each metric, except for what the process took."""
        return {name: points[-1][1] for name, points in self.metrics.items() if not name.startswith("system/")}

    @cached_property
    def end(self) -> End | None:
        """The record of its end; None while the run is going on or where it was interrupted."""
        last = next((record for record in reversed(self.records) if isinstance(record, Resume | End)), None)
        return last if isinstance(last, End) else None

    @property
    def status(self) -> Status | None:
        """FINISHED, FAILED or KILLED; None while the run is going on or where it was interrupted."""
        return self.end.status if self.end else None

    @property
    def reason(self) -> str | None:
        return self.end.reason if self.end else None

    @property
    def created(self) -> Created | None:
        """The run's ids in MLflow; None while it has none."""
        return next(iter(self.of(Created)), None)

    @property
    def run_id(self) -> str | None:
        return self.created.run_id if self.created else None

    @property
    def store(self) -> dict[str, str] | None:
        """The MLflow store that the run is sent to: ``uri`` as `Store.named_in` gives it, and ``experiment``."""
        named = [record.store for record in self.records if isinstance(record, Start | Resume) and record.store]
        return named[-1] if named else None

    @property
    def unsent(self) -> bool:
        """Whether the run has ended and its upload to MLflow is incomplete."""
        last = next((record for record in reversed(self.records) if isinstance(record, Resume | End | Sent)), None)
        return isinstance(last, End)


def whole(records: Sequence[Record], path: Path) -> RunRecords:
    """The records as those of a run. Raises DataError where they do not begin with its start."""
    if not records or not isinstance(records[0], Start):
        raise DataError(f"{path}: does not say how the run began")
    return RunRecords(records)


def parse(content: bytes, path: Path, offset: int = 0) -> list[Record]:
    """The records in a journal's lines. Raises DataError: a line is no record."""
    records = []
    for number, line in enumerate(content.splitlines(), 1):
        where = f"{path}: line {number} from byte {offset}"
        try:
            values = json.loads(line)
            kind = values.pop("kind")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise DataError(
                f"{where} is no journal record: {line[:60]!r}; the file was changed by something else"
            ) from None
        try:
            records.append(_record(kind, values))
        except _NoRecord as fault:
            raise DataError(f"{where} is no {kind!r} that this program wrote: {fault}") from None
    return records


class _NoRecord(Exception):
    """Says what is wrong with the values of a line."""


def _record(kind: object, values: dict[str, Any]) -> Record:
    forms = [made for made, name in NAMES.items() if name == kind]
    if not forms:
        raise _NoRecord("there is no such kind")
    made = next((form for form in forms if values.keys() <= _annotations()[form].keys()), forms[0])
    if extra := values.keys() - _annotations()[made].keys():
        raise _NoRecord(f"{min(extra)} has no place in it")
    required = {"time", *(each.name for each in fields(made) if each.default is MISSING)}
    if lost := sorted(required - values.keys()):
        raise _NoRecord(f"{lost[0]} is missing")
    for name, value in values.items():
        if not _fit(_annotations()[made][name])(value):
            raise _NoRecord(f"{name} is {str(value)[:40]!r}")
    for group in _GROUPS if made is Start else ():
        found = values["config"].get(group)
        if not isinstance(found, Mapping) or not isinstance(found.get("name"), str | None):
            raise _NoRecord(f"its config has no {group}")
    if values.get("store") is not None and (lost := sorted({"uri", "experiment"} - values["store"].keys())):
        raise _NoRecord(f"its store has no {lost[0]}")
    if made is End:
        values["status"] = Status(values["status"])
    return made(**values)


@cache
def _fit(annotation: Any) -> Callable[[Any], bool]:
    """Tells whether a JSON value is of a type."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [_fit(each) for each in get_args(annotation)]
        return lambda value: any(fits(value) for fits in kinds)
    if get_origin(annotation) is dict:
        inner = _fit(get_args(annotation)[1])
        return lambda value: isinstance(value, dict) and all(map(inner, value.values()))
    if annotation is Status:
        return lambda value: isinstance(value, str) and value in set(Status)
    if annotation in (int, float):
        return lambda value: isinstance(value, int | annotation) and not isinstance(value, bool)
    return lambda value: annotation is Any or isinstance(value, annotation)
