"""Pictures and report: the numbers behind them, worked out by hand, and that what is promised is there."""

import csv
import re
from dataclasses import replace

import numpy as np
import pytest
from journals import START, record
from quick import QUICK

from odyssey_characters.lookalikes import LOOKALIKES
from odyssey_run import cli
from odyssey_run.reports import confusion, curves, images, report, style
from odyssey_run.reports.scores import Scores, confused_pairs, per_class
from odyssey_run.tracking.records import RunRecords

NAMES = ("0", "O", "x")
PICTURES = ("loss", "accuracy", "learning_rate", "weight_norms", "gradient_norms")
PICTURES += ("confusion", "classes", "mistakes", "first_layer")
CONFUSION = np.array([[6, 2, 0], [4, 3, 1], [0, 0, 0]])  # no image of x


def scores(alike=LOOKALIKES) -> Scores:
    labels = np.repeat(np.arange(3), CONFUSION.sum(axis=1))
    answers = np.concatenate([np.repeat(np.arange(3), row) for row in CONFUSION])
    logits = np.eye(3, dtype=np.float32)[answers] * np.arange(1, 17, dtype=np.float32)[:, None]
    pixels = np.zeros((16, 1, 4, 4), np.uint8)
    return Scores(pixels, labels, logits, np.ones(16, np.float32), NAMES, "abc", alike, light_on_dark=True)


def page(found: Scores, points=(), name: str = "a") -> str:
    """The report of a run with these metrics at one step each."""
    config = START["config"] | {"seed": 0, "backend": {"name": "numpy"}}
    start = record("start", run="a-1", name=name, config=config)
    run = RunRecords([start, *(record("metrics", step=1, values={name: x}) for name, x in points)])
    return report.page(run, found, [], dict.fromkeys(PICTURES))


def test_confusion_counts_truth_by_answer():
    assert scores().confusion.tolist() == CONFUSION.tolist()
    assert (scores().correct, scores().accuracy) == (9, 9 / 16)


def test_precision_recall_and_f1():
    values = per_class(CONFUSION)
    undefined = np.nan  # one image was answered with x, but no image is one
    np.testing.assert_array_equal(values["precision"], [6 / 10, 3 / 5, undefined])
    np.testing.assert_array_equal(values["recall"], [6 / 8, 3 / 8, undefined])
    np.testing.assert_allclose(values["f1"], [2 / 3, 2 * 0.6 * 0.375 / 0.975, undefined])


def test_precision_of_a_class_that_is_never_answered_is_undefined():
    values = per_class(np.array([[3, 0], [2, 0]]))
    np.testing.assert_array_equal(values["precision"], [3 / 5, np.nan])
    np.testing.assert_array_equal(values["recall"], [1, 0])
    np.testing.assert_array_equal(values["f1"], [6 / 8, 0])


def test_pairs_are_counted_both_ways_and_none_without_mistakes():
    assert confused_pairs(CONFUSION, 5) == [(0, 1, 6), (1, 2, 1)]
    assert confused_pairs(np.eye(3, dtype=int), 5) == []


def test_the_surest_mistakes_come_first():
    found = scores().mistakes(3)  # the logit of the answer grows with the index; wrong are 6, 7, 8 to 11 and 15
    assert found.tolist() == [15, 11, 10]


def test_rows_of_classes_name_the_worst_neighbour():
    rows = report.rows_of_classes(scores())
    assert rows[1] == {
        "class": "O", "images": 8, "precision": 0.6, "recall": 0.375, "f1": 0.4615, "taken_for": "0", "times": 4,
    }  # fmt: skip
    assert rows[2] == {
        "class": "x", "images": 0, "precision": None, "recall": None, "f1": None, "taken_for": "", "times": 0,
    }  # fmt: skip


