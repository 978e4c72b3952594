"""A run as it is recorded, whatever task makes it: its folder, its journal, its screen, and its way to MLflow."""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from odyssey_core.checkpoint import write_atomic
from odyssey_core.errors import ConfigError, OdysseyError
from odyssey_run.config.binding import Faults
from odyssey_run.config.masking import masked
from odyssey_run.config.plugins import FOLDER, told
from odyssey_run.config.request import Request
from odyssey_run.processes import StopRequest
from odyssey_run.runs import command, folder, provenance
from odyssey_run.runs.statements import CONFIG, LOG, conclude
from odyssey_run.tracking import names
from odyssey_run.tracking.journal import FILE_NAME, Journal, read
from odyssey_run.tracking.location import Store, check_driver, resolve
from odyssey_run.tracking.uploader import Uploader

if TYPE_CHECKING:
    from odyssey_run.runs.console import Screen

DIFF = "uncommitted.diff"
CHECKPOINTS = "checkpoint*.safetensors"
UNSENT = 5  # the exit code where all went well, and MLflow has not all of it
MOST_REFUSALS = 3  # told on the terminal


class Session:
    """One run. Nothing is written before `begin`, so that a mistake leaves nothing behind.

    Args:
        request: what was asked for.
        uploader: what sends the journal to MLflow; None for a run that is sent by somebody else or not at all.
        parent: key of the run that this one is nested under.
        tags: for MLflow, beside those that `begin` is given.
        place: the folder, where the request does not decide it.
        quiet: whether the terminal is left alone; train.log is written all the same.

    Attributes:
        path: the run's folder.
        name: for people.
        key: tells the run from all others, in the journal and as a tag in MLflow.
        start: what the journal's first line says.
        status: how it ended; None before.
        asked: the signal that asked to stop.
        unsent: MLflow has not all of it.
    """

    def __init__(
        self,
        request: Request,
        uploader: Uploader | None = None,
        *,
        parent: str | None = None,
        tags: Mapping[str, str] | None = None,
        place: Path | None = None,
        quiet: bool = False,
    ):
        self.request, self.uploader, self.parent, self.place, self.quiet = request, uploader, parent, place, quiet
        self.own_tags = dict(tags or {})
        self.asked = StopRequest()
        self.path, self.name, self.key = Path(), "", ""
        self.start: dict[str, Any] = {}
        self.journal: Journal | None = None
        self.screen: Screen | None = None
        self.status: str | None = None
        self.unsent = False
        self._known: set[tuple[int, str]] = set()

    def begin(self, base: str, tags: Mapping[str, str]) -> None:
        """Makes the folder and writes the journal's first line.

        Args:
            base: the run's name up to the four letters that make it unique, where the request gives none.
            tags: for MLflow, beside those of the program and the machine.

        Raises:
            ConfigError: the folder cannot be made, or MLflow will not take the run.
        """
        request = self.request
        silent = self._ask()
        self.path, self.name = folder.make(request, base, self.place)
        self._open(silent)
        config = masked(request.config)
        write_atomic(self.path / CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())
        process = provenance.process()
        self.key = f"{self.name}-{process['pid']}-{self.path.stat().st_ctime_ns}"
        self.start = {
            "run": self.key,
            "parent": self.parent,
            "name": self.name,
            "config": config,
            "params": provenance.flatten(config),
            "tags": {**provenance.tags(request), "odyssey.folder": str(self.path.absolute()), **tags, **self.own_tags},
            "process": process,
            "store": self._named_store(),
        }
        self.journal.append("start", **self.start)
        if not self.parent and (diff := provenance.uncommitted()):
            write_atomic(self.path / DIFF, diff)
            self.artifact(self.path / DIFF)
        for plugin in request.plugins:
            for name, text in plugin.files.items() if plugin.is_file else ():
                write_atomic(self.path / FOLDER / name, text)
                self.artifact(self.path / FOLDER / name)
        self._follow()

    def resume(self, path: Path) -> None:
        """Goes on in the folder of a run that did not finish.

        Raises:
            ConfigError: another process is still at it, or MLflow will not take the rest of it.
        """
        self.path = path
        records = read(path / FILE_NAME)[0]
        self.start = next(r for r in records if r["kind"] == "start")
        self._check_store(records)
        self._open(self._ask((mlflow_ids(records) or {}).get("run_id")))
        self.name, self.key = self.start["name"], self.start["run"]
        self._known = {(r["step"], k) for r in records if r["kind"] == "metrics" for k in r["values"]}
        self.journal.append("resume", process=provenance.process(), store=self._named_store())
        self._follow()

    def _ask(self, run_id: str | None = None) -> str | None:
        """Why MLflow does not answer, where it does not. Raises ConfigError where it will not take the run."""
        return self.uploader.ask(run_id) if self.uploader else None

    def _open(self, silent: str | None) -> None:
        from odyssey_run.runs.console import Screen  # beside MLflow's import

        self.journal = Journal(self.path / FILE_NAME)
        self.asked.__enter__()
        self.screen = Screen(self.path / LOG, self.quiet)
        if silent:
            where = f"MLflow at {self.uploader.store.shown} does not answer ({silent})"
            self.screen.say(f"{where}; the run is kept here; to send it later: {self.doctor}", "yellow")

    @property
    def doctor(self) -> str:
        """The command that sends the run later."""
        uri = self.uploader.store.shown
        return command.line(
            ["task=doctor", *([command.override("tracking.uri", uri)] if self.request.tracking.uri else [])]
        )

    def _named_store(self) -> dict[str, str] | None:
        """Where the run is sent, as its journal says it: never with a password."""
        if self.uploader is None:
            return None
        return {"uri": self.uploader.store.named_in(self.path), "experiment": self.uploader.store.experiment}

    def _check_store(self, records: list[dict[str, Any]]) -> None:
        """One store has all of a run, or none has."""
        before, now = recorded_store(records), self._named_store()
        if before and now and before["uri"] != now["uri"]:
            raise ConfigError(
                f"tracking.uri: {self.path} is in MLflow at {before['uri']}, got {now['uri']}; give the same, "
                "with its password if it has one, or go on with tracking=none"
            )

    def _follow(self) -> None:
        if self.uploader:
            self.uploader.follow(self.path / FILE_NAME)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Records finite numbers that belong to an optimizer step; a point that a resumed run repeats is there already.

        Times are of the process that ends the run and may come again.
        """
        fresh = {k: v for k, v in values.items() if (step, k) not in self._known}
        if fresh:
            self.journal.append("metrics", step=step, values=fresh)

    def tags(self, values: Mapping[str, str]) -> None:
        """Adds tags to the run."""
        self.journal.append("tags", values=dict(values))

    def artifact(self, path: Path) -> None:
        """Records a file of the run's folder as an artifact, under the same relative path."""
        relative = path.relative_to(self.path)
        self.journal.append("artifact", path=relative.as_posix(), folder=relative.parent.as_posix().removeprefix("."))

    def model(self, path: Path, step: int) -> None:
        """Records a folder in the run's as the model after a step, to be registered where the request says so."""
        name = path.relative_to(self.path).as_posix()
        self.journal.append("model", path=name, step=step, register=self.request.tracking.register)

    def end(self, status: str, reason: str | None = None) -> None:
        """Records how the run ended and what it states; nothing is recorded after it, in the log neither."""
        digest = conclude(self.journal, status, reason)
        self.status = status
        self.screen.field("digest", digest, "of all that the run states", log=False)

    def fail(self, error: BaseException) -> None:
        """Records that an exception ended the run."""
        if self.journal and not self.status:
            stopped = isinstance(error, KeyboardInterrupt)
            self.screen.stop_bar()
            self.screen.trace(error)
            reason = told(error) or (str(error) if isinstance(error, OdysseyError) else repr(error))
            with suppress(OSError):  # a full disk: the journal ends without an end, and the run can be gone on with
                self.end("KILLED" if stopped else "FAILED", reason)

    @property
    def onward(self) -> str | None:
        """The command that goes on with a run that was stopped; None where nothing is left to do."""
        if self.status in (None, "FINISHED"):
            return None
        stopped = self.status == "KILLED" or "sweep" in self.start["config"]
        return command.onward(self.start, self.path) if stopped or any(self.path.rglob(CHECKPOINTS)) else None

    def code(self, code: int) -> int:
        """The exit code of the process: what came of the run, and where that is well whether MLflow has it."""
        return code or (UNSENT if self.unsent else 0)

    def close(self) -> None:
        """Closes what is open."""
        if self.screen:
            self.screen.close()
        if self.journal:
            self.journal.close()
        self.asked.__exit__()


