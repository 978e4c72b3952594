"""Runs beside each other: what differs between them, what came of it, and their curves over each other."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from odyssey_run.reports import curves as of_run
from odyssey_run.reports import style, summary, tables
from odyssey_run.reports.page import filled
from odyssey_run.reports.summary import number
from odyssey_run.runs.provenance import COMMIT, NO_RESULT, flatten
from odyssey_run.runs.recorded import RecordedRun
from odyssey_run.tracking.names import Tag

ABSENT = "–"
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)))  # of runs that have the same colour
LETTERS, TOGETHER = 12, 100  # of a digest; and of a line on the terminal, from which runs are rows
THIN: dict[str, Any] = {"linewidth": 0.8, "alpha": 0.6, "marker": "."}  # lines of training
MARKED: dict[str, Any] = {"marker": "o", "markersize": 3}  # and of validation
LINES = {"train/epoch_loss": THIN, "val/loss": MARKED, "train/accuracy": THIN, "val/accuracy": MARKED}
COLUMNS = 4  # runs beside each other on the page; more are below each other
# What the names of a part's tags begin with.
PARTS: dict[str, tuple[str, ...]] = {
    "code": (Tag.CODE_DIGEST, "odyssey.plugin.", COMMIT, Tag.DIRTY),
    "data": ("odyssey.data.",),
    "environment": (Tag.BACKEND, "odyssey.machine", "odyssey.cpu", "odyssey.python", "odyssey.version."),
}
SCORES = ("test/accuracy", "val/accuracy", "train/accuracy", "test/loss", "val/loss", "train/epoch_loss")
Runs = Sequence[RecordedRun]
Rows = dict[str, list[str]]  # what each run has, by what it is


def labels(runs: Runs) -> list[str]:
    """The name of each run, or its folder where two have the same."""
    names = [run.name for run in runs]
    whole = [f"{run.folder.parent.name}/{run.folder.name}" if run.folder else run.name for run in runs]
    return [name if names.count(name) == 1 else longer for name, longer in zip(names, whole, strict=True)]


def different(runs: Runs) -> dict[str, Rows]:
    """What is not the same in all runs, by part: configuration, code, data and environment."""
    config = [flatten({k: v for k, v in run.config.items() if k not in NO_RESULT}) for run in runs]
    found = {"configuration": _rows(config)}
    for part, begins in PARTS.items():
        found[part] = _rows([dict(_tags(run, begins)) for run in runs])
    return {part: {key: row for key, row in rows.items() if not _equal(row)} for part, rows in found.items()}


def _tags(run: RecordedRun, begins: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Those whose names begin so, under what of the names tells them apart; digests are shortened."""
    for name, value in run.tags.items():
        if name.startswith(begins):
            short = name.removeprefix("odyssey.").removeprefix("version.").removeprefix("mlflow.source.git.")
            yield short, value[:LETTERS] if name == COMMIT or name.endswith(".sha256") else value


def _equal(values: Sequence[str]) -> bool:
    if {*values} <= {ABSENT, "null"}:  # a key that is not set, and one that there is not
        return True
    with suppress(ValueError):
        numbers = {float(value) for value in values}  # 0 and 0.0
        if all(map(math.isfinite, numbers)):  # 1234567e8901 is a digest
            return len(numbers) == 1
    return len({*values}) == 1


def results(runs: Runs) -> Rows:
    return _rows([_results(run) for run in runs])


def _rows(facts: Sequence[Mapping[str, str]]) -> Rows:
    keys = list[str]()
    for each in facts:
        at = 0
        for key in each:  # one that the runs before do not have stands behind that which it follows here
            if key not in keys:
                keys.insert(at, key)
            at = keys.index(key) + 1
    return {key: [each.get(key, ABSENT) for each in facts] for key in keys}


def _results(run: RecordedRun) -> dict[str, str]:
    metrics, last = run.metrics, run.last
    found = {"status": run.status or "unfinished"} | {name: number(name, last[name]) for name in SCORES if name in last}
    if points := metrics.get("val/accuracy"):
        found["best val/accuracy"] = f"{max(value for _, value in points):.2%}"
    found["epochs"] = f"{of_run.epochs(metrics):,}"
    found["optimizer steps"] = f"{max((points[-1][0] for points in metrics.values()), default=0):,}"
    if took := summary.speed(last):
        found["training"] = took
    if weights := run.tags.get(Tag.WEIGHTS_DIGEST):
        found["weights SHA-256"] = weights[:LETTERS]
    return found


def _cells(names: Sequence[str], rows: Rows, transposed: bool = False) -> list[list[str]]:
    """A table with a column for each run, or with a row for each."""
    cells = [list(names), *([key, *values] for key, values in rows.items())]
    return [list(column) for column in zip(*cells, strict=True)] if transposed else cells


def text(runs: Runs) -> str:
    lines = []
    for part, rows in {**different(runs), "what came of it": results(runs)}.items():
        if not rows:
            lines.append(f"{part}: the same in all")
            continue
        names, left = [part, *labels(runs)], range(len(rows) + len(runs) + 1)
        shown = tables.columns(_cells(names, rows), left)
        if len(shown[0]) > TOGETHER:
            shown = tables.columns(_cells(names, rows, transposed=True), left)
        lines += ["", *map(str.rstrip, shown)]
    return "\n".join(lines).lstrip("\n")


def curves(runs: Runs) -> Figure:
    """Loss above accuracy by epochs: a colour for each run, validation as lines and training as thin ones."""
    shown = [style.shortened(name, 60) for name in labels(runs)]
    below = 0.65 + 0.17 * (len(runs) + 1)  # the legend
    drawn = style.figure(5.4 + below, left=0.7, bottom=below, hspace=0.25)
    loss, accuracy = drawn.subplots(2, 1, sharex=True)
    looks = [{"color": colour, "linestyle": dash} for dash in DASHES for colour in style.COLOURS][: len(runs)]
    for run, look in zip(runs, looks, strict=True):
        ends = run.metrics.get("train/epoch_loss", ())
        for name, own in LINES.items():
            axes = accuracy if name.endswith("accuracy") else loss
            of_run.plot(axes, run.metrics.get(name, ()), ends[0][0] if ends else 1, **look, **own)
    loss.set(title="Loss", ylabel="loss")
    of_run.scale_loss(loss)
    accuracy.set(title="Accuracy", ylabel="accuracy (%)", xlabel="epoch")
    of_run.percent(accuracy.yaxis)
    accuracy.xaxis.set_major_locator(of_run.whole_numbers())
    lines = [*(Line2D([], [], **look) for look in looks), Line2D([], [], color=style.GREY, linewidth=0.8, marker=".")]
    drawn.legend(lines, [*shown, "thin: training"], loc="lower left", borderaxespad=0.3)
    return drawn


def page(runs: Runs, drawn: Path) -> str:
    """The same as a page, with the picture inside that `curves` made."""
    names, parts = labels(runs), different(runs)
    many = len(runs) > COLUMNS  # runs are columns, or rows where they are many
    return filled(
        "comparison.html",
        title=" and ".join(names) if len(names) == 2 else f"{len(names)} runs compared",
        same=[part for part, rows in parts.items() if not rows],
        beside=not many,
        drawn=drawn,
        results=_cells(["", *names], results(runs), many),
        different={part: _cells(["", *names], rows, many) for part, rows in parts.items() if rows},
        commands=[(name, run.tags.get(Tag.COMMAND, "")) for name, run in zip(names, runs, strict=True)],
    )
