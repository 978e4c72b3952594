"""Which class is taken for which, and how well each is known."""

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from odyssey_run.reports import style
from odyssey_run.reports.scores import per_class

WORTH_A_NUMBER, ROOM = 0.10, 12  # share of a class from which a cell says it; from 1 % on where classes are this few


def matrix(confusion: np.ndarray, names: tuple[str, ...]) -> Figure:
    """Each row in shares of its class; the square root as colour scale, so that 1 % can be seen."""
    classes, labels = len(names), [style.shortened(name) for name in names]
    large = classes > 20  # names on all four sides, in small letters
    size = 7 if large else 9
    length = style.length(labels, size)
    down = length if length > 0.3 else 0.1  # of the names of the columns: written upright where they are long
    left, right, above, below = 0.4 + length, 0.15 + large * length, 0.35 + large * (0.05 + down), 0.83 + down
    side = max(style.WIDTH - left - right, 0.15 * classes)
    drawn = style.figure(side + above + below, side + left + right, left=left, right=right, top=above, bottom=below)
    axes = drawn.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    axes.set(title="Which class is taken for which", xlabel="predicted class", ylabel="true class")
    axes.set_xticks(range(classes), labels, fontsize=size, rotation=90 if down == length else 0)
    axes.set_yticks(range(classes), labels, fontsize=size)
    axes.tick_params(length=0, labeltop=large, labelright=large, pad=2)
    axes.grid(False)
    edges = np.arange(0.5, classes - 1)
    axes.hlines(edges, -0.5, classes - 0.5, color="#d1d5db", linewidth=0.3)
    axes.vlines(edges, -0.5, classes - 0.5, color="#d1d5db", linewidth=0.3)
    least = 0.01 if classes <= ROOM else WORTH_A_NUMBER
    for row, column in zip(*np.nonzero(shares >= least), strict=True):
        share = shares[row, column]
        colour = "white" if share > 0.35 else "black"
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=size - 2, color=colour)
    wide, high = drawn.get_size_inches()
    place = drawn.add_axes((1 - (right + 1.4) / wide, 0.44 / high, 1.4 / wide, 0.06 / high))
    bar = drawn.colorbar(image, cax=place, orientation="horizontal", ticks=[0, 0.01, 0.1, 0.25, 0.5, 1])
    bar.ax.set_xticklabels(["0", "1", "10", "25", "50", "100"], fontsize=8)
    bar.set_label("share of the true class (%)", fontsize=8)
    bar.outline.set_visible(False)
    return drawn


def classes(confusion: np.ndarray, names: tuple[str, ...]) -> Figure:
    """F1 of each class as a bar, the worst on top, with precision and recall as marks."""
    values = per_class(confusion)
    unknown = np.isnan(values["f1"])
    order = np.argsort(np.where(unknown, np.inf, values["f1"]), kind="stable")[::-1]
    rows = np.arange(len(names))
    labels = [style.shortened(name) for name in names]
    drawn = style.figure(1.1 + 0.15 * len(names), left=0.25 + style.length(labels, 8), bottom=0.75)
    axes = drawn.subplots()
    axes.barh(rows, 100 * values["f1"][order], color="#bfd9ea", label="F1", height=0.75)
    axes.plot(100 * values["precision"][order], rows, "o", color=style.VERMILLION, markersize=3.5, label="precision")
    axes.plot(100 * values["recall"][order], rows, "D", color=style.BLUE, markersize=3.5, label="recall")
    for row in rows[unknown[order]]:
        axes.text(1, row, "no test images", va="center", fontsize=7, color=style.GREY)
    axes.set_yticks(rows, [labels[i] for i in order], fontsize=8)
    axes.set(title="How well each class is known", xlabel="%", ylim=(-0.7, len(names) - 0.3), xlim=(0, 100))
    axes.grid(axis="y", visible=False)
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 0.005), bbox_transform=drawn.transFigure)
    return drawn
