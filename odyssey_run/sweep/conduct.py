"""A sweep from its command to its leaderboard."""

import os
import signal
import sys
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from functools import partial
from pathlib import Path

from odyssey_core.errors import ConfigError
from odyssey_core.machine import usable_cores
from odyssey_run.config.binding import collecting
from odyssey_run.config.command_line import CommandLine
from odyssey_run.config.composition import ConfigFiles
from odyssey_run.config.plugins import flags, packed
from odyssey_run.config.request import Request
from odyssey_run.config.schema import FolderConfig, SweepConfig
from odyssey_run.runs import command
from odyssey_run.runs.folder import RUNS, numbered
from odyssey_run.runs.recorded import begun, opened
from odyssey_run.runs.recorder import UNSENT, RunRecorder, plan_run
from odyssey_run.runs.statements import end_dead
from odyssey_run.sweep import plan, space
from odyssey_run.sweep.cluster import Cluster, SchedulerLost
from odyssey_run.sweep.plan import Composer, Point, Trial
from odyssey_run.sweep.pool import Follow, Job, Pool
from odyssey_run.sweep.proposals import Proposals, Tpe
from odyssey_run.sweep.results import FinishedRuns, PointStatus, Result, Row, place, ranked, slug, unsent_in
from odyssey_run.sweep.table import LiveTable, introduce, show_plan, show_top
from odyssey_run.sweep.worker import record_startup_failure
from odyssey_run.tracking.client import end_orphans
from odyssey_run.tracking.journal import is_sent
from odyssey_run.tracking.location import Store, resolve
from odyssey_run.tracking.names import JOURNAL, Status, Tag
from odyssey_run.tracking.uploader import SharedUploader, Uploader

OK, FAILED, CLAIM_MISSED = 0, 1, 3
POLL, PATIENCE, HOLDS = 0.2, 60.0, 5.0  # seconds; in the last a dead worker lets go of its journal


def sweep(line: CommandLine, typed: tuple[str, ...], files: ConfigFiles) -> int:
    """Runs all points that a command means and that are not done yet; returns the exit code, as `cli.HELP` lists
    them. Raises Faults: a mistake in what was asked for; nothing has run then."""
    composer = Composer(line, typed, files)
    config = composer.sweep()
    executor: Pool | Cluster | None = None
    if not config.dry_run and config.executor == "dask":
        executor = Cluster(config.address or "", config.jobs, config.prune)
    elif not config.dry_run:
        executor = Pool(config.jobs or usable_cores())
    try:
        trials = _trials(config, composer)
        first = replace(trials[0].points[0].request, overrides=("-m", *typed))
        folder = _folder(plan.name_of(config, composer.axes, trials[0].points[0].request), config.rerun)
        finished = FinishedRuns(config, folder)
        store = _store(config, first)
        if executor is None:
            return show_plan(config, trials, finished)
        if rows := _nothing_left(config, folder, trials, finished, store):
            return CLAIM_MISSED if any(row.missed for row in rows) else OK
        proposals = Proposals(trials)
        if config.strategy == "tpe":
            folder.mkdir(parents=True, exist_ok=True)
            proposals = Tpe(folder, config, composer)
        request = plan.parent_request(first, trials[0].expect, config, composer.axes)
        request = replace(request, run=FolderConfig(None, str(folder)))
        with plan_run(request, resuming=folder.exists()) as own:  # what is proposed is kept there
            named = replace(request, run=FolderConfig(f"sweep:{folder.name}", None))
            begin = replace(own, request=named, folder=folder).begin
            opened = (
                own.resume(folder, over=True) if begun(folder) else begin(folder.name, {Tag.SWEEP.value: folder.name})
            )
            with opened as recorder:
                runs = len({p.identity for trial in trials for p in trial.points}) * proposals.total // len(trials)
                code = SweepRunner(config, recorder, executor, proposals, finished).run(runs)
        return recorder.code(code)
    finally:
        if executor:
            executor.close()


def _trials(config: SweepConfig, composer: Composer) -> list[Trial]:
    """The points of a grid or a draw; for TPE those that show whether what it may propose can be configured."""
    if config.strategy == "grid":
        return composer.trials(space.grid(composer.axes))
    if config.strategy == "random":
        trials = config.trials or 0
        drawn = list(dict.fromkeys(space.drawn(composer.axes, trials, config.seed)))
        if len(drawn) < trials:
            print(f"{trials} points were drawn, {len(drawn)} of them different; each is run once")
        return composer.trials(iter(drawn))
    return composer.trials(space.corners(composer.axes))


def _store(config: SweepConfig, request: Request) -> Store | None:
    store = resolve(request.tracking, request.data.name)
    if config.executor == "dask" and store and store.database:
        raise ConfigError(
            f"sweep.executor=dask: workers on other machines cannot write to {store.shown}; "
            "start mlflow server and set tracking.uri=http://HOST:PORT, or tracking=none"
        )
    return store


