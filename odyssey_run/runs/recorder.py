"""Records a run: its folder, its journal, its screen, and what sends it to MLflow."""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from odyssey_core.errors import ConfigError, OdysseyError
from odyssey_core.files import write_atomic
from odyssey_run.config.masking import masked
from odyssey_run.config.plugins import FOLDER, told
from odyssey_run.config.request import Request
from odyssey_run.runs import command, folder, provenance
from odyssey_run.runs.events import EpochEnd, Listener
from odyssey_run.runs.folder import LOG, check_places
from odyssey_run.runs.statements import conclude
from odyssey_run.signals import StopRequest
from odyssey_run.tracking.journal import Journal, load
from odyssey_run.tracking.location import Store
from odyssey_run.tracking.names import JOURNAL, Status, Tag
from odyssey_run.tracking.records import Artifact, Metrics, Model, Registered, Resume, RunRecords, Start, Tags
from odyssey_run.tracking.uploader import SharedUploader, Uploader

if TYPE_CHECKING:
    from odyssey_run.runs.console import Screen

STATM = Path("/proc/self/statm")
DIFF, ENVIRONMENT = "uncommitted.diff", "environment.json"
CHECKPOINTS = "checkpoint*.safetensors"
UNSENT = 5  # the exit code of a run that finished, where the upload to MLflow is incomplete
MOST_REFUSALS = 3  # shown on the terminal
PATIENCE = 5.0  # seconds to send a run that failed or was stopped


@dataclass(frozen=True)
class RunPlan:
    """A run that has not begun: nothing is written yet, so that a mistake leaves nothing behind."""

    request: Request
    uploader: Uploader | SharedUploader | None = None  # sends the journal to MLflow; None where it is not sent
    parent: str | None = None  # key of the run that this one is nested under
    tags: Mapping[str, str] = field(default_factory=dict)  # for MLflow, beside those that `begin` is given
    folder: Path | None = None  # the run's, where the request does not decide it
    # Whether it is one run of several that another process or run tells of and sends; its tags are to have
    # `RunRecorder.shared_tags` then.
    part: bool = False
    waits: bool = True  # for the disk at its end, see `statements.conclude`
    quiet: bool = False  # whether the terminal is left alone; train.log is written all the same
    asked: StopRequest = field(default_factory=StopRequest)  # notes the signal that asked to stop

    @contextmanager
    def begin(self, base: str, tags: Mapping[str, str]) -> Iterator["RunRecorder"]:
        """Makes the folder, see `folder.make`, and writes the journal's first line, with tags beside those of the
        program and the machine. Raises ConfigError: the folder cannot be made, or MLflow will not take the run."""
        silent = self._ask(None)
        path, name = folder.make(self.request, base, self.folder)
        with self._open(path, silent) as (journal, screen):
            config = masked(self.request.config)
            folder.write_config(path, config)
            process = provenance.process()
            own = {Tag.FOLDER.value: str(path.absolute()), **tags, **self.tags}
            # Git takes longer than a small part of a sweep.
            commit, patch = ({}, b"") if self.part else provenance.of_commit()
            start = Start(
                run=f"{name}-{process['pid']}-{path.stat().st_ctime_ns}",
                parent=self.parent,
                name=name,
                config=config,
                params=provenance.parameters(config),
                tags={**provenance.tags(self.request), **commit, **own},
                process=process,
                store=self._named_store(path),
            )
            journal.append(start)
            with RunRecorder(self, start, journal, screen).recording() as recorder:
                self._keep_code(recorder, patch)
                yield recorder

    @contextmanager
    def resume(self, path: Path, over: bool = False) -> Iterator["RunRecorder"]:
        """Continues the run in a folder, which did not finish, unless it may be `over`, as a sweep is. Raises
        ConfigError: another process writes it or has finished it, or MLflow will not take the rest of it."""
        records = load(path / JOURNAL)
        before, now = records.store, self._named_store(path)
        if before and now and before["uri"] != now["uri"]:  # one store has all of a run, or none has
            raise ConfigError(
                f"tracking.uri: {path} is in MLflow at {before['uri']}, got {now['uri']}; give the same, "
                "with its password if it has one, or go on with tracking=none"
            )
        with self._open(path, self._ask(records.run_id)) as (journal, screen):
            records = load(path / JOURNAL)  # once more: until now another process may have written it
            if records.status == Status.FINISHED and not over:
                raise ConfigError(f"resume: another process has finished {path} meanwhile; nothing is left to do")
            journal.append(Resume(process=provenance.process(), store=now))
            folder.write_config(path, records.config)
            known = {(record.step, name) for record in records.of(Metrics) for name in record.values}
            with RunRecorder(self, records.start, journal, screen, known).recording() as recorder:
                yield recorder

    def _ask(self, run_id: str | None) -> str | None:
        """Why MLflow does not answer, where it does not. Raises ConfigError where it will not take the run."""
        return self.uploader.ask(run_id) if isinstance(self.uploader, Uploader) else None

    @contextmanager
    def _open(self, path: Path, silent: str | None) -> Iterator[tuple[Journal, "Screen"]]:
        from odyssey_run.runs.console import Screen  # beside MLflow's import

        journal = Journal(path / JOURNAL)
        with self.asked, closing(journal), closing(Screen(path / LOG, self.quiet)) as screen:
            if self.uploader and silent:
                where = f"MLflow at {self.uploader.store.shown} does not answer ({silent})"
                later = on_store("doctor", self.request, self.uploader.store)
                how = f"is sent once MLflow answers, or later by {later}"
                screen.say(f"{where}; the run is kept here, and {how}", "yellow")
            yield journal, screen

    def _named_store(self, path: Path) -> dict[str, str] | None:
        """Where the run is sent, as its journal says it: never with a password."""
        if self.uploader is None:
            return None
        return {"uri": self.uploader.store.named_in(path), "experiment": self.uploader.store.experiment}

    def _keep_code(self, recorder: "RunRecorder", patch: bytes) -> None:
        """Keeps the versions of packages, what the code differs in from its commit, and the text of plug-ins.

        What is the same for the parts of a run is kept once, with the run above them.
        """
        if self.part:
            return
        if not self.parent:
            recorder.write(ENVIRONMENT, provenance.environment())
            if patch:
                recorder.write(DIFF, patch)
        for plugin in self.request.plugins:
            for name, text in plugin.files.items() if plugin.is_file else ():
                recorder.write(f"{FOLDER}/{name}", text)


