"""Plots of a sweep: parallel coordinates, the metric against each parameter, learning curves, means over seeds."""

import math
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from odyssey_run.config.schema import SweepConfig
from odyssey_run.reports import style
from odyssey_run.sweep import space
from odyssey_run.sweep.ranking import Row

BARS = 30
LETTER = 0.07  # inches, of a label
SHORT, LONG = 28, 90  # letters of a value, and of a point


def draw(folder: Path, rows: list[Row], config: SweepConfig) -> Iterator[Path]:
    """Writes what there is to draw as PNG; yields the path of each.

    Args:
        folder: for the files.
        rows: the best first.
        config: for the metric.
    """
    valued = [row for row in rows if row.value is not None and row.status in ("FINISHED", "PRUNED")]
    keys = [key for key, _ in rows[0].unit.assignment]
    with style.styled():
        figures = {"curves": _curves(valued, config)}
        if keys:
            figures["parameters"] = _parameters(valued, keys, config)
        if len(keys) > 1:
            figures["parallel"] = _parallel(valued, keys, config)
        if any(row.spread is not None for row in valued):
            figures["seeds"] = _seeds(valued, config)
        for name, figure in figures.items():
            yield style.save(figure, folder / f"{name}.png")


def _shortened(texts: list[str], most: int) -> list[str]:
    """Labels of at most so many letters, their middles left out, and numbered where two would be the same."""
    half = most // 2 - 1
    shown = [text if len(text) <= most else f"{text[:half]}…{text[-half:]}" for text in texts]
    return [text if shown.count(text) == 1 else f"{text} #{i}" for i, text in enumerate(shown, 1)]


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


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
        """In the units of the axis."""
        text = space.plain(text)
        return float(text) if self.numeric else self.texts.index(text)

    def share(self, text: str) -> float:
        """From 0 for the lowest to 1 for the highest."""
        change = math.log if self.log else float
        low, high = (change(f(map(self.at, self.texts))) for f in (min, max))
        return 0.5 if low == high else (change(self.at(text)) - low) / (high - low)


def _parameters(rows: list[Row], keys: list[str], config: SweepConfig) -> Figure:
    columns = min(3, len(keys))
    lines = -(-len(keys) // columns)
    figure = _figure(max(style.WIDTH, 3 * columns), 2.8 * lines)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for ax, key in zip(axes.flat, keys, strict=False):
        texts = [dict(row.unit.assignment)[key] for row in rows]
        scale = _Scale(texts)
        for status, colour in (("FINISHED", style.BLUE), ("PRUNED", "0.75")):
            chosen = [(scale.at(t), row.value) for t, row in zip(texts, rows, strict=True) if row.status == status]
            ax.scatter(*zip(*chosen, strict=True) if chosen else ([], []), s=22, color=colour, label=status.lower())
        if scale.log:
            ax.set_xscale("log")
        if not scale.numeric:
            ax.set_xticks(range(len(scale.texts)), _shortened(scale.texts, max(6, SHORT // len(scale.texts))))
        ax.set_xlabel(key)
    for ax in axes.flat[len(keys) :]:
        ax.set_visible(False)
    for line in axes:
        line[0].set_ylabel(config.metric)
    if any(row.status == "PRUNED" for row in rows):
        axes.flat[0].legend()
    return figure


def _parallel(rows: list[Row], keys: list[str], config: SweepConfig) -> Figure:
    figure = _figure(1.6 * (len(keys) + 1) + 1, 4)
    ax = figure.subplots()
    scales = {key: _Scale([dict(row.unit.assignment)[key] for row in rows]) for key in keys}
    values = [row.value for row in rows]
    span = (min(values), max(values))
    norm, colours = Normalize(*span), mpl.colormaps["viridis"]
    for row in reversed(rows):  # the best on top
        own = dict(row.unit.assignment)
        last = 0.5 if span[0] == span[1] else (row.value - span[0]) / (span[1] - span[0])
        heights = [*(scales[key].share(own[key]) for key in keys), last]
        ax.plot(heights, color=colours(norm(row.value)), alpha=0.85, lw=1 if row.status == "FINISHED" else 0.5)
    for x, key in enumerate(keys):
        ax.axvline(x, color="0.4", lw=0.8)
        shown = sorted(scales[key].texts, key=scales[key].share)
        shown = shown if len(shown) <= 8 else [shown[0], shown[-1]]
        for text, label in zip(shown, _shortened(shown, SHORT), strict=True):
            ax.annotate(label, (x, scales[key].share(text)), xytext=(4, 2), textcoords="offset points", fontsize=8)
    ax.axvline(len(keys), color="0.4", lw=0.8)
    for share in (0.0, 0.5, 1.0):
        text = f"{span[0] + share * (span[1] - span[0]):.4g}"
        ax.annotate(text, (len(keys), share), xytext=(4, 2), textcoords="offset points", fontsize=8)
    ax.set_xticks(range(len(keys) + 1), [*keys, config.metric])
    ax.set_yticks([])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return figure


def _curves(rows: list[Row], config: SweepConfig) -> Figure:
    rows = rows[: len(style.COLOURS)]
    labels = _shortened([row.label for row in rows], LONG)
    figure = _figure(max(6, 1 + LETTER * max(map(len, labels), default=0)), 5)
    ax = figure.subplots()
    for colour, row, name in zip(style.COLOURS, rows, labels, strict=False):
        for seed, result in enumerate(row.results):
            if result.curve:
                label = name if seed == 0 else None
                look = "o-" if len(result.curve) == 1 else "-"
                ax.plot(*zip(*result.curve, strict=True), look, color=colour, ms=4, label=label)
    ax.set_xlabel("optimizer step")
    ax.set_ylabel(config.metric)
    figure.legend(loc="outside lower left")
    return figure


def _seeds(rows: list[Row], config: SweepConfig) -> Figure:
    shown = [row for row in rows if row.spread is not None][:BARS]
    labels = _shortened([row.label for row in shown], LONG)
    figure = _figure(4 + LETTER * max(map(len, labels)), 0.32 * len(shown) + 1.2)
    ax = figure.subplots()
    places = np.arange(len(shown))[::-1]
    ax.errorbar(
        [row.value for row in shown], places, xerr=[row.spread for row in shown], fmt="o", capsize=3, color=style.BLUE
    )
    for place, row in zip(places, shown, strict=True):
        ax.plot([result.value for result in row.results], [place] * len(row.results), ".", color="0.6", ms=4)
    ax.set_yticks(places, labels, fontsize=8)
    ax.set_xlabel(f"{config.metric}, mean ± standard deviation of {len(shown[0].results)} seeds")
    ax.grid(axis="y", visible=False)
    return figure