def check_places(request: Request, resuming: bool = False, experiment: str | None = None) -> Store | None:
    """Where a run goes in MLflow, None for nowhere; writes nothing.

    Args:
        request: what was asked for.
        resuming: the folder is there already.
        experiment: where the request names none; by default the data's name.

    Raises:
        Faults: a store or a folder that could not be used.
    """
    faults, store = [], None
    try:
        store = resolve(request.tracking, experiment or request.data.name)
        if store:
            faults += _wrong_names(store, request)
            check_driver(store)
    except ConfigError as error:
        faults.append(str(error))
    try:
        if not resuming:
            folder.check_writable(request)
    except ConfigError as error:
        faults.append(str(error))
    if faults:
        raise Faults(faults)
    return store


def _wrong_names(store: Store, request: Request) -> Iterator[str]:
    """A line for each name that MLflow will not take; a run's own is checked with its folder."""
    if fault := names.experiment_fault(store.experiment):
        yield f"tracking.experiment: {fault}, got {store.experiment[:60]!r}"
    if request.tracking.register is not None and (fault := names.model_fault(request.tracking.register)):
        yield f"tracking.register: {fault}, got {request.tracking.register[:60]!r}"


@contextmanager
def recording(request: Request, resuming: bool = False, experiment: str | None = None) -> Iterator[Session]:
    """A session with its own way to MLflow, which begins to open while the caller assembles what it needs.

    Arguments and what is raised are as in `check_places`; nothing has been written then.
    """
    store = check_places(request, resuming, experiment)
    _show_notices()
    uploader = Uploader(store) if store else None
    session = Session(request, uploader)
    try:
        yield session
        _upload(session)
        if session.onward:
            session.screen.say(f"to go on: {session.onward}", log=False)
    except BaseException as error:
        session.fail(error)
        _upload(session, patience=5.0)
        if session.onward:
            error.add_note(f"to go on: {session.onward}")
        raise
    finally:
        session.close()
        if uploader:
            uploader.abandon()