class RunRecorder(Listener):
    """A run that has begun: the start is written, and what is known of its metrics is in the journal already."""

    def __init__(
        self, plan: RunPlan, start: Start, journal: Journal, screen: "Screen", known: Iterable[tuple[int, str]] = ()
    ):
        self.plan, self.start, self.journal, self.screen = plan, start, journal, screen
        self._known = frozenset(known)  # (step, name)
        self.path, self.asked = journal.path.parent, plan.asked
        self.key = start.run  # tells the run from all others, in the journal and as a tag in MLflow
        self._spent = time.perf_counter(), time.process_time()  # at the end of the epoch before
        self.status: Status | None = None  # how it ended; None before
        self.unsent = False  # whether the upload to MLflow is incomplete

    @contextmanager
    def recording(self) -> Iterator["RunRecorder"]:
        """Sends the run meanwhile and at its end; an exception ends it as failed, or as killed, and is raised again."""
        try:
            if self.plan.uploader:
                self.plan.uploader.follow(self.journal.path)
            yield self
            self._upload()
            if self.onward and not self.plan.part:
                self.screen.say(f"to go on: {self.onward}", log=False)
        except BaseException as error:
            self._fail(error)
            self._upload(PATIENCE)
            if self.onward and not self.plan.part:
                error.add_note(f"to go on: {self.onward}")
            raise

    def records(self) -> RunRecords:
        return self.journal.records()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Records finite numbers that belong to an optimizer step; a point that a resumed run repeats is there already.

        Times are of the process that ends the run and may come again.
        """
        fresh = {name: value for name, value in values.items() if (step, name) not in self._known}
        if fresh:
            self.journal.append(Metrics(step=step, values=fresh))

    def epoch(self, end: EpochEnd, train_s: float, images_per_s: float) -> None:
        """Records what the process takes, under the names of MLflow's page of system metrics."""
        (wall, cpu), self._spent = self._spent, (time.perf_counter(), time.process_time())
        values = {"system/process_cpu_percentage": 100 * (self._spent[1] - cpu) / (self._spent[0] - wall)}
        with suppress(OSError):  # where there is no /proc
            pages = int(STATM.read_text().split()[1])
            values["system/process_memory_megabytes"] = pages * os.sysconf("SC_PAGESIZE") / 1e6
        self.metrics(end.step, values)

    def tags(self, values: Mapping[str, str]) -> None:
        self.journal.append(Tags(values=dict(values)))

    def write(self, name: str, content: bytes) -> None:
        write_atomic(self.path / name, content)
        self.artifact(self.path / name)

    def artifact(self, path: Path) -> None:
        """Records a file of the run's folder as an artifact, under the same relative path."""
        relative = path.relative_to(self.path)
        above = relative.parent.as_posix().removeprefix(".")
        self.journal.append(Artifact(path=relative.as_posix(), folder=above))

    def model(self, path: Path, step: int) -> None:
        """Records a folder in the run's as the model after a step, to be registered where the request says so."""
        name = path.relative_to(self.path).as_posix()
        self.journal.append(Model(path=name, step=step, register=self.plan.request.tracking.register))

    def end(self, status: Status, reason: str | None = None) -> None:
        """Records how the run ended and what it states; nothing is recorded after it, not even in the log."""
        digest = conclude(self.journal, status, reason, self.plan.waits)
        self.status = status
        self.screen.field("digest", digest, "of all that the run states", log=False)

    @property
    def onward(self) -> str | None:
        """The command that continues a run that was stopped; None where nothing is left to do."""
        if self.status in (None, Status.FINISHED):
            return None
        stopped = self.status == Status.KILLED or "sweep" in self.start.config
        return command.onward(self.start, self.path) if stopped or any(self.path.rglob(CHECKPOINTS)) else None

    def code(self, code: int) -> int:
        """The exit code of the process: the run's own or, where that is 0, 5 for an incomplete upload."""
        return code or (UNSENT if self.unsent else 0)

    @property
    def shared_tags(self) -> dict[str, str]:
        """Those that the runs nested under this one have too: of the code's commit."""
        return {name: value for name, value in self.start.tags.items() if name in (provenance.COMMIT, Tag.DIRTY)}

    def part(self, request: Request, path: Path, *, tags: Mapping[str, str] | None = None) -> RunPlan:
        uploader = self.plan.uploader and SharedUploader(self.plan.uploader.store, self.plan.uploader.follow)
        return RunPlan(request, uploader, self.key, {**self.shared_tags, **(tags or {})}, path, part=True)

    def _fail(self, error: BaseException) -> None:
        if not self.status:
            self.screen.stop_bar()
            self.screen.trace(error)
            reason = told(error) or (str(error) if isinstance(error, OdysseyError) else repr(error))
            with suppress(OSError):  # a full disk: the journal ends without an end, and the run can be continued
                self.end(Status.KILLED if isinstance(error, KeyboardInterrupt) else Status.FAILED, reason)

    def _upload(self, patience: float | None = None) -> None:
        """Sends the rest of the run, and says where it is in MLflow."""
        uploader, screen = self.plan.uploader, self.screen
        if not isinstance(uploader, Uploader):
            return
        with screen.waiting("sending the run to MLflow"):
            complete = uploader.close(patience)
        refused, journal = uploader.refused, self.journal.path
        self.unsent = not complete or bool(refused)
        for line in [*refused[:MOST_REFUSALS], *(["and more"] if len(refused) > MOST_REFUSALS else [])]:
            print(f"odyssey-run: MLflow rejected {line}; it is kept in {journal}", file=sys.stderr)
        if not complete:
            where = f"the upload to MLflow at {uploader.store.shown} is incomplete ({uploader.fault})"
            how = f"to send it later: {on_store('doctor', self.plan.request, uploader.store)}"
            print(f"odyssey-run: {where}; the run is complete in {journal}; {how}", file=sys.stderr)
            return
        records = self.records()
        for made in records.of(Registered):
            screen.field("model", f"version {made.version} of {made.registered}", "in MLflow's registry")
        if records.created:
            address = uploader.store.address(records.created.experiment_id, records.created.run_id)
            if uploader.store.served:
                screen.field("mlflow", address, "is the page of the run", log=False)
            else:
                what = "run this command in this folder, then open the page of the run:"
                screen.field("mlflow", on_store("ui", self.plan.request, uploader.store), what, log=False)
                screen.field("", address, "", log=False)


def on_store(task: str, request: Request, store: Store) -> str:
    """The command for a task on a run's store: ``doctor``, which sends it later, or ``ui``, which shows it."""
    named = [command.override("tracking.uri", store.shown)] if request.tracking.uri else []
    return command.line([f"task={task}", *named])


@contextmanager
def plan_run(request: Request, resuming: bool = False, experiment: str | None = None) -> Iterator[RunPlan]:
    """The plan of a run with an uploader of its own, which starts while the caller assembles what the run needs.

    Arguments and what is raised are as in `folder.check_places`; nothing has been written then.
    """
    store = check_places(request, resuming, experiment)
    core = logging.getLogger("odyssey_core")
    if not core.handlers:  # until there is a screen, what it says goes to stderr: that kernels are being compiled
        core.addHandler(logging.StreamHandler())
        core.setLevel(logging.INFO)
        core.propagate = False
    uploader = Uploader(store) if store else None
    try:
        yield RunPlan(request, uploader)
    finally:
        if uploader:
            uploader.abandon()