def test_only_characters_that_stand_in_words_are_forgiven():
    assert "tells apart by the word around them" in page(scores())
    plain = page(scores(alike=None))
    assert not re.search("by the word|look alike|a person|closed curve", plain)
    assert "<b>0</b> and <b>O</b>" in plain


def test_a_class_without_test_images_is_shown_as_such():
    drawn = confusion.classes(CONFUSION, NAMES)
    texts = {text.get_text(): text.get_position()[1] for text in drawn.axes[0].texts}
    assert texts == {"no test images": 0}
    assert page(scores()).count("<td>–</td>") == 3


def made(epochs: int, layers: int = 3) -> dict[str, list[tuple[int, float]]]:
    """The metrics of a run of epochs of ten steps, of which the training loss was taken every five."""
    ends = [10 * (i + 1) for i in range(epochs)]
    series = {"train/loss": [(5 * (i + 1), 2.0) for i in range(2 * epochs)], "test/accuracy": [(ends[-1], 0.5)]}
    for name in ("train/epoch_loss", "train/accuracy", "val/loss", "val/accuracy"):
        series[name] = [(step, 0.01 * step) for step in ends]
    return series | {f"weight_norm/fc{i}.weight": [(step, 1.0 + i) for step in ends] for i in range(layers)}


def lines(axes) -> dict[str, list[float]]:
    return {line.get_label(): [float(x) for x in line.get_xdata()] for line in axes.lines}


def test_curves_of_training_and_validation_lie_over_each_other_by_epochs():
    (axes,) = curves.accuracy(made(3)).axes
    drawn = lines(axes)
    assert drawn["training"] == drawn["validation"] == [1, 2, 3]
    assert drawn["test"] == [3]
    assert axes.get_xlabel() == "epoch"
    (above,) = axes.child_axes
    assert above.get_xlabel() == "optimizer step"
    assert above._functions[0](3) == 30
    assert lines(curves.loss(made(3), "nats").axes[0])["training, mean of the epoch"] == [1, 2, 3]


@pytest.mark.parametrize(
    ("losses", "scale", "top"),
    [
        ([2.3, 0.5, 0.001], "linear", 2.3),
        ([1e35, 2.0, 1.0, 0.5], "log", 1e4 * 1.5),  # ten thousand times the median
        ([1e35, float("inf"), 2.0, 1.0, 0.5], "log", 1e4 * 1.5),
    ],
)
def test_a_loss_that_ran_away_leaves_the_others_to_be_seen(losses, scale, top):
    series = made(len(losses)) | {"train/loss": [], "val/loss": []}
    steps = [step for step, _ in series["train/epoch_loss"]]
    (axes,) = curves.loss(series | {"train/epoch_loss": list(zip(steps, losses, strict=True))}, "nats").axes
    assert axes.get_yscale() == scale
    assert axes.get_ylim()[1] == pytest.approx(top, rel=0.06)


def test_one_epoch_gives_a_sentence_in_place_of_dots():
    one = made(1)
    assert curves.accuracy(one) is None
    assert curves.norms(one, "weight_norm", "Norm") is None
    assert lines(curves.loss(one, "nats").axes[0])["training"] == [5, 10]  # by steps, of which there are some
    told = "10.00% on training images, 10.00% in validation, 50.00% in the test"
    shown = page(scores(), [(name, points[-1][1]) for name, points in one.items() if points])
    assert f"<p>One epoch makes no curve by epochs. Its accuracy: {told}.</p>" in shown
    assert report.one_epoch(made(2)) == []
    assert curves.loss({name: points[:1] for name, points in one.items()}, "nats") is None


@pytest.mark.parametrize("layers", [3, 40])
def test_the_legend_of_norms_has_room_for_all_layers(layers):
    with style.styled():
        drawn = curves.norms(made(2, layers), "weight_norm", "Norm")
        drawn.draw_without_rendering()
    (legend,), (axes,) = drawn.legends, drawn.axes
    assert [text.get_text() for text in legend.get_texts()] == [f"fc{i}" for i in range(layers)]
    assert len({line.get_color() for line in axes.lines}) == layers
    box = legend.get_window_extent()
    assert box.y0 >= 0
    assert box.y1 <= axes.xaxis.label.get_window_extent().y0