def _show_notices() -> None:
    """What the core has to say before there is a screen, that kernels are being compiled, goes to stderr."""
    core = logging.getLogger("odyssey_core")
    if not core.handlers:
        core.addHandler(logging.StreamHandler())
        core.setLevel(logging.INFO)
        core.propagate = False


def _upload(session: Session, patience: float | None = None) -> None:
    uploader, screen = session.uploader, session.screen
    if uploader is None or session.journal is None:
        return
    with screen.waiting("sending the run to MLflow"):
        complete = uploader.close(patience)
    journal = session.path / FILE_NAME
    session.unsent = session.unsent or not complete or bool(uploader.refused)
    for line in [*uploader.refused[:MOST_REFUSALS], *(["and more"] if len(uploader.refused) > MOST_REFUSALS else [])]:
        print(f"odyssey-run: MLflow does not take {line}; it is in {journal}", file=sys.stderr)
    if not complete:
        where = f"MLflow at {uploader.store.shown} has not all of this run ({uploader.fault})"
        print(f"odyssey-run: {where}; it is whole in {journal}; to send it later: {session.doctor}", file=sys.stderr)
        return
    records = read(journal)[0]
    for record in records:
        if "registered" in record:
            screen.field("model", f"version {record['version']} of {record['registered']}", "in MLflow's registry")
    if (ids := mlflow_ids(records)) is None:
        return
    address = uploader.store.address(ids["experiment_id"], ids["run_id"])
    if command := uploader.store.command():
        screen.field("mlflow", command, "run this command in this folder, then open the page of the run:", log=False)
        screen.field("", address, log=False)
    else:
        screen.field("mlflow", address, "is the page of the run", log=False)


def recorded_store(records: list[dict[str, Any]]) -> dict[str, str] | None:
    """Where a journal's run is sent: ``uri`` as `Store.named_in` gives it, and ``experiment``; None for nowhere."""
    return next((r["store"] for r in reversed(records) if r.get("store")), None)


def unsent(records: list[dict[str, Any]]) -> bool:
    """Whether a journal's run has ended and MLflow has not all of it."""
    return [r["kind"] for r in records if r["kind"] in ("resume", "end", "sent")][-1:] == ["end"]


def mlflow_ids(records: list[dict[str, Any]]) -> dict[str, str] | None:
    """``run_id`` and ``experiment_id`` of a journal's run in MLflow, None while it has none."""
    return next((r for r in records if r["kind"] == "tracking" and "run_id" in r), None)
