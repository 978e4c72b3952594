"""Images: the surest mistakes, what the first layer looks for, samples of a data set."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from odyssey_core.backends import BACKENDS
from odyssey_core.backends.base import Feed
from odyssey_core.classifier import Classifier
from odyssey_core.data import Dataset
from odyssey_core.data.dataset import upright
from odyssey_core.ops.conv import CONV2D
from odyssey_core.tensor import topological
from odyssey_run.plots import style
from odyssey_run.plots.scores import Scores

if TYPE_CHECKING:
    from odyssey_run.tasks.predict import Reading

COLUMNS, MISTAKES = 5, 25
ACROSS, FILTERS = 6, 24
DRAWN = 20  # parts of a picture


def mosaic(pictures: np.ndarray, columns: int, gap: tuple[int, int]) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Pictures (N, h, w) side by side in one array, nan between them, and the top left corner (x, y) of each.

    One image with text on it is drawn five times as fast as as many axes.
    """
    n, h, w = pictures.shape
    rows = -(-n // columns)
    down, across = h + gap[0], w + gap[1]
    whole = np.full((rows * down - gap[0], columns * across - gap[1]), np.nan)
    corners = [(i % columns * across, i // columns * down) for i in range(n)]
    for picture, (x, y) in zip(pictures, corners, strict=True):
        whole[y : y + h, x : x + w] = picture
    return whole, corners


def mistakes(scores: Scores) -> Figure | None:
    """The wrong answers given with most confidence, each with its truth; None where there is none."""
    chosen = scores.mistakes(MISTAKES)
    if not len(chosen):
        return None
    names = scores.class_names
    pictures = scores.pixels[chosen, 0]
    h, w = pictures.shape[1:]
    whole, corners = mosaic(pictures, COLUMNS, (h * 6 // 7, w // 4))
    drawn = style.figure(0.85 + 1.3 * -(-len(chosen) // COLUMNS), left=0.1, right=0.1, top=0.55, bottom=0.4)
    axes = drawn.subplots()
    style.bare(axes)
    axes.imshow(whole, cmap="gray_r", vmin=0, vmax=255)
    axes.set_title("The surest mistakes", pad=20)
    for n, (x, y) in zip(chosen, corners, strict=True):
        truth, answer = style.plain(names[scores.labels[n]]), style.plain(names[scores.predicted[n]])
        axes.text(x + w / 2, y - 1.5, f"is {truth}", ha="center", va="bottom", fontsize=8.5)
        sure = f"read as {answer}\n{min(99.9, 100 * scores.confidence[n]):.1f} % sure"
        axes.text(x + w / 2, y + h + 1, sure, ha="center", va="top", fontsize=7.5, color=style.VERMILLION)
    return drawn


def first_layer(classifier: Classifier, pixels: np.ndarray) -> Figure | None:
    """What the first layer looks for and, where it is a convolution, how it answers to an image.

    Args:
        classifier: of which the first weights are drawn, at most ``FILTERS`` of them.
        pixels: (C, H, W) uint8, upright.
    """
    name, weight = next(iter(classifier.parameters.items()))
    if weight.ndim == 2 and weight.shape[1] != np.prod(classifier.input_shape):
        return None
    filters = weight[:FILTERS].reshape(-1, *(weight.shape[1:] if weight.ndim == 4 else classifier.input_shape))
    filters = upright(filters.mean(axis=1), classifier.orientation)
    limit = float(np.abs(filters).max()) or 1.0
    bands = [(filters, f"{name}: red adds, blue takes away", {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit})]
    if weight.ndim == 4:
        answers = upright(responses(classifier, pixels)[:FILTERS], classifier.orientation)
        bands.append((answers, "what each passes on of the image below", {"cmap": "gray_r", "vmin": 0}))
        bands.append((pixels, "the image", {"cmap": "gray_r", "vmin": 0, "vmax": 255}))
    rows = [-(-len(pictures) // ACROSS) for pictures, *_ in bands]
    drawn = style.figure(0.8 * sum(rows) + 0.35 * len(bands), left=0.1, right=0.1, top=0.3, bottom=0.08, hspace=0.3)
    grid = drawn.subplots(len(bands), 1, squeeze=False, height_ratios=rows)[:, 0]
    for axes, (pictures, title, look) in zip(grid, bands, strict=True):
        style.bare(axes)
        axes.imshow(mosaic(pictures, ACROSS, (1, max(1, pictures.shape[2] // 6)))[0], **look)
        axes.set_title(title, fontsize=9, fontweight="normal")
    return drawn


def responses(classifier: Classifier, pixels: np.ndarray) -> np.ndarray:
    """(filters, h, w) what the first convolution makes of an upright image (C, H, W) uint8, as it is stored.

    Negative values are cut off.
    """
    layer = next(x for x in topological([classifier.logits]) if x.op is CONV2D)
    executable = BACKENDS["numpy"]().compile([layer], classifier.module.state())
    executable.write(classifier.parameters)
    order = np.full((1, layer.shape[0]), -1, np.int64)
    order[0, 0] = 0
    stored = upright(pixels, classifier.orientation).reshape(1, -1)
    answers = executable.run(Feed(order=order, pixels=stored))[0, 0]
    return np.maximum(answers.reshape(layer.shape[1:]), 0)


def reading(found: "Reading") -> Figure:
    """A picture with what was found in it marked, and what the net saw of it beside its likeliest answers."""
    shown, many = found.answers[:DRAWN], len(found.answers) > 1
    h, w = found.looked.rgb.shape[:2]
    across = style.WIDTH - 0.2
    tall = min(3.0, across * h / w) if many else 1.55
    rows = -(-len(shown) // COLUMNS) if many else 0
    drawn = style.figure(tall + 1.35 * rows + 0.75, left=0.1, right=0.1, top=0.3, bottom=0.45, hspace=0.12)
    bands = drawn.add_gridspec(2 if many else 1, 1, height_ratios=(tall, 1.35 * rows) if many else None)
    top = bands[0].subgridspec(1, 1 if many else 3, width_ratios=None if many else (1.3, 1, 1.3), wspace=0.25)
    _photograph(drawn.add_subplot(top[0]), found)
    if not many:
        seen = drawn.add_subplot(top[1])
        style.bare(seen)
        seen.imshow(shown[0].seen.image[0], cmap="gray_r", vmin=0, vmax=255)
        seen.set_title("what the net saw", fontsize=9, fontweight="normal")
        _bars(drawn.add_subplot(top[2]), shown[0].answers[:5])
        return drawn
    axes = drawn.add_subplot(bands[1])
    style.bare(axes)
    pictures = np.stack([answer.seen.image[0] for answer in shown])
    h, w = pictures.shape[1:]
    whole, corners = mosaic(pictures, COLUMNS, (h // 2, w // 3))
    axes.imshow(np.pad(whole, ((0, h // 2), (0, 0)), constant_values=np.nan), cmap="gray_r", vmin=0, vmax=255)
    for number, (answer, (x, y)) in enumerate(zip(shown, corners, strict=True), 1):
        (name, share), *rest = [(style.plain(name), share) for name, share in answer.answers[:2]]
        said = f"{number}: {name}  {share:.1%}" + (f"\nor {rest[0][0]}  {rest[0][1]:.1%}" if rest else "")
        axes.text(x + w / 2, y + h + 1, said, ha="center", va="top", fontsize=7.5, color=style.BLUE)
    return drawn


def _photograph(axes: Axes, found: "Reading") -> None:
    style.bare(axes)
    axes.imshow(found.looked.rgb)
    many = len(found.answers) > 1
    marks = [(c.seen.box, style.BLUE, str(n) if many else "") for n, c in enumerate(found.answers, 1)]
    marks += [(box, style.VERMILLION, "not read") for box, _ in found.left_out]
    for (left, top, right, bottom), colour, label in marks:
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1))
        axes.text(left, top, label, ha="left", va="bottom", fontsize=7.5, color=colour)
    name = os.fsencode(found.path.name).decode(errors="replace")  # it may hold bytes that are no text
    axes.set_title(style.plain(_shortened(name)), fontsize=9, fontweight="normal")


def _shortened(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:14]}…{name[-9:]}"


def _bars(axes: Axes, answers: Sequence[tuple[str, float]]) -> None:
    names, shares = zip(*answers, strict=True)
    rows = range(len(names))[::-1]
    axes.barh(rows, [100 * share for share in shares], color=style.BLUE)
    axes.set_yticks(rows, map(style.plain, names))
    for row, share in zip(rows, shares, strict=True):
        axes.text(100 * share + 1, row, f"{share:.1%}", va="center", fontsize=8)
    axes.set(xlim=(0, 140), xticks=[0, 50, 100], xlabel="probability (%)")
    axes.grid(axis="y", visible=False)


def samples(dataset: Dataset, counts: np.ndarray) -> Figure:
    """The first training images of each class in a row, with the class's name and how many there are."""
    pixels = upright(dataset.train.pixels[:, 0], dataset.orientation)
    h, w = pixels.shape[1:]
    shown = 10
    rows = np.zeros((dataset.classes, shown, h, w), np.uint8)
    for label in range(dataset.classes):
        found = np.flatnonzero(dataset.train.labels == label)[:shown]
        rows[label, : len(found)] = pixels[found]
    drawn = style.figure(0.5 + 0.36 * dataset.classes, left=0.45, right=0.75, top=0.4, bottom=0.1)
    axes = drawn.subplots()
    style.bare(axes)
    whole, corners = mosaic(rows.reshape(-1, h, w), shown, (2, 2))
    axes.imshow(whole, cmap="gray_r", vmin=0, vmax=255, aspect="auto")
    axes.set_title(f"{dataset.name}: first training images of each class")
    for (_, y), name, count in zip(corners[::shown], dataset.class_names, counts, strict=True):
        axes.text(-10, y + h / 2, style.plain(name), ha="right", va="center", fontweight="bold")
        axes.text(whole.shape[1] + 8, y + h / 2, f"{count:,}", va="center", fontsize=8, color=style.GREY)
    return drawn