def test_a_learning_rate_that_stays_is_not_drawn():
    assert curves.learning_rate({"train/lr": [(1, 0.1), (2, 0.1)]}) is None
    assert curves.learning_rate({"train/lr": [(1, 0.1), (2, 0.05)]})


def test_a_mosaic_leaves_gaps():
    whole, corners = images.mosaic(np.ones((3, 2, 2)), columns=2, gap=(1, 1))
    assert corners == [(0, 0), (3, 0), (0, 3)]
    assert whole.shape == (5, 5)
    assert np.isnan(whole).sum() == 25 - 12


def test_lookalikes_go_both_ways_and_are_pairs():
    assert LOOKALIKES.reason("0", "O") == LOOKALIKES.reason("O", "0") == "one closed curve"
    assert LOOKALIKES.reason("0", "X") is None
    assert all(len(pair) == 2 for pair in LOOKALIKES.reasons)


@pytest.mark.parametrize(
    ("layers", "drawn"),
    [("batch_norm, conv 4 3, relu, flatten", True), ("batch_norm, flatten", True), ("max_pool 2, flatten", False)],
)
def test_the_first_weights_of_pixels_are_drawn_whatever_comes_before_them(tmp_path, layers, drawn):
    quick = [a for a in QUICK if not a.startswith("plots.")]
    assert cli.main([*quick, "model=layers", f"model.layers=[{layers}, linear classes]", "run.name=a"]) == 0
    assert (tmp_path / "runs" / "a" / "report.html").exists()
    assert (tmp_path / "runs" / "a" / "plots" / "first_layer.png").exists() == drawn


@pytest.mark.parametrize("model", ["lenet5", "linear"])
def test_a_run_leaves_pictures_and_one_page_with_all_of_them(tmp_path, model):
    quick = [a for a in QUICK if not a.startswith("plots.")]
    expect = "expect={test/accuracy: '> 0', test/loss: '< 0'}"
    assert cli.main([*quick, f"model={model}", "run.name=a<b".replace("<", "-"), expect]) == 3
    run = tmp_path / "runs" / "a-b"
    page = (run / "report.html").read_text()
    drawn = {path.stem for path in (run / "plots").glob("*.png")}
    assert drawn == {"confusion", "classes", "mistakes", "first_layer"}  # one epoch makes no curves
    assert page.count("data:image/png;base64,") == len(drawn)
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert re.search(r"held.*missed", page, re.S)
    with open(run / "plots" / "classes.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list("0123456789")
    right = sum(round(float(r["recall"]) * int(r["images"])) for r in rows)
    assert f"{right:,} of 360 test images of digits" in page


def test_what_is_no_text_in_a_name_is_a_question_mark():
    """A folder's name may hold any bytes, and a folder may be a class."""
    names = ("\udcff\udcfe", "O", "x")
    found = replace(scores(), class_names=names)
    with style.styled():
        for drawn in (confusion.matrix(CONFUSION, names), confusion.classes(CONFUSION, names), images.mistakes(found)):
            drawn.draw_without_rendering()
    assert "<td><b>??</b></td>" in page(found)


def test_what_a_name_holds_is_text_on_the_page():
    assert "<h1>a&lt;b&gt; &amp; c</h1>" in page(scores(), name="a<b> & c")


def test_long_labels_of_a_sweep_keep_their_ends_and_stay_apart():
    from odyssey_run.sweep.plots import _shortened

    long = [f"[conv 6 5, relu, linear {n}, relu, linear classes]" for n in (100, 120)]
    assert _shortened(["sgd", *long], 20) == ["sgd", "[conv 6 5,… classes] #2", "[conv 6 5,… classes] #3"]
