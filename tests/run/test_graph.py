"""The picture of a model's graph: what is drawn as one box, what goes around it, and where it is written."""

import numpy as np
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from odyssey_core import ops
from odyssey_core.models import MODELS
from odyssey_core.nn import Conv2d, Flatten, Linear, Module
from odyssey_run import cli
from odyssey_run.reports.graph import _boxes, _longest, _place, _ways, graph
from odyssey_run.tasks.show import layers


def _drawn(model, shape):
    boxes = _boxes(layers(model, shape))
    main = _longest(boxes)
    for i, box in enumerate(main):
        box.y = float(i + 1)
    return boxes, main, list(_ways(boxes, main))


def test_what_keeps_the_shape_is_drawn_with_the_layer_before_it():
    boxes, main, ways = _drawn(MODELS["lenet5"]((1, 28, 28), 10), (1, 28, 28))
    assert [[layer.name for layer in box.layers] for box in boxes] == [
        ["conv1", "relu1"], ["pool1"], ["conv2", "relu2"], ["pool2"], ["flatten"], ["fc1", "relu3"], ["fc2", "relu4"],
        ["fc3"],
    ]  # fmt: skip
    assert (main, ways) == (boxes, [])


def test_shortcuts_lie_beside_the_longest_way():
    boxes, main, ways = _drawn(MODELS["resnet8"]((3, 32, 32), 10), (3, 32, 32))
    assert (len(boxes), len(main)) == (14, 12)
    assert [[layer.name for layer in box.layers] for way in ways for box in way.boxes] == [
        ["blocks.1.shortcut.0", "blocks.1.shortcut.1"], ["blocks.2.shortcut.0", "blocks.2.shortcut.1"],
    ]  # fmt: skip
    ends = [(way.source.layers[0].name, way.target.layers[0].name) for way in ways]
    assert ends == [("conv1", "blocks.0.add"), ("blocks.0.add", "blocks.1.add"), ("blocks.1.add", "blocks.2.add")]
    assert {box.layers[0].block for box in boxes} == {"", "blocks.0", "blocks.1", "blocks.2"}


class Dense(Module):
    """Each convolution reads all that came before it."""

    def __init__(self):
        self.convs = [Conv2d(1 + 2 * i, 2, 3, padding=1) for i in range(3)]
        self.flatten, self.fc = Flatten(), Linear(7 * 16, 2)

    def forward(self, x):
        for conv in self.convs:
            x = ops.concat(x, conv(x))
        return self.fc(self.flatten(x))


def test_ways_that_overlap_have_columns_of_their_own():
    _, _, ways = _drawn(Dense(), (1, 4, 4))
    assert len(ways) == 3
    _place(ways)
    assert len({way.x for way in ways}) == 1  # one after the other
    crossing = Dense()
    crossing.forward = lambda x: crossing.fc(crossing.flatten(ops.concat(x, ops.concat(crossing.convs[1](ops.concat(x, crossing.convs[0](x))), x))))  # fmt: skip  # noqa: E501
    crossing.fc = Linear(4 * 16, 2)
    _, _, ways = _drawn(crossing, (1, 4, 4))
    _place(ways)
    assert len({way.x for way in ways}) == 3


def test_every_box_is_drawn_inside_the_picture():
    rows = layers(MODELS["resnet8"]((3, 32, 32), 10), (3, 32, 32))
    figure = graph(rows, (3, 32, 32))
    (axes,) = figure.axes
    boxes = [patch for patch in axes.patches if isinstance(patch, FancyBboxPatch) and patch.get_zorder() == 3]
    assert len(boxes) == 14
    width, height = figure.get_size_inches()
    for box in boxes:
        assert 0 < box.get_x() < box.get_x() + box.get_width() < width
        assert 0 < box.get_y() < box.get_y() + box.get_height() < height


SHOW = ("task=show", "model=resnet8", "data=digits")


def test_show_draws_into_a_file_and_replaces_no_other(tmp_path, mistake, capsys):
    assert cli.main([*SHOW, "out=net.png"]) == cli.main([*SHOW, "out=net.png"]) == 0
    assert np.asarray(Image.open(tmp_path / "net.png")).std() > 10
    (tmp_path / "photo.png").write_bytes(b"mine")
    capsys.readouterr()
    assert mistake(*SHOW, "out=photo.png") == [
        "out: photo.png exists and was not made by this program; name another file"
    ]
    assert (tmp_path / "photo.png").read_bytes() == b"mine"
    assert mistake(*SHOW, "out=net.svg") == ["out: expected the name of a PNG file, got net.svg; write net.png"]
