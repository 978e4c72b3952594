"""What happened over the epochs: loss, accuracy and learning rate; norms of weights and gradients."""

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from operator import mul
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from odyssey_run.reports import style

Points = Sequence[tuple[int, float]]
Series = Mapping[str, Points]

TRAINING: tuple[str, dict[str, Any]] = style.BLUE, {"marker": ".", "markersize": 6}
VALIDATION: tuple[str, dict[str, Any]] = style.VERMILLION, {"marker": "o", "markersize": 3}
FINER = 4  # times as many points as epochs make a line of their own
COLUMNS = 4  # of a legend
WIDE_RANGE = 30  # between the largest loss of several runs and the smallest, from which the axis is logarithmic
AWAY = 1e4  # times the median: a loss above that would leave nothing of the others to be seen


def epochs(series: Series) -> int:
    """How many have ended."""
    return len(series.get("train/epoch_loss", ()))


def per_epoch(series: Series) -> int | None:
    """Optimizer steps in an epoch; None for a run of one epoch or none, of which there is no curve by epochs."""
    return series["train/epoch_loss"][0][0] if epochs(series) > 1 else None


def loss(series: Series, label: str) -> Figure | None:
    """Training, validation and test, on an axis with this label; None where there are no two points of training."""
    steps, mean, fine = per_epoch(series), series.get("train/epoch_loss", ()), series.get("train/loss", ())
    if len(mean if steps else fine) < 2:
        return None
    drawn = style.figure(3.2, top=0.62)
    axes = drawn.subplots()
    if steps is None:
        _line(axes, fine, 1, "training", style.BLUE)
    else:
        if len(fine) >= FINER * len(mean):
            _line(axes, fine, steps, None, style.BLUE, alpha=0.35, linewidth=0.8)
        _line(axes, mean, steps, "training, mean of the epoch", TRAINING[0], **TRAINING[1])
    _line(axes, series.get("val/loss", ()), steps or 1, "validation", VALIDATION[0], **VALIDATION[1])
    _test(axes, series.get("test/loss", ()), steps or 1)
    axes.set(ylabel=label)
    scale_loss(axes, math.inf)
    _finish(axes, "Loss", steps)
    return drawn


def accuracy(series: Series) -> Figure | None:
    """Training, validation and test, in percent; None for a run of one epoch."""
    if (steps := per_epoch(series)) is None:
        return None
    drawn = style.figure(3.2, top=0.62)
    axes = drawn.subplots()
    for name, label, (colour, look) in (("train", "training", TRAINING), ("val", "validation", VALIDATION)):
        _line(axes, _percent(series.get(f"{name}/accuracy", ())), steps, label, colour, **look)
    test = _percent(series.get("test/accuracy", ()))
    _test(axes, test, steps)
    for _, value in test[-1:]:
        axes.axhline(value, color="black", linewidth=0.6, linestyle=":")
    axes.set(ylabel="accuracy (%)")
    _finish(axes, "Accuracy", steps)
    return drawn


def learning_rate(series: Series) -> Figure | None:
    """None where it stays as it is."""
    points, steps = series.get("train/lr", ()), per_epoch(series)
    if len({value for _, value in points}) < 2:
        return None
    drawn = style.figure(2.6, left=0.75, top=0.62)
    axes = drawn.subplots()
    _line(axes, points, steps or 1, None, style.GREEN)
    axes.set(ylabel="learning rate", ylim=(0, None))
    _finish(axes, "Learning rate", steps)
    return drawn


def norms(series: Series, kind: str, title: str) -> Figure | None:
    """Euclidean norms per layer at the end of each epoch, from the metrics ``KIND/LAYER``; None where there are none,
    and for a run of one epoch."""
    names, steps = [name for name in series if name.startswith(f"{kind}/")], per_epoch(series)
    if not names or steps is None:
        return None
    layers = [style.plain(style.shortened(name.partition("/")[2].removesuffix(".weight"))) for name in names]
    most = min(COLUMNS, max(1, int((style.WIDTH - 0.4) / (0.4 + style.length(layers, 8)))))
    lines = -(-len(names) // most)  # of the legend
    columns, below = -(-len(names) // lines), 0.6 + 0.17 * lines
    drawn = style.figure(2.6 + below, left=0.75, top=0.62, bottom=below)
    axes = drawn.subplots()
    # More layers than colours that can be told apart are coloured by their depth.
    deep = mpl.colormaps["viridis"]
    for i, (name, layer) in enumerate(zip(names, layers, strict=True)):
        colour = style.COLOURS[i] if len(names) <= len(style.COLOURS) else deep(0.95 * i / (len(names) - 1))
        _line(axes, series[name], steps, layer, colour, marker="osD^v"[i % 5], markersize=3)
    axes.set(ylabel="L2 norm")
    _logarithmic(axes, (1, 2, 5))
    _finish(axes, title, steps, legend=False)
    drawn.legend(loc="lower center", ncols=columns, handlelength=1, columnspacing=1, borderaxespad=0.2)
    return drawn


def _percent(points: Points) -> Points:
    return [(step, 100 * value) for step, value in points]


def _line(axes: Axes, points: Points, steps: int, label: str | None, colour: Any, **look: Any) -> None:
    if points:
        x, y = zip(*points, strict=True)
        axes.plot([step / steps for step in x], y, label=label, color=colour, **look)


def _test(axes: Axes, points: Points, steps: int) -> None:
    _line(axes, points, steps, "test", "black", marker="*", markersize=9, linestyle="none")


def _finish(axes: Axes, title: str, steps: int | None, legend: bool = True) -> None:
    """The axis of epochs with that of steps above it, or of steps alone; the title; the legend where it is due."""
    axes.set_title(title, y=1, pad=6 if steps is None else 26)
    axes.set(xlabel="optimizer step" if steps is None else "epoch")
    axes.xaxis.set_major_locator(whole_numbers())
    if steps is not None:
        above = axes.secondary_xaxis("top", functions=(partial(mul, steps), partial(mul, 1 / steps)))
        above.xaxis.set_major_locator(whole_numbers())
        above.tick_params(labelsize=7, length=2, pad=1, colors=style.GREY)
        above.set_xlabel("optimizer step", fontsize=7, color=style.GREY, labelpad=2)
        above.spines["top"].set_color(style.GREY)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend()


def scale_loss(axes: Axes, wide: float = WIDE_RANGE) -> None:
    """From zero, or logarithmic where the losses would not be told apart otherwise; one that ran away leaves the
    picture at its top."""
    drawn = [float(y) for line in axes.lines for y in np.asarray(line.get_ydata())]
    values = [value for value in drawn if math.isfinite(value)]
    low, high, top = (min(values), max(values), AWAY * statistics.median(values)) if values else (0, 0, 0)
    if low > 0 and (high > top or high > wide * low):
        _logarithmic(axes, (1, 2, 5) if min(high, top) < 1000 * low else (1,))
        if high > top:
            axes.set_ylim(low / 2, top)
    else:
        axes.set_ylim(0, None)


def _logarithmic(axes: Axes, digits: tuple[int, ...]) -> None:
    """A logarithmic axis whose labels begin with these digits, and are plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set(major_locator=LogLocator(subs=digits), major_formatter="{x:g}", minor_formatter=NullFormatter())


def whole_numbers() -> MaxNLocator:
    return MaxNLocator(6, integer=True)
