"""Pictures of a sweep: curves over each other, the metric against each parameter, parallel coordinates, seeds."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axis import Axis
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from odyssey_run.config.schema import SweepConfig
from odyssey_run.reports import curves, style
from odyssey_run.reports.curves import Series
from odyssey_run.reports.summary import number
from odyssey_run.runs.recorded import opened
from odyssey_run.sweep import space
from odyssey_run.sweep.results import PointStatus, Row

BARS = 30
LETTER = 0.07  # inches, of a label
SHORT, LONG = 28, 90  # letters of a value, and of a point
BEST, FAILED = len(style.COLOURS), 5  # curves at most, of either
# Where a value stands beside its axis, readable on lines.
BESIDE: dict[str, Any] = {"xytext": (4, 2), "textcoords": "offset points", "fontsize": 8}
BESIDE["bbox"] = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5}


def draw(folder: Path, rows: list[Row], config: SweepConfig) -> Iterator[tuple[Path, str]]:
    """Writes what there is to draw; yields each PNG and its caption."""
    valued = [row for row in rows if row.value is not None and row.status in (PointStatus.FINISHED, PointStatus.PRUNED)]
    failed = [row for row in rows if row.status == PointStatus.FAILED]
    keys = [key for key, _ in rows[0].trial.assignment]
    many = f"The {BEST} best of {len(valued):,} points" if len(valued) > BEST else "All points that finished"
    shown = f"{many}{', and what failed' * bool(failed)}."
    with style.styled():
        drawn = [
            (name.replace("/", "_"), _curves(valued[:BEST], failed[:FAILED], name), shown)
            for name in dict.fromkeys((config.metric, "val/accuracy", "val/loss"))
        ]
        if keys:
            crosses = f"The metric against each value{'; a cross is a run that failed' * bool(failed)}."
            drawn.append(("parameters", _parameters(valued, failed, keys, config), crosses))
        if len(keys) > 1:
            drawn.append(("parallel", _parallel(valued, keys, config), "Each line is a point; the best are bright."))
        if any(row.spread is not None for row in valued):
            drawn.append(("seeds", _seeds(valued, config), "Grey dots are the runs of single seeds."))
        for name, figure, caption in drawn:
            if figure:
                yield style.save(figure, folder / f"{name}.png"), caption


def _shortened(texts: list[str], most: int) -> list[str]:
    """Labels of at most so many letters, their middles left out, and numbered where two would be the same."""
    shown = [style.shortened(text, most) for text in texts]
    return [text if shown.count(text) == 1 else f"{text} #{i}" for i, text in enumerate(shown, 1)]


def _measure(axis: Axis, metric: str) -> None:
    """Names an axis after a metric; an accuracy is read in percent, as everywhere."""
    axis.set_label_text(metric)
    if metric.endswith("accuracy"):
        axis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")


class _Scale:
    """Where the values of a parameter are drawn: numbers at themselves, or evenly in the logarithm; words in a row."""

    def __init__(self, texts: list[str]):
        self.texts = list(dict.fromkeys(map(space.plain, texts)))
        try:
            numbers = sorted(float(text) for text in self.texts)
            self.numeric = all(map(math.isfinite, numbers))
        except ValueError:
            self.numeric = False
        self.log = self.numeric and numbers[0] > 0 and numbers[-1] / numbers[0] >= 20
        if not self.numeric:
            self.texts.sort()

    def at(self, text: str) -> float:
        text = space.plain(text)
        return float(text) if self.numeric else self.texts.index(text)

    def share(self, text: str) -> float:
        change = math.log if self.log else float
        low, high = (change(f(map(self.at, self.texts))) for f in (min, max))
        return 0.5 if low == high else (change(self.at(text)) - low) / (high - low)


def _parameters(rows: list[Row], failed: list[Row], keys: list[str], config: SweepConfig) -> Figure:
    columns = min(3, len(keys))
    lines = -(-len(keys) // columns)
    figure = Figure(figsize=(max(style.WIDTH, 3 * columns), 2.8 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for ax, key in zip(axes.flat, keys, strict=False):
        texts, lost = ([dict(row.trial.assignment)[key] for row in part] for part in (rows, failed))
        scale = _Scale([*texts, *lost])
        for status, colour in ((PointStatus.FINISHED, style.BLUE), (PointStatus.PRUNED, "0.75")):
            chosen = [(scale.at(t), row.height) for t, row in zip(texts, rows, strict=True) if row.status == status]
            ax.scatter(*zip(*chosen, strict=True) if chosen else ([], []), s=22, color=colour, label=status.lower())
        # At the bottom, whatever the values of the others.
        ax.plot([scale.at(t) for t in lost], [0.02] * len(lost), "x", color="black", transform=ax.get_xaxis_transform())
        if scale.log:
            curves.logarithmic(ax.xaxis)
        if not scale.numeric:
            ax.set_xticks(range(len(scale.texts)), _shortened(scale.texts, max(6, SHORT // len(scale.texts))))
        ax.set_xlabel(key)
    for ax in axes.flat[len(keys) :]:
        ax.set_visible(False)
    for line in axes:
        _measure(line[0].yaxis, config.metric)
    if any(row.status == PointStatus.PRUNED for row in rows):
        axes.flat[0].legend()
    return figure


def _parallel(rows: list[Row], keys: list[str], config: SweepConfig) -> Figure:
    figure = Figure(figsize=(1.6 * (len(keys) + 1) + 1, 4), layout="constrained")
    ax = figure.subplots()
    scales = {key: _Scale([dict(row.trial.assignment)[key] for row in rows]) for key in keys}
    values = [row.height for row in rows]
    span = (min(values), max(values))
    norm, colours = Normalize(*span), mpl.colormaps["viridis"]
    for row in reversed(rows):  # the best on top
        own = dict(row.trial.assignment)
        last = 0.5 if span[0] == span[1] else (row.height - span[0]) / (span[1] - span[0])
        heights = [*(scales[key].share(own[key]) for key in keys), last]
        width = 1 if row.status == PointStatus.FINISHED else 0.5
        ax.plot(heights, color=colours(norm(row.height)), alpha=0.85, lw=width)
    for x, key in enumerate(keys):
        ax.axvline(x, color="0.4", lw=0.8)
        shown = sorted(scales[key].texts, key=scales[key].share)
        shown = shown if len(shown) <= 8 else [shown[0], shown[-1]]
        for text, label in zip(shown, _shortened(shown, SHORT), strict=True):
            ax.annotate(label, (x, scales[key].share(text)), **BESIDE)
    ax.axvline(len(keys), color="0.4", lw=0.8)
    for share in (0.0, 0.5, 1.0):
        text = number(config.metric, span[0] + share * (span[1] - span[0]))
        ax.annotate(text, (len(keys), share), **BESIDE)
    ax.set_xticks(range(len(keys) + 1), [*keys, config.metric])
    ax.set_yticks([])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return figure


def _curves(best: list[Row], failed: list[Row], name: str) -> Figure | None:
    """A metric by epochs, of the best points and of those that failed, which are named even without a value; None where
    no run has two values."""
    rows = [*best, *failed]
    labels = _shortened([row.label for row in rows], LONG)
    figure = Figure(figsize=(style.WIDTH, 2.9 + 0.17 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        look: dict[str, Any] = {"color": style.COLOURS[i]} if i < len(best) else {"color": style.GREY, "ls": "--"}
        marker, said = ("o", label) if i < len(best) else ("x", f"{label}: failed")
        for seed, run in enumerate(opened(result.folder) for result in row.results):
            series: Series = run.metrics if run else {}
            points, ends = series.get(name, ()), series.get("train/epoch_loss", ())
            x = [step / ends[0][0] for step, _ in points] if ends else []
            y = [value for _, value in points][: len(x)]
            axes.plot(x, y, marker=marker, ms=3, label=None if seed else said, **look)
    if all(np.asarray(line.get_ydata()).size < 2 for line in axes.lines):
        return None
    if name.endswith("loss"):
        curves.scale_loss(axes)
    _measure(axes.yaxis, name)
    axes.set(xlabel="epoch")
    axes.xaxis.set_major_locator(curves.whole_numbers())
    figure.legend(loc="outside lower left")
    return figure


def _seeds(rows: list[Row], config: SweepConfig) -> Figure:
    shown = [row for row in rows if row.spread is not None][:BARS]
    labels = _shortened([row.label for row in shown], LONG)
    figure = Figure(figsize=(4 + LETTER * max(map(len, labels)), 0.32 * len(shown) + 1.2), layout="constrained")
    ax = figure.subplots()
    places = np.arange(len(shown))[::-1]
    heights, spreads = [row.height for row in shown], [row.spread or 0.0 for row in shown]
    ax.errorbar(heights, places, xerr=spreads, fmt="o", capsize=3, color=style.BLUE)
    for place, row in zip(places, shown, strict=True):
        values = [math.nan if result.value is None else result.value for result in row.results]
        ax.plot(values, [place] * len(values), ".", color="0.6", ms=4)
    ax.set_yticks(places, labels, fontsize=8)
    _measure(ax.xaxis, config.metric)
    ax.set_title(f"Mean ± standard deviation of {len(shown[0].results)} seeds")
    ax.grid(axis="y", visible=False)
    return figure
