"""Images: the most confident errors, what the first layer looks for, samples of a data set."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from odyssey_core.backends import BACKENDS
from odyssey_core.backends.base import Feed
from odyssey_core.classifier import Classifier
from odyssey_core.data import Dataset
from odyssey_core.data.dataset import upright
from odyssey_core.data.pictures import fitted
from odyssey_core.ops.conv import CONV2D
from odyssey_core.tensor import topological
from odyssey_run.reports import style
from odyssey_run.reports.scores import Reading, Scores

COLUMNS, MISTAKES = 5, 25
ACROSS, FILTERS = 6, 24
SAMPLES, MOST_CLASSES = 10, 100
DRAWN = 20  # parts of a picture
TILE = 64  # pixels: larger images are made smaller before they are drawn


def drawable(pixels: np.ndarray, light_on_dark: bool = False) -> np.ndarray:
    """Images (N, C, H, W) uint8 as pictures (N, H, W, 3) uint8, ink dark on white where they are negatives."""
    shown = pixels if pixels.shape[1] == 3 else pixels[:, :1].repeat(3, axis=1)
    return np.moveaxis(255 - shown if light_on_dark else shown, 1, 3)


def mosaic(
    pictures: np.ndarray, columns: int, gap: tuple[int, int], below: int = 0
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Pictures side by side in one array, and the top left corner (x, y) of each.

    One image with text on it is drawn five times as fast as as many axes.

    Args:
        pictures: (N, h, w) float, with nan between them, or (N, h, w, 3) uint8, with white between them.
        columns: of pictures.
        gap: rows and columns of pixels between them.
        below: rows of pixels under the last of them.
    """
    n, h, w, *colours = pictures.shape
    rows = -(-n // columns)
    down, across = h + gap[0], w + gap[1]
    size = (rows * down - gap[0] + below, columns * across - gap[1], *colours)
    whole = np.full(size, 255, np.uint8) if colours else np.full(size, np.nan)
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
    pictures = drawable(scores.pixels[chosen], scores.light_on_dark)
    h, w = pictures.shape[1:3]
    inch = w * (COLUMNS + (COLUMNS - 1) / 4) / (style.WIDTH - 0.2)  # pixels in one
    whole, corners = mosaic(pictures, COLUMNS, (round(0.62 * inch), w // 4), below=round(0.35 * inch))
    drawn = style.figure(0.6 + len(whole) / inch, left=0.1, right=0.1, top=0.55, bottom=0.05)
    axes = drawn.subplots()
    style.image(axes, whole)
    axes.set_title("Most confident errors: truth above, answer below", pad=20)
    for n, (x, y) in zip(chosen, corners, strict=True):
        truth, answer = (style.shortened(names[i], 14) for i in (scores.labels[n], scores.predicted[n]))
        _beside(axes, (x + w / 2, y), (0, 2), truth, ha="center", va="bottom", fontsize=7.5)
        taken = f"{answer}\n{min(99.9, 100 * scores.confidence[n]):.1f}% sure"
        _beside(axes, (x + w / 2, y + h), (0, -2), taken, ha="center", va="top", fontsize=7.5, color=style.VERMILLION)
    return drawn


def _beside(axes: Axes, at: tuple[float, float], points: tuple[float, float], text: str, **look: Any) -> None:
    """Text some points away from a pixel, whatever the size of the images."""
    axes.annotate(text, (at[0] - 0.5, at[1] - 0.5), points, textcoords="offset points", annotation_clip=False, **look)


def first_layer(classifier: Classifier, pixels: np.ndarray) -> Figure | None:
    """What the first layer looks for and, where it is a convolution, how it answers to upright pixels (C, H, W) uint8.

    None where the first weights are no kernels or rows of pixels; scales and shifts before them are passed over.
    """
    weights = ((name, value) for name, value in classifier.parameters.items() if value.ndim in (2, 4))
    name, weight = next(weights, ("", np.empty((0, 0))))
    if weight.ndim == 2 and weight.shape[1] != np.prod(classifier.input_shape):
        return None
    filters = weight[:FILTERS].reshape(-1, *(weight.shape[1:] if weight.ndim == 4 else classifier.input_shape))
    filters = upright(filters, classifier.orientation)
    limit = float(np.abs(filters).max()) or 1.0
    bands: list[tuple[np.ndarray, str, dict[str, Any]]]
    if filters.shape[1] == 3:
        colours = np.rint(127.5 + 127.5 * np.moveaxis(filters, 1, 3) / limit).astype(np.uint8)
        bands = [(colours, f"{name}: each adds the colours that it shows; grey is nothing", {})]
    else:
        look: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        bands = [(filters.mean(axis=1), f"{name}: red adds, blue takes away", look)]
    if weight.ndim == 4:
        answers = upright(responses(classifier, pixels)[:FILTERS], classifier.orientation)
        bands.append((answers, "what each passes on of the image below", {"cmap": "gray_r", "vmin": 0}))
        bands.append((drawable(pixels[None], classifier.preparation.light_on_dark), "the image", {}))
    rows = [-(-len(pictures) // ACROSS) for pictures, *_ in bands]
    drawn = style.figure(0.8 * sum(rows) + 0.35 * len(bands), left=0.1, right=0.1, top=0.3, bottom=0.08, hspace=0.3)
    grid = drawn.subplots(len(bands), 1, squeeze=False, height_ratios=rows)[:, 0]
    for axes, (pictures, title, looks) in zip(grid, bands, strict=True):
        style.image(axes, mosaic(pictures, ACROSS, (1, max(1, pictures.shape[2] // 6)))[0], title, **looks)
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
    return np.asarray(np.maximum(answers.reshape(layer.shape[1:]), 0))


def reading(found: Reading, light_on_dark: bool) -> Figure:
    """A picture with what was found in it marked, and the model's input beside its likeliest answers."""
    shown = found.answers[:DRAWN]
    pictures = drawable(np.stack([answer.seen.image for answer in shown]), light_on_dark)
    return _several(found, pictures) if len(found.answers) > 1 else _one(found, pictures[0])


def _one(found: Reading, picture: np.ndarray) -> Figure:
    names, shares = zip(*found.answers[0].answers[:5], strict=True)
    labels = [style.shortened(name) for name in names]
    widths = (1.75, 1.35, style.length(labels), 1.5)
    drawn = style.figure(2.3, sum(widths) + 0.35, left=0.1, right=0.1, top=0.3, bottom=0.45)
    places = drawn.add_gridspec(1, 4, width_ratios=widths, wspace=0.2 / sum(widths))
    _photograph(drawn.add_subplot(places[0]), found)
    style.image(drawn.add_subplot(places[1]), picture, "model input")
    axes, rows = drawn.add_subplot(places[3]), range(len(labels))[::-1]
    bars = axes.barh(rows, [100 * share for share in shares], color=style.BLUE)
    axes.bar_label(bars, [f"{share:.1%}" for share in shares], padding=2, fontsize=8)
    axes.set_yticks(rows, labels)
    axes.set(xlim=(0, 140), xticks=[0, 50, 100], xlabel="probability (%)")
    axes.grid(axis="y", visible=False)
    return drawn


def _several(found: Reading, pictures: np.ndarray) -> Figure:
    across, rows = style.WIDTH - 0.2, -(-len(pictures) // COLUMNS)
    high, wide = found.looked.rgb.shape[:2]
    tall = min(3.0, across * high / wide)
    drawn = style.figure(tall + 1.35 * rows + 0.75, left=0.1, right=0.1, top=0.3, bottom=0.45, hspace=0.12)
    photograph, axes = drawn.subplots(2, 1, height_ratios=(tall, 1.35 * rows))
    _photograph(photograph, found)
    h, w = pictures.shape[1:3]
    whole, corners = mosaic(pictures, COLUMNS, (h // 2, w // 3), below=h // 2)
    style.image(axes, whole)
    for number, (answer, (x, y)) in enumerate(zip(found.answers, corners, strict=False), 1):
        (name, share), *rest = [(style.shortened(name, 12), share) for name, share in answer.answers[:2]]
        said = f"{number}: {name}  {share:.1%}" + (f"\nor {rest[0][0]}  {rest[0][1]:.1%}" if rest else "")
        axes.text(x + w / 2, y + h + 1, said, ha="center", va="top", fontsize=7.5, color=style.BLUE)
    return drawn


def _photograph(axes: Axes, found: Reading) -> None:
    style.image(axes, found.looked.rgb, style.shortened(found.path.name))
    many = len(found.answers) > 1
    marks = [(c.seen.box, style.BLUE, str(n) if many else "") for n, c in enumerate(found.answers, 1)]
    marks += [(box, style.VERMILLION, "not read") for box, _ in found.looked.left_out]
    for (left, top, right, bottom), colour, label in marks:
        corner = (left - 0.5, top - 0.5)  # a pixel's middle has whole coordinates
        axes.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1))
        axes.text(left, top, label, ha="left", va="bottom", fontsize=7.5, color=colour)


def samples(dataset: Dataset, counts: np.ndarray) -> Figure:
    """The first training images of each class in a row, with the class's name and how many there are."""
    names = [style.shortened(name) for name in dataset.class_names[:MOST_CLASSES]]
    images, labels = dataset.train.pixels, dataset.train.labels
    scale = min(1, TILE / max(images.shape[2:]))
    h, w = (max(1, round(n * scale)) for n in upright(images[:1], dataset.orientation).shape[2:])
    tiles = np.full((len(names), SAMPLES, h, w, 3), 255, np.uint8)
    for label, row in enumerate(tiles):
        found = upright(images[np.flatnonzero(labels == label)[:SAMPLES]], dataset.orientation)
        pictures = map(Image.fromarray, drawable(found, dataset.preparation.light_on_dark))
        row[: len(found)] = [np.asarray(fitted(picture, (h, w), "resize")) for picture in pictures]
    gap = max(1, w // 14)
    whole, corners = mosaic(tiles.reshape(-1, h, w, 3), SAMPLES, (gap, gap))
    left, right, wide = 0.2 + style.length(names), 0.75, 3.6
    high = wide * whole.shape[0] / whole.shape[1]
    drawn = style.figure(0.5 + high, left + wide + right, left=left, right=right, top=0.4, bottom=0.1)
    axes = drawn.subplots()
    style.image(axes, whole, aspect="auto")
    of = "each class" if len(names) == dataset.classes else f"the first {len(names)} of {dataset.classes:,} classes"
    axes.set_title(f"{style.shortened(dataset.name, 40)}: first training images of {of}", x=0.1 - left / wide)
    for (_, y), name, count in zip(corners[::SAMPLES], names, counts[: len(names)], strict=True):
        _beside(axes, (0, y + h / 2), (-6, 0), name, ha="right", va="center", fontweight="bold")
        _beside(axes, (whole.shape[1], y + h / 2), (6, 0), f"{count:,}", va="center", fontsize=8, color=style.GREY)
    return drawn
