"""What a person sees of a run: a progress bar and a table on a terminal, plain lines elsewhere and in train.log."""

import sys
import textwrap
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from odyssey_run.config.claims import ClaimRow
from odyssey_run.config.masking import masked
from odyssey_run.runs.events import EpochEnd, Listener, Outcome
from odyssey_run.runs.streams import Lasting
from odyssey_run.tracking.names import Status

MOST_ROWS = 50  # of epochs on the terminal; train.log has them all
COLUMNS = {"epoch": 9, "train loss": 12, "val loss": 10, "train acc": 11, "val acc": 9}  # of the table, and widths
COLUMNS |= {"lr": 9, "train s": 9, "images/s": 10}
WIDTH = 80  # of a terminal that says it has none


class Screen(Listener):
    """Prints to stdout, unless it is quiet, and to a log file, which is appended to."""

    def __init__(self, log: Path, quiet: bool = False):
        self.console = Console(
            file=cast("TextIO", Lasting(sys.stdout)),
            highlight=False,
            emoji=False,
            markup=False,
            quiet=quiet,
            # A notebook calls itself a terminal, but a bar would leave a line each time it moves.
            force_terminal=False if type(sys.stdout).__module__.startswith("ipykernel") else None,
            force_jupyter=False,
        )
        if self.console.width < 1:  # COLUMNS=0, of a shell without a terminal: nothing would be printed
            self.console.width = WIDTH
        self._log = open(log, "a", encoding="utf-8", buffering=1)  # noqa: SIM115  (closed by close)
        self._bar: Progress | None = None

    def say(self, text: str = "", style: str | None = None, log: bool = True) -> None:
        """One line, never wrapped, so that an address can be copied."""
        if log:
            self.log(text)
        if not self.console.quiet:  # else it would be laid out for nobody, which takes a while in a sweep
            self.console.print(Text(masked(text), style or ""), soft_wrap=True)

    def field(self, name: str, text: str, note: str = "", log: bool = True) -> None:
        """One line of a summary: a name, what it is, and something aside. A terminal that is narrower gets several,
        which begin below each other; a word, such as an address, stays whole.
        """
        text = masked(text)
        if log:
            self.log(f"{name:<9}{text}{'  ' + note if note else ''}")
        if self.console.quiet:
            return
        line, at = Text.assemble(text, (f"  {note}" if note else "", "dim")), 0
        for part in self._wrapped(line.plain):
            at = line.plain.index(part, at)
            shown = Text.assemble((f"{name if not at else '':<9}", "cyan"), line[at : at + len(part)])
            self.console.print(shown, soft_wrap=True)
            at += len(part)

    def _wrapped(self, text: str) -> list[str]:
        if not (self.console.is_terminal and text):
            return [text]
        return textwrap.wrap(
            text, max(self.console.width - 9, 1), expand_tabs=False, replace_whitespace=False,
            break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip

    def log(self, text: str) -> None:
        """A line for the log alone; where it cannot be written, what it tells is in the journal all the same."""
        with suppress(OSError):
            self._log.write(masked(text) + "\n")

    def trace(self, error: BaseException) -> None:
        self.log("".join(traceback.format_exception(error)))

    def begin(self, steps: int) -> None:
        self.say()
        self.say("".join(f"{name:>{width}}" for name, width in COLUMNS.items()), "bold")
        if self.console.is_terminal and not self.console.quiet:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None, complete_style="cyan", finished_style="cyan"),
                TextColumn("{task.fields[figures]}", style="dim", markup=False),
                console=self.console,
                transient=True,
                refresh_per_second=8,
            )
            self._bar.start()
            self._bar.add_task("starting", total=steps, figures="")

    def progress(self, step: int, epoch: int, loss: float, images_per_s: float, seconds_left: float | None) -> None:
        if self._bar is None:
            return
        figures = f"loss {loss:.3f}"
        if images_per_s:
            figures += f" · {images_per_s:,.0f} images/s"
        if seconds_left is not None:
            figures += f" · {duration(seconds_left)} left"
        self._bar.update(self._bar.tasks[0].id, completed=step, description=f"epoch {epoch}", figures=figures)

    def evaluating(self, what: str) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.tasks[0].id, description=what, figures="")

    def epoch(self, epoch: EpochEnd, train_s: float, images_per_s: float) -> None:
        losses = ("-" if loss is None else f"{loss:.4f}" for loss in (epoch.train_loss, epoch.val_loss))
        shares = ("-" if share is None else f"{share:.2%}" for share in (epoch.train_accuracy, epoch.val_accuracy))
        rest = f"{epoch.lr:.4g}", f"{train_s:.2f}", f"{images_per_s:,.0f}"
        cells = f"{epoch.epoch}/{epoch.epochs}", *losses, *shares, *rest
        line = "".join(f"{cell:>{width}}" for cell, width in zip(cells, COLUMNS.values(), strict=True))
        every = -(-epoch.epochs // MOST_ROWS)
        if epoch.epoch % every == 0 or epoch.epoch in (1, epoch.epochs):
            self.say(line)
        else:
            self.log(line)

    def stopping(self, reason: str) -> None:
        self.say(reason)

    def stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def end(self, outcome: Outcome, images: int, weights: Path) -> None:
        self.stop_bar()
        self.say()
        if outcome.status == Status.FINISHED:
            found = f"{outcome.test_accuracy:.2%}"
            note = f"{outcome.test_correct:,} of {images:,}, loss {outcome.test_loss:.4f}"
            self.field("test", f"accuracy {found}", note)
            self.field("speed", f"{outcome.images_per_s:,.0f} images/s", "training alone, without compilation")
        else:
            self.say(f"{outcome.status} after {outcome.step:,} steps: {outcome.reason}", "bold red")
        self.field("weights", str(weights))

    def claims(self, rows: Sequence[ClaimRow]) -> None:
        for row in rows:
            found = "not recorded" if row["value"] is None else f"{row['value']:.6g}"
            style = "green" if row["verdict"] == "held" else "bold red"
            self.say(f"{'claim':<9}{row['metric']} {row['condition']}: {found}, {row['verdict']}", style)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        if not self.console.is_terminal or self.console.quiet:
            yield
            return
        with self.console.status(Text(what, "dim")):
            yield

    def close(self) -> None:
        self.stop_bar()
        with suppress(OSError):
            self._log.close()


def duration(seconds: float) -> str:
    """``2:05 min`` for 125."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d} h"
