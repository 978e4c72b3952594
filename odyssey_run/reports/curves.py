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
from matplotlib.axis import Axis, XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from odyssey_run.reports import style

Points = Sequence[tuple[int, float]]
Series = Mapping[str, Points]
Line = tuple[str, str | None, dict[str, Any]]  # a metric, its name in the legend, how it looks

TRAINING: dict[str, Any] = {"color": style.BLUE, "marker": ".", "markersize": 6}
VALIDATION: dict[str, Any] = {"color": style.VERMILLION, "marker": "o", "markersize": 3}
TEST: dict[str, Any] = {"color": "black", "marker": "*", "markersize": 9, "linestyle": "none"}
THIN: dict[str, Any] = {"color": style.BLUE, "linewidth": 0.8, "alpha": 0.35}
FINER = 4  # times as many points as epochs make a line of their own
COLUMNS = 4  # of a legend
WIDE_RANGE = 30  # between the largest loss of several runs and the smallest, from which the axis is logarithmic
AWAY = 1e4  # times the median: a loss above that would leave nothing of the others to be seen


def epochs(series: Series) -> int:
    """How many have ended."""
    return len(series.get("train/epoch_loss", ()))


def loss(series: Series, label: str) -> Figure | None:
    """Training, validation and test, on an axis with this label; None where there are no two points of training."""
    mean, fine = series.get("train/epoch_loss", ()), series.get("train/loss", ())
    lines: list[Line] = [("val/loss", "validation", VALIDATION), ("test/loss", "test", TEST)]
    if len(mean) > 1:
        lines.insert(0, ("train/epoch_loss", "training, mean of the epoch", TRAINING))
        if len(fine) >= FINER * len(mean):
            lines.insert(0, ("train/loss", None, THIN))
    elif len(fine) > 1:
        lines.insert(0, ("train/loss", "training", {"color": style.BLUE}))
    else:
        return None
    drawn, axes = _drawn(series, "Loss", label, lines)
    scale_loss(axes, math.inf)
    axes.legend()
    return drawn


def accuracy(series: Series) -> Figure | None:
    """Training, validation and test, in percent; None for a run of one epoch."""
    if epochs(series) < 2:
        return None
    others: list[Line] = [("val/accuracy", "validation", VALIDATION), ("test/accuracy", "test", TEST)]
    drawn, axes = _drawn(series, "Accuracy", "accuracy (%)", [("train/accuracy", "training", TRAINING), *others])
    for _, value in series.get("test/accuracy", ())[-1:]:
        axes.axhline(value, color="black", linewidth=0.6, linestyle=":")
    percent(axes.yaxis)
    axes.legend()
    return drawn


def learning_rate(series: Series) -> Figure | None:
    """None where it stays as it is."""
    if len({value for _, value in series.get("train/lr", ())}) < 2:
        return None
    drawn, axes = _drawn(series, "Learning rate", "learning rate", [("train/lr", None, {"color": style.GREEN})], 2.6)
    axes.set_ylim(0, None)
    return drawn


def norms(series: Series, kind: str, title: str) -> Figure | None:
    """Euclidean norms per layer at the end of each epoch, from the metrics ``KIND/LAYER``; None where there are none,
    and for a run of one epoch."""
    names = [name for name in series if name.startswith(f"{kind}/")]
    if not names or epochs(series) < 2:
        return None
    layers = [style.shortened(name.partition("/")[2].removesuffix(".weight")) for name in names]
    most = min(COLUMNS, max(1, int((style.WIDTH - 0.4) / (0.4 + style.length(layers, 8)))))
    rows = -(-len(names) // most)  # of the legend
    columns, below = -(-len(names) // rows), 0.6 + 0.17 * rows
    # More layers than colours that can be told apart are coloured by their depth.
    deep = [mpl.colormaps["viridis"](depth) for depth in np.linspace(0, 0.95, len(names))]
    colours = style.COLOURS if len(names) <= len(style.COLOURS) else deep
    lines: list[Line] = [
        (name, layer, {"color": colours[i], "marker": "osD^v"[i % 5], "markersize": 3})
        for i, (name, layer) in enumerate(zip(names, layers, strict=True))
    ]
    drawn, axes = _drawn(series, title, "L2 norm", lines, 2.6 + below, bottom=below)
    logarithmic(axes.yaxis, (1, 2, 5))
    drawn.legend(loc="lower center", ncols=columns, handlelength=1, columnspacing=1, borderaxespad=0.2)
    return drawn


def _drawn(
    series: Series, title: str, label: str, lines: Sequence[Line], height: float = 3.2, **margins: float
) -> tuple[Figure, Axes]:
    """Lines by epochs with the steps above, or by steps alone: of a run of one epoch, or of none, there is no curve by
    epochs."""
    steps = series["train/epoch_loss"][0][0] if epochs(series) > 1 else None
    drawn = style.figure(height, left=0.75, top=0.62, **margins)
    axes = drawn.subplots()
    for name, said, look in lines:
        plot(axes, series.get(name, ()), steps or 1, label=said, **look)
    axes.set_title(title, y=1, pad=6 if steps is None else 26)
    axes.set(xlabel="optimizer step" if steps is None else "epoch", ylabel=label)
    axes.xaxis.set_major_locator(whole_numbers())
    if steps is not None:
        above = axes.secondary_xaxis("top", functions=(partial(mul, steps), partial(mul, 1 / steps)))
        above.xaxis.set_major_locator(whole_numbers())
        above.tick_params(labelsize=7, length=2, pad=1, colors=style.GREY)
        above.set_xlabel("optimizer step", fontsize=7, color=style.GREY, labelpad=2)
        above.spines["top"].set_color(style.GREY)
    return drawn, axes


def plot(axes: Axes, points: Points, steps: int, **look: Any) -> None:
    """A line of points by epochs of so many steps."""
    if points:
        x, y = zip(*points, strict=True)
        axes.plot([step / steps for step in x], y, **look)


def percent(axis: Axis) -> None:
    axis.set_major_formatter(lambda value, _: f"{100 * value:.4g}")


def scale_loss(axes: Axes, wide: float = WIDE_RANGE) -> None:
    """From zero, or logarithmic where the losses would not be told apart otherwise; one that ran away leaves the
    picture at its top."""
    drawn = [float(y) for line in axes.lines for y in np.asarray(line.get_ydata())]
    values = [value for value in drawn if math.isfinite(value)]
    low, high, top = (min(values), max(values), AWAY * statistics.median(values)) if values else (0, 0, 0)
    if low > 0 and (high > top or high > wide * low):
        logarithmic(axes.yaxis, (1, 2, 5) if min(high, top) < 1000 * low else (1,))
        if high > top:
            axes.set_ylim(low / 2, top)
    else:
        axes.set_ylim(0, None)


def logarithmic(axis: XAxis | YAxis, digits: tuple[int, ...] = (1,)) -> None:
    """A logarithmic axis whose labels begin with these digits, and are plain numbers."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set(major_locator=LogLocator(subs=digits), major_formatter="{x:g}", minor_formatter=NullFormatter())


def whole_numbers() -> MaxNLocator:
    return MaxNLocator(6, integer=True)
