"""The one way from a journal to MLflow: late, twice or after a crash, with the same run at the end.

Everything sent carries the journal's own times, so that sending it again changes nothing: MLflow drops a metric whose
time, step and value it has, a parameter with the value it has, and overwrites an artifact.

Each call of MLflow's is a transaction or a request of its own, and costs milliseconds whatever it carries: all that is
new of a run's params, metrics and tags is one call, and nothing is asked that is known already.

What MLflow will not take holds up nothing behind it. A refusal is noted in the journal, with its reason, and told once;
a failure that may pass is tried again beside the rest; where there is no answer at all, everything waits.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from odyssey_run.tracking import models, names
from odyssey_run.tracking import records as kinds
from odyssey_run.tracking.client import alone, fault_of, is_deleted, put, refuses, silent
from odyssey_run.tracking.journal import Journal
from odyssey_run.tracking.location import Store, local_path
from odyssey_run.tracking.names import JOURNAL, Tag
from odyssey_run.tracking.records import MAX_PARAM

THE_RUN, EXPERIMENT = "the run", "the experiment"
OWN = kinds.Artifact(path=JOURNAL, folder="")  # the journal, sent before the end


class _Gone(Exception): ...


class _NotAtOnce(Exception):
    """Something that is not to be done while a transaction keeps others from writing."""


class Sender:
    """Follows a journal and sends what it says; what MLflow answers is written to it.

    Args:
        shared: what senders to the same store tell each other: MLflow's ids of its experiment and of runs, by key.

    Attributes:
        refused: what MLflow will never take, and why; a line each, those alone that were not known before.
        notes: what MLflow answered, for the journal.
    """

    def __init__(self, journal: Journal, store: Store, client: Any, shared: dict[str, str] | None = None):
        self.journal, self.store = journal, store
        self._shared = {} if shared is None else shared
        self.run_id = ""  # until MLflow has the run
        self.experiment_id = ""
        self._location = ""  # of its artifacts, until something is sent there
        self.refused: list[str] = []
        self.notes: list[kinds.Record] = []
        self._client = client
        self._folder = journal.path.parent.resolve()
        self._seen = 0  # how many records were sent, or wait for it
        self._tried = self._ended = self._gone = False
        self._known: set[str] = set()  # what was refused, here or in an earlier process
        self._later: list[list[kinds.Record]] = []
        self._models: dict[str, Any] = {}  # MLflow's, by path
        self._told: set[str] = set()  # those whose metrics were sent with the run's
        self._look = True  # whether MLflow may have a model of an earlier attempt

    @property
    def done(self) -> bool:
        """Whether MLflow has everything that it will ever take, up to the end of the run."""
        return self._ended and not self._later

    def send(self, at_once: bool = False) -> None:
        """Sends what the journal holds beyond what was sent.

        Args:
            at_once: whether it is in a `client.transaction`.

        Raises:
            Exception: whatever MLflow raises, where something has not arrived that still may, and also what is not to
                be sent at once; to be called again.
        """
        self._all, self._at_once = self.journal.records().records, at_once
        records = list(self._all[self._seen :])
        # The thread looks at its own notes too: they only say how far an earlier attempt came.
        for record in records:
            self._tried = self._tried or isinstance(record, kinds.Creating | kinds.Created)
            if isinstance(record, kinds.Created):
                self.run_id, self.experiment_id = record.run_id, record.experiment_id
            elif isinstance(record, kinds.Refused):
                self._known.add(record.what)
        failed = self._deliver_all(records)
        self._seen = len(self._all)
        if failed:
            raise failed

    def _deliver_all(self, records: list[kinds.Record]) -> Exception | None:
        """Sends records and what an earlier attempt left; returns why the first of those that wait does."""
        later, self._later, stuck = self._later, [], False
        failed: Exception | None = None
        try:
            for portion in [*later, *_portions(records)]:
                if stuck and _is_file(portion):
                    self._later.append(portion)
                    continue
                try:
                    self._deliver(portion)
                except _Gone:
                    raise
                except Exception as error:
                    if isinstance(portion[0], kinds.Start) or (silent(error) and not _is_file(portion)):
                        self._later = later  # what is new comes again
                        raise
                    self._later.append(portion)
                    failed, stuck = failed or error, stuck or silent(error)
        except _Gone:
            self._set_aside(THE_RUN, "it was deleted in MLflow")
            self._gone, self._later, failed = True, [], None
            self._ended = self._ended or any(isinstance(record, kinds.End) for record in records)
        return failed

    def _deliver(self, portion: list[kinds.Record]) -> None:
        first = portion[0]
        if isinstance(first, kinds.Resume):
            self._ended = False
        if self._gone:
            pass
        elif isinstance(first, kinds.Resume):
            self._offer(THE_RUN, self._client.update_run, self.run_id, status="RUNNING")
        elif isinstance(first, kinds.End):
            self._offer("the end", self._client.set_terminated, self.run_id, first.status.value, first.time)
        elif isinstance(first, kinds.Artifact | kinds.Model) and _is_file(portion):
            path = self._own(first)
            if path and path.exists():  # else a checkpoint that a resumed run has left behind
                send: Callable[..., None] = self._put if isinstance(first, kinds.Artifact) else self._log_model
                self._offer(first.path, send, path, first)
        elif isinstance(first, kinds.Start):
            self._send_start(first, portion)
        else:
            self._send_values(portion)
        self._ended = self._ended or isinstance(first, kinds.End)

    def _set_aside(self, what: str, reason: str) -> None:
        if what not in self._known:
            self._known.add(what)
            self.notes.append(kinds.Refused(what=what, reason=reason))
            self.refused.append(f"{what} of {self.journal.path.parent.name}: {reason}")

    def _offer(self, what: str, call: Callable[..., object], *arguments: object, **named: object) -> None:
        """Calls MLflow and notes a refusal. Raises _Gone where it refuses because the run is no more."""
        try:
            call(*arguments, **named)
        except Exception as error:
            if not refuses(error):
                raise
            self._check_alive()
            self._set_aside(what, fault_of(error))

    def _check_alive(self) -> None:
        if is_deleted(self._client, self.run_id):
            raise _Gone

    def _offer_batch(self, items: list[tuple[str, Any]]) -> None:
        """Sends params, metrics and tags together; where MLflow refuses some, the others by themselves."""
        batch = {f"{kind}s": [item for of, item in items if of == kind] for kind in ("param", "metric", "tag")}
        try:
            self._client.log_batch(self.run_id, **batch)
        except Exception as error:
            if not refuses(error):
                raise
            if len(items) > 1:
                self._check_alive()
                middle = len(items) // 2
                self._offer_batch(items[:middle])
                self._offer_batch(items[middle:])
            else:
                kind, item = items[0]
                self._offer(f"{kind} {item.key}", self._client.log_batch, self.run_id, **batch)

    def _send_start(self, start: kinds.Start, records: list[kinds.Record]) -> None:
        self._open_run(start)
        self._send_values(records)
        if data := models.dataset(start.tags):
            self._offer("the data", self._client.log_inputs, self.run_id, [data])

    def _send_values(self, records: list[kinds.Record]) -> None:
        """What records hold of params, metrics and tags; those metrics that a model shows go to the model as well."""
        from mlflow.entities import Metric, Param, RunTag

        params = {key: value for r in records if isinstance(r, kinds.Start) for key, value in r.params.items()}
        points: dict[models.Point, str | None] = dict.fromkeys(models.points(records))
        tags = {key: value for r in records if isinstance(r, kinds.Tags) for key, value in names.sent(r.values).items()}
        made = [r for r in records if isinstance(r, kinds.Model) and self._own(r)]
        for record in made:
            with suppress(Exception):  # tried again, and reported, when its files are sent
                points |= self._points_of(record)
        self._offer_batch(
            [
                *(("param", Param(key, value[:MAX_PARAM])) for key, value in params.items()),
                *(("metric", Metric(*point, model_id=model)) for point, model in points.items()),
                *(("tag", RunTag(key, value)) for key, value in tags.items()),
            ]
        )
        self._told |= {record.path for record in made} & set(self._models)

    def _put(self, path: Path, record: kinds.Artifact) -> None:
        if not self._location:  # another process made the run
            self._location = self._client.get_run(self.run_id).info.artifact_uri
        if self._at_once and local_path(self._location) is None:
            raise _NotAtOnce
        put(path, record.path if path.is_dir() else record.folder, self._location, self.store.uri)

    def _model(self, record: kinds.Model) -> Any:
        path = record.path
        if path not in self._models:
            look, self._look = self._look, True
            self._models[path] = models.begin(self._client, self.run_id, self.experiment_id, path, look)
        return self._models[path]

    def _points_of(self, record: kinds.Model) -> dict[models.Point, str]:
        """The metrics of a model's page, and the model's id with each."""
        return dict.fromkeys(models.shown_points(self._all), self._model(record).model_id)

    def _log_model(self, folder: Path, record: kinds.Model) -> None:
        from mlflow.entities import Metric

        path = record.path
        if path not in self._told:
            found = self._points_of(record).items()
            self._client.log_batch(self.run_id, [Metric(*point, model_id=model) for point, model in found])
        model = self._models[path] = models.finish(
            self._client, self.store.uri, self.run_id, self._model(record), folder, record.step
        )
        if (name := record.register) is None:
            return
        if self._at_once:
            raise _NotAtOnce
        run = self.journal.records()
        version = models.register(self._client, self.store.uri, self.run_id, name, model.model_id, run)
        if not any((each.registered, each.version) == (name, version) for each in run.of(kinds.Registered)):
            self.notes.append(kinds.Registered(registered=name, version=version))

    def _own(self, record: kinds.Artifact | kinds.Model) -> Path | None:
        """The file or folder that a record names; None, noted, where any of it lies outside the run's folder."""
        path = self._folder / record.path
        leading = [path, *(each for each in path.rglob("*") if each.is_symlink())]
        if all(each.resolve().is_relative_to(self._folder) for each in leading):
            return path
        self._set_aside(record.path[:200], "it is outside the run's folder")
        return None

    def note(self) -> None:
        """Writes to the journal what MLflow answered and, once, that it has everything."""
        for record in self.notes:
            self.journal.append(record)
        self.notes = []
        if self.done and self.journal.records().unsent:
            self.journal.append(kinds.Sent())

    def _open_run(self, start: kinds.Start) -> None:
        if not self.run_id:
            if self._at_once and EXPERIMENT not in self._shared:
                raise _NotAtOnce
            self.experiment_id = self._shared[EXPERIMENT] = self._shared.get(EXPERIMENT) or self._find_experiment()
            # An attempt may have ended between making the run and noting its id.
            self.run_id = (self._find(start.run) if self._tried else None) or self._create(start)
            self.notes.append(kinds.Created(run_id=self.run_id, experiment_id=self.experiment_id))
        self._shared[start.run] = self.run_id

    def _find(self, key: str) -> str | None:
        known = self._client.search_runs([self.experiment_id], f"tags.`{Tag.RUN}` = '{key}'")
        return str(known[0].info.run_id) if known else None

    def _create(self, start: kinds.Start) -> str:
        self.journal.append(kinds.Creating())
        self._look, self._tried = self._tried, True
        tags = {**names.sent(start.tags), Tag.RUN.value: start.run}
        if (above := start.parent) and (parent := self._shared.get(above) or self._find(above)):
            tags[Tag.PARENT.value] = self._shared[above] = parent
        try:
            made = self._client.create_run(self.experiment_id, start.time, tags, start.name).info
        except Exception:
            self._shared.clear()  # somebody may have deleted what is remembered
            raise
        self._location = made.artifact_uri
        return str(made.run_id)

    def _find_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = self.store.experiment
        with alone(self.store.database):
            known = self._client.get_experiment_by_name(name)
            if known is None:
                tags = {"mlflow.experimentKind": "custom_model_development"}
                try:
                    return str(self._client.create_experiment(name, self.store.artifact_location, tags))
                except MlflowException:
                    known = self._client.get_experiment_by_name(name)  # another process may have made it
                    if known is None:
                        raise
            return str(known.experiment_id)


def _portions(records: list[kinds.Record]) -> Iterator[list[kinds.Record]]:
    """Records that are sent in one go: up to each end and each resume all values, then each file, last the journal."""
    stretch: list[kinds.Record] = []
    for record in records:
        if isinstance(record, kinds.End | kinds.Resume):
            yield from _stretch([*stretch, OWN] if isinstance(record, kinds.End) else stretch)
            yield [record]
            stretch = []
        else:
            stretch.append(record)
    yield from _stretch(stretch)


def _stretch(records: list[kinds.Record]) -> Iterator[list[kinds.Record]]:
    values: list[kinds.Record] = [
        record for record in records if isinstance(record, kinds.Start | kinds.Metrics | kinds.Tags | kinds.Model)
    ]
    if not all(isinstance(record, kinds.Model) for record in values):
        yield values
    for record in records:
        if isinstance(record, kinds.Artifact | kinds.Model):
            yield [record]


def _is_file(portion: list[kinds.Record]) -> bool:
    """Whether it is an artifact or a model's folder, which are sent elsewhere and fail by themselves."""
    return len(portion) == 1 and isinstance(portion[0], kinds.Artifact | kinds.Model)