def _folder(name: str, fresh: bool) -> Path:
    """The sweep's folder; for ``sweep.rerun=true`` the first that is free."""
    folder = next(folder for folder in numbered(RUNS / name) if not (fresh and begun(folder)))
    if (run := opened(folder)) is None:
        (folder / JOURNAL).unlink(missing_ok=True)  # killed before its first line
    elif "sweep" not in run.config:
        raise ConfigError(f"sweep.name: {folder} holds a single run; choose another")
    return folder


def _nothing_left(
    config: SweepConfig, folder: Path, trials: list[Trial], finished: FinishedRuns, store: Store | None
) -> list[Row]:
    """Shows and returns the rows of a list of points that are all done and uploaded; otherwise returns none."""
    run = opened(folder)
    if config.strategy == "tpe" or run is None or run.status != Status.FINISHED:
        return []
    if store and config.executor != "dask" and unsent_in(folder, store):
        return []
    points = [point for trial in trials for point in trial.points]
    found = {point.identity: result for point in points if (result := finished.find(point))}
    if any(point.identity not in found for point in points):
        return []
    print(f"all {len(found)} runs are done; sweep.rerun=true makes them again")
    rows = ranked(trials, found, config.maximizes)
    show_top(None, rows, config)
    return rows


class SweepRunner:
    """Keeps the executor busy until there is nothing left to propose; the recorder is that of the sweep's own run."""

    def __init__(
        self,
        config: SweepConfig,
        recorder: RunRecorder,
        executor: Pool | Cluster,
        proposals: Proposals,
        finished: FinishedRuns,
    ):
        self.config, self.recorder, self.folder, self.executor = config, recorder, recorder.path, executor
        self.proposals, self.finished, self.uploader = proposals, finished, recorder.plan.uploader
        self.results: dict[str, Result] = {}  # by identity
        self.trials: list[Trial] = []
        self._queue: deque[tuple[Trial, Point]] = deque()
        self._running: dict[Future[None], tuple[Trial, Point, Path]] = {}
        self._made: list[Path] = []
        self._found = 0
        self._since = int(time.time() * 1000)
        self._stopping = False

    def run(self, runs: int) -> int:
        """Runs so many, less those that are done; returns the exit code."""
        screen, points = self.recorder.screen, self.proposals.total
        if self.uploader and self.executor.remote:
            self._await_parent()
        elif self.uploader:  # what ended in an earlier process that died; remote workers send without noting it here
            for path in unsent_in(self.folder, self.uploader.store):
                self.uploader.follow(path)
                self._made.append(path.parent)
        introduce(screen, self.config, self.folder, points, runs, self.executor.jobs)
        with LiveTable(screen, self.config, runs) as table:
            self._fill()
            while self._running:
                running = [point.label for _, point, _ in self._running.values()]
                table.update(self.results.values(), self._found, running)
                done, _ = wait(self._running, POLL, FIRST_COMPLETED)
                for future in done:
                    table.line(self._finish(future))
                if self.recorder.asked.signum is not None:
                    self._stop()
                self._fill()
        return self._conclude()

    def _fill(self) -> None:
        later = []
        while not self._stopping and len(self._running) < self.executor.jobs and (item := self._next()):
            trial, point = item
            if point.identity in {other.identity for _, other, _ in self._running.values()}:
                later.append(item)  # TPE may propose twice what is being tried
            elif found := self.results.get(point.identity) or self.finished.find(point):
                if point.identity not in self.results:
                    self._found += 1
                self.results[point.identity] = found
                self._tell(trial)
            else:
                self._submit(trial, point)
        self._queue.extendleft(reversed(later))

    def _next(self) -> tuple[Trial, Point] | None:
        if not self._queue and (trial := self.proposals.ask()):
            self.trials.append(trial)
            self._queue.extend((trial, point) for point in trial.points)
        return self._queue.popleft() if self._queue else None

    def _submit(self, trial: Trial, point: Point) -> None:
        path, uploader = place(self.folder, point), self.uploader
        job: Job = {
            "config": point.request.config,
            "overrides": list(point.request.overrides),
            "plugins": packed(point.request.plugins),
            "name": slug(point.label),
            "folder": str(path),
            "parent": self.recorder.key,
            "tags": {Tag.SWEEP.value: self.folder.name, **self.recorder.shared_tags},
            "store": vars(uploader.store) if uploader else None,
            "metric": self.config.metric,
        }
        follow: Follow = uploader.follow if uploader else lambda path: None
        future = self.executor.submit(job, follow, partial(self.proposals.should_prune, trial))
        self._running[future] = (trial, point, path)

    def _finish(self, future: "Future[None]") -> Result:
        trial, point, path = self._running.pop(future)
        error, run = future.exception(), None
        if isinstance(error, SchedulerLost):
            raise error
        if error:
            self._record_failure(point, path, error)
        elif (run := opened(path)) and run.status is None:
            self._end(path, Status.KILLED, "cancelled")
        if run is None or run.status is None:  # the end was written here
            run = opened(path)
        if run:
            self._made.append(path)
        result = self.finished.result(point, path, run)
        if error and result.reason is None:
            result = replace(result, reason=str(error))
        if self._stopping and result.status == PointStatus.FAILED and result.value is None:
            result = replace(result, status=PointStatus.KILLED)
        self.results[point.identity] = result
        self._tell(trial)
        if result.status == PointStatus.FAILED and self.config.fail_fast:
            self._stop()
        return result

    def _record_failure(self, point: Point, path: Path, error: BaseException) -> None:
        if begun(path):
            self._end(path, Status.FAILED, str(error))
            return
        request = replace(point.request, run=FolderConfig(slug(point.label), None))
        plan = self.recorder.part(request, path, tags={Tag.SWEEP.value: self.folder.name})
        record_startup_failure(replace(plan, quiet=True), path, error)

    def _end(self, path: Path, status: Status, reason: str) -> None:
        """Writes the end that a dead worker could not; one that lives after all will say itself how it ends."""
        if end_dead(path, status, reason, HOLDS) and self.uploader:  # a dead worker's own is gone with it
            self.uploader.follow(path / JOURNAL)

    def _tell(self, trial: Trial) -> None:
        if row := Row.of(trial, self.results):
            self.proposals.tell(trial, row.status, row.value)

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            self.executor.stop()

    def _await_parent(self) -> None:
        """Children that others send look for their parent in MLflow."""
        with self.recorder.screen.waiting("beginning the sweep in MLflow"):
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end and self.recorder.records().created is None:
                time.sleep(POLL)

    def _drain(self) -> list[str]:
        """Waits until MLflow has the runs, as long as it takes any; returns what is wrong where it has not."""
        if not self.uploader:
            return []
        with self.recorder.screen.waiting("sending the runs to MLflow"):
            if self.executor.remote:
                return [*self.executor.flush(), *self._end_orphans(self.uploader)]
            left, moved = deque(self._made), time.monotonic()
            while left and time.monotonic() < moved + PATIENCE:
                if is_sent(left[0] / JOURNAL):
                    left.popleft()
                    moved = time.monotonic()
                else:
                    time.sleep(POLL)
        return []  # the end of the sweep's own run tells of the rest

    def _end_orphans(self, uploader: Uploader | SharedUploader) -> list[str]:
        """Where a worker died whose folder is elsewhere, its run began anew, and MLflow waits for the old one's end."""
        folders = [result.folder for result in self.results.values()]
        journals = {run.key: folder / JOURNAL for folder in folders if (run := opened(folder))}
        faults: list[str] = []
        with collecting(faults):
            if parent := self.recorder.records().created:
                end_orphans(uploader.store, parent, self._since, journals, uploader.follow)
        return faults

    def _conclude(self) -> int:
        from odyssey_run.sweep import report  # beside Matplotlib's import

        recorder, screen = self.recorder, self.recorder.screen
        rows = ranked(self.trials, self.results, self.config.maximizes)
        stopped = () if self._stopping else (PointStatus.KILLED,)  # by somebody else
        wrong = (PointStatus.FAILED, *stopped)
        failed = [result for result in self.results.values() if result.status in wrong]
        best = rows[0] if rows and rows[0].status == PointStatus.FINISHED else None
        show_top(screen, rows, self.config, self._found)
        if (different := len({trial.assignment for trial in self.trials})) < len(self.trials):
            screen.say(f"{len(self.trials)} points were proposed, {different} of them different; each was run once")
        if best and best.value is not None:
            for path in report.publish(self.folder, rows, self.config):
                recorder.artifact(path)
            recorder.metrics(len(rows), {f"best/{self.config.metric}": best.value})
            recorder.tags({Tag.BEST.value: best.label})
            screen.field("report", str(self.folder / report.PAGE))
            named = flags(recorder.plan.request.plugins)
            screen.field("best", command.line([*named, "--config-dir", str(self.folder), "experiment=best"]))
        elif best:  # the data have too few images for a validation set
            how = "set trainer.validation_size, or another sweep.metric"
            screen.say(f"no run recorded {self.config.metric}, so no point is the best; {how}", "yellow")
        for result in failed:
            line = f"{result.point.label}: {result.reason}; see {result.folder}"
            screen.log(line)
            print(f"odyssey-run: {line}", file=sys.stderr)
        faults = self._drain()
        for fault in faults:
            print(f"odyssey-run: the upload of the runs to MLflow is incomplete: {fault}", file=sys.stderr)
        if rows:  # with links to runs in MLflow, which has them now
            recorder.tags({Tag.NOTE.value: report.note(rows, self.config, (self.folder / report.PAGE).exists())})
        if hasattr(os, "sync"):  # not on Windows
            os.sync()  # the runs did not wait for the disk one by one, which would take 2 ms of a core for each
        number = recorder.asked.signum
        if number is not None:
            recorder.end(Status.KILLED, f"stopped by {signal.Signals(number).name}")
            return 128 + number
        if failed:
            recorder.end(Status.FAILED, f"{len(failed)} of {len(self.results)} runs failed")
            return FAILED
        recorder.end(Status.FINISHED)
        return CLAIM_MISSED if any(row.missed for row in rows) else UNSENT if faults else OK
