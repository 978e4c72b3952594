"""What a person sees of a sweep: one live table on a terminal, a line a run elsewhere; the top ten at the end."""

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from odyssey_run.config.schema import SweepConfig
from odyssey_run.reports.summary import number
from odyssey_run.runs.console import Screen, duration
from odyssey_run.sweep.plan import Trial
from odyssey_run.sweep.results import FinishedRuns, PointStatus, Result, Row, tally

TOP = 10


class LiveTable:
    def __init__(self, screen: Screen, config: SweepConfig, runs: int):
        self.screen, self.config, self.runs = screen, config, runs
        self._begun = time.monotonic()
        terminal = screen.console.is_terminal and not screen.console.quiet
        self._live = Live(console=screen.console, refresh_per_second=4, transient=True) if terminal else None
        self._ended = 0

    def __enter__(self) -> "LiveTable":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def line(self, result: Result) -> None:
        self._ended += 1
        value = number(self.config.metric, result.value) or "-"
        took = f"{result.last['time/run_s']:.1f} s" if "time/run_s" in result.last else ""
        text = f"{self._ended:>5}  {result.status:<9}{value:>8}{took:>9}  {result.point.label}"
        if result.status == PointStatus.FAILED:
            self.screen.say(f"{text}: {result.reason}", "bold red")
        elif self._live:
            self.screen.log(text)
        else:
            self.screen.say(text)

    def update(self, results: Iterable[Result], before: int, running: list[str]) -> None:
        """Draws the table where there is a terminal; ``before`` results are of earlier commands."""
        if self._live:
            self._live.update(self._drawn(list(results), before, running))

    def _drawn(self, results: list[Result], before: int, running: list[str]) -> Group:
        counts = Counter(result.status for result in results)
        done, pruned, failed = (counts[each] for each in (PointStatus.FINISHED, PointStatus.PRUNED, PointStatus.FAILED))
        values = [(r.value, r.point.label) for r in results if r.status == PointStatus.FINISHED and r.value is not None]
        fresh, left = len(results) - before, self.runs - len(results)
        seconds = time.monotonic() - self._begun
        table = Table(box=None, pad_edge=False, show_header=False, expand=True)
        table.add_column(style="cyan", width=7)
        table.add_column(overflow="ellipsis", no_wrap=True, ratio=1)  # a bar asks for the whole width
        known = f" · {duration(seconds / fresh * left)} left" if fresh > 0 else ""
        state = f"{done} of {self.runs} done{f' · {pruned} pruned' if pruned else ''} · {len(running)} running · "
        wrong = Text(f"{failed} failed", "bold red" if failed else "")
        table.add_row("runs", Text.assemble(state, wrong, known))
        table.add_row("", ProgressBar(total=self.runs, completed=len(results), complete_style="cyan"))
        if values:
            value, label = (max if self.config.maximizes else min)(values, key=lambda each: each[0])
            table.add_row("best", f"{self.config.metric} {number(self.config.metric, value)}  {label}")
        for i, label in enumerate(running):
            table.add_row("" if i else "running", Text(label, "dim"))
        return Group(table)


def introduce(screen: Screen, config: SweepConfig, folder: Path, points: int, runs: int, jobs: int) -> None:
    many = "run" if runs == 1 else "point" if points == 1 else "points"
    each = f", {runs} runs" if runs > points else ""
    where = f"on {config.address}" if config.address else "here"
    screen.field("sweep", f"{points} {many}{each}, {config.strategy}", f"{jobs} at once {where}, by {config.metric}")
    screen.field("folder", str(folder))
    screen.say()


def show_top(screen: Screen | None, rows: list[Row], config: SweepConfig, before: int = 0) -> None:
    say = screen.say if screen else print
    finished = [row for row in rows if row.status == PointStatus.FINISHED]
    say()
    if finished:
        say(f"{'':>4}{config.metric:>18}{'test acc':>11}{'seconds':>10}  point")
    for place, row in enumerate(finished[:TOP], 1):
        value = number(config.metric, row.value) or "-"
        if row.spread is not None:
            value += f" ±{number(config.metric, row.spread)}"
        test = number("test/accuracy", row.test) or "-"
        say(f"{place:>4}{value:>18}{test:>11}{row.seconds:>10.1f}  {row.label}")
    known = f"; {before} done before" if before else ""
    say(tally(rows) + known)
    if held := [row.missed for row in rows if row.missed is not None]:
        say(f"{sum(held)} of {len(held)} points missed a claim")


def show_plan(config: SweepConfig, trials: list[Trial], finished: FinishedRuns) -> int:
    """``sweep.dry_run``: the points, what is done of them, and how long the rest may take. Returns exit code 0."""
    points = [point for trial in trials for point in trial.points]
    if config.strategy == "tpe":
        print(f"{config.trials} points that Optuna proposes between")
    left = 0
    for point in points:
        found = None if config.strategy == "tpe" else finished.find(point)
        left += found is None
        note = "" if found is None else f"done: {config.metric} {number(config.metric, found.value)}  {found.folder}"
        print(f"  {point.label}  {note}")
    if config.strategy == "tpe":
        left = config.trials or 0
    else:
        print(f"{len(points)} runs, {len(points) - left} done")
    seconds = finished.seconds(points[0].request)
    if seconds is None:
        first = points[0].request
        print(f"no estimate of the time: no run of {first.model.name} on {first.data.name} is in runs/ yet")
    else:
        from odyssey_core.machine import usable_cores

        jobs = config.jobs or usable_cores()
        print(f"about {duration(seconds * left / jobs)} for {left} runs, {jobs} at once")
    return 0
