"""The graph of a model: the longest way through it from top to bottom, what goes around a part of it at its right."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from odyssey_core.ops.leaves import IMAGES, PARAMETER
from odyssey_run.reports import style

TOP, ROW, HEIGHT = 0.5, 0.47, 0.33  # inches: of the first box's middle, from one to the next, and of a box
BOX, GAP, MARGIN = 2.45, 0.4, 0.3  # inches: width of a box, between columns, beside everything
ROUND = 0.08  # inches: of a corner


@dataclass(eq=False)
class Box:
    """Operations that are drawn as one."""

    # Rows of `tasks.show.layers`; all but the first keep the shape and have no weights but one a channel.
    layers: list[Any]
    sources: list["Box | None"]  # the boxes whose results it takes; None for the images
    readers: list["Box"] = field(default_factory=list)  # that take its result
    column: int = 0  # 0 for the longest way through the model; 1, 2, ... for what lies beside it
    y: float = 0.0  # of its middle, inches from the top

    @property
    def bottom(self) -> float:
        return self.y + HEIGHT / 2

    @property
    def x(self) -> float:
        return MARGIN + BOX / 2 + self.column * (BOX + GAP)


@dataclass
class Way:
    """What lies beside the longest way between two boxes: other boxes one after the other, or nothing but a line."""

    source: Box | None
    boxes: list[Box]
    target: Box
    x: float = field(init=False, default=0.0)


def graph(layers: Sequence[Any], input_shape: tuple[int, int, int]) -> Figure:
    boxes = _boxes(layers)
    main = _longest(boxes)
    for i, box in enumerate(main):
        box.y = TOP + ROW * i
    ways = list(_ways(boxes, main))
    _place(ways)
    right = max([MARGIN + BOX, *(way.x + (BOX / 2 if way.boxes else 0) for way in ways)])
    width, height = right + MARGIN, main[-1].y + ROW - 0.12
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    _frames(axes, boxes, ways)
    images = f"images  {'×'.join(map(str, input_shape))}"
    axes.text(main[0].x, 0.15, images, ha="center", va="center", color=style.GREY)
    for before, box in zip([None, *main], main, strict=False):
        _line(axes, [(box.x, _out(before)), (box.x, box.y - HEIGHT / 2)])
    for way in ways:
        _draw_way(axes, way)
    for box in boxes:
        _draw(axes, box)
    return figure


def _boxes(layers: Sequence[Any]) -> list[Box]:
    """One for each layer; what keeps the shape and has no weights of its own joins the one whose only reader it is."""
    readers = Counter(x for layer in layers for x in layer.node.inputs)
    boxes: list[Box] = []
    made: dict[Any, Box] = {}
    for layer in layers:
        inputs = [x for x in layer.node.inputs if x in made or x.op is IMAGES]
        before = made.get(inputs[0])
        alone = len(inputs) == 1 and readers[inputs[0]] == 1
        if before and alone and not _weights(layer.node) and layer.node.shape == inputs[0].shape:
            before.layers.append(layer)
        else:
            before = Box([layer], [made.get(x) for x in inputs])
            boxes.append(before)
            for source in filter(None, before.sources):
                source.readers.append(before)
        made[layer.node] = before
    return boxes


def _longest(boxes: Sequence[Box]) -> list[Box]:
    ways: dict[Box | None, list[Box]] = {None: []}
    for box in boxes:
        ways[box] = [*max((ways[source] for source in box.sources), key=len), box]
    return ways[boxes[-1]]


def _ways(boxes: Sequence[Box], main: Sequence[Box]) -> Iterator[Way]:
    """Everything beside the longest way, each up to where it meets a box that has several sources or readers."""
    before = dict(zip(main, [None, *main], strict=False))
    single = {box: len(box.readers) == len(box.sources) == 1 for box in boxes}
    for target in boxes:
        if target not in before and single[target]:
            continue  # inside a chain
        for source in dict.fromkeys(target.sources):
            if target in before and before[target] is source:
                continue
            chain: list[Box] = []
            while source is not None and source not in before and single[source]:
                chain.insert(0, source)
                source = source.sources[0]
            yield Way(source, chain, target)


def _place(ways: Sequence[Way]) -> None:
    """Gives each way the first column that is free from its beginning to its end."""
    taken: list[list[tuple[float, float]]] = []
    for way in sorted(ways, key=lambda way: way.target.y - _out(way.source)):
        top, bottom = _out(way.source), way.target.y
        free = (i for i, spans in enumerate(taken) if all(b <= top or a >= bottom for a, b in spans))
        column = next(free, len(taken))
        taken[column:] = taken[column:] or [[]]
        taken[column].append((top, bottom))
        for i, box in enumerate(way.boxes):
            box.column, box.y = column + 1, top + (bottom - top) * (i + 1) / (len(way.boxes) + 1)
        way.x = MARGIN + (column + 1) * (BOX + GAP) + (BOX / 2 if way.boxes else 0)


def _out(box: Box | None) -> float:
    """Where the line that leaves a box begins."""
    return box.bottom if box else 0.24


def _draw_way(axes: Axes, way: Way) -> None:
    start = way.source.x if way.source else MARGIN + BOX / 2
    y = _out(way.source) + (ROW - HEIGHT) / 2 - 0.03
    points = [(start, y), (way.x, y)]
    for box in way.boxes:
        _line(axes, [*points, (way.x, box.y - HEIGHT / 2)])
        points = [(way.x, box.bottom)]
    _line(axes, [*points, (way.x, way.target.y), (way.target.x + BOX / 2, way.target.y)])


def _line(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    """An arrow along horizontal and vertical lines, with rounded corners."""
    vertices, codes = [points[0]], [Path.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        vertices += [_towards(corner, before), corner, _towards(corner, after)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    path = Path([*vertices, points[-1]], [*codes, Path.LINETO])
    axes.add_patch(FancyArrowPatch(path=path, arrowstyle="-|>", color=style.GREY, lw=1.1, mutation_scale=7, zorder=2))


def _towards(point: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """A little way from a point to another that lies above, below or beside it."""
    length = abs(other[0] - point[0]) + abs(other[1] - point[1])
    part = min(ROUND / length, 0.5) if length else 0.0
    return point[0] + (other[0] - point[0]) * part, point[1] + (other[1] - point[1]) * part


def _frames(axes: Axes, boxes: Sequence[Box], ways: Sequence[Way]) -> None:
    """A shade behind the boxes of each block, with its name."""
    blocks: dict[str, list[Box]] = {}
    for box in boxes:
        blocks.setdefault(box.layers[0].block, []).append(box)
    for name, inside in blocks.items():
        if not name or len(inside) < 2:
            continue
        sides = [box.x + BOX / 2 for box in inside] + [way.x for way in ways if way.target in inside]
        left, right = min(box.x for box in inside) - BOX / 2 - 0.1, max(sides) + 0.1
        top = min(box.y for box in inside) - HEIGHT / 2 - 0.055
        bottom = max(box.y for box in inside) + HEIGHT / 2 + 0.055
        _rounded(axes, left, top, right - left, bottom - top, facecolor="#eef0f3", edgecolor="none", zorder=0)
        look: dict[str, Any] = {"ha": "right", "va": "center", "color": style.GREY, "fontsize": 7}
        axes.text(left - 0.03, (top + bottom) / 2, name, rotation=90, **look)


def _rounded(axes: Axes, x: float, y: float, width: float, height: float, **look: Any) -> None:
    shape = f"round,pad=0,rounding_size={ROUND}"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, **look))


def _draw(axes: Axes, box: Box) -> None:
    layer, left, top = box.layers[0], box.x - BOX / 2, box.y - HEIGHT / 2
    colour = _colour(box)
    _rounded(axes, left, top, BOX, HEIGHT, facecolor="white", edgecolor=colour, linewidth=1.2, zorder=3)
    inside = layer.name.removeprefix(f"{layer.block}.") if layer.block else layer.name
    axes.text(left + 0.1, box.y - 0.065, inside, va="center", fontweight="bold", fontsize=8, zorder=4)
    operations = [_operation(layer.node), *(x.node.op.name for x in box.layers[1:])]
    details = " · ".join(operations[operations[0] == inside :])
    axes.text(left + 0.1, box.y + 0.075, details, va="center", color=style.GREY, fontsize=7, zorder=4)
    shape = "×".join(map(str, layer.shape))
    axes.text(box.x + BOX / 2 - 0.1, box.y - 0.065, shape, ha="right", va="center", fontsize=8, zorder=4)


def _weights(node: Any) -> list[Any]:
    """Its parameters that have more than one axis."""
    return [x for x in node.inputs if x.op is PARAMETER and len(x.shape) > 1]


def _colour(box: Box) -> str:
    """By what the operation does: joins ways, has weights on images or on rows, makes images smaller, or none of it."""
    node = box.layers[0].node
    if len(box.sources) > 1:
        return style.ORANGE
    weights = {len(x.shape) for x in _weights(node)}
    if weights:
        return style.BLUE if 4 in weights else style.VERMILLION
    return style.GREEN if len(node.inputs[0].shape) == 4 and node.op.multiply_adds is None else style.GREY


def _operation(node: Any) -> str:
    """``conv2d 3×3 / 2``: the operation, its window and the window's step where that is not 1 or the window's side."""
    weights = [x.shape[2:] for x in _weights(node) if len(x.shape) == 4]
    size, step = node.attrs.get("kernel_size"), node.attrs.get("stride", 1)
    window = weights[0] if weights else (size, size) if size else ()
    text = f"{node.op.name} {'×'.join(map(str, window))}".rstrip()
    return text if step in (1, size) else f"{text} / {step}"
