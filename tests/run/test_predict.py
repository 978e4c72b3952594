"""``task=predict``: which files it takes, where its answers go, what it never touches, and how often it is right."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pages
import pytest
from PIL import Image, ImageDraw
from quick import QUICK
from stored import here

from odyssey_core.backends import BACKENDS
from odyssey_core.data import DATASETS
from odyssey_core.errors import ConfigError
from odyssey_run import cli
from odyssey_run.config.schema import TrackingConfig
from odyssey_run.runs import recorded
from odyssey_run.tasks import predict

NONE = TrackingConfig("none", None, None, None)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a run on digits."""
    folder = tmp_path_factory.mktemp("made")
    code, said = here(folder, *QUICK, "model=linear", "run.name=one")
    assert code == 0, said
    return folder / "runs"


@pytest.fixture
def trained(tmp_path, made):
    """A copy of it, where the test runs; the run's name."""
    shutil.copytree(made, tmp_path / "runs")
    return "one"


def ask(*more):
    return cli.main(["task=predict", "run_id=one", "backend=numpy", "tracking=none", *more])


def draw(path, kind="one"):
    """A picture with a stroke, or with none."""
    image = Image.new("RGB", (90, 90), "white")
    if kind == "one":
        ImageDraw.Draw(image).line([(45, 10), (45, 80)], "black", 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path.read_bytes()


def test_it_answers_what_it_can_and_names_what_it_cannot(trained, tmp_path, capsys):
    draw(tmp_path / "a.png")
    draw(tmp_path / "blank.png", "none")
    (tmp_path / "b.png").write_text("text")
    assert ask("inputs=*.png") == cli.MISTAKE
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "odyssey-run: b.png: is not an image that can be read (PNG, JPEG, ...)",
        "odyssey-run: blank.png: nothing in it stands out from the background as a character does",
    ]
    assert "\na.png  (the model's input: predictions/a.png)" in said.out
    assert 1 <= len([line for line in said.out.splitlines() if "%" in line]) <= 5
    with Image.open(tmp_path / "predictions" / "a.png") as picture:
        assert picture.width > 500


def test_ink_that_is_no_character_is_told_beside_one_that_is_read(trained, tmp_path, capsys):
    image = Image.new("RGB", (400, 300), "white")
    ImageDraw.Draw(image).line([(100, 50), (100, 250)], "black", 14)
    ImageDraw.Draw(image).line([(250, 150), (335, 150)], "black", 14)
    image.save(tmp_path / "a.png")
    assert ask("inputs=a.png") == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("odyssey-run: a.png: ink at (")
    assert line.endswith("is not read: wider than a character; several may touch")


def test_one_picture_that_breaks_the_search_does_not_take_the_others_with_it(trained, tmp_path, capsys, monkeypatch):
    from odyssey_characters import handwriting

    def broken(rgb, *rest):
        if rgb.shape[1] == 91:
            raise IndexError("index 5 is out of bounds")
        return look(rgb, *rest)

    look = handwriting.look
    monkeypatch.setattr(handwriting, "look", broken)
    draw(tmp_path / "b.png")
    Image.new("RGB", (91, 90)).save(tmp_path / "a.png")
    assert ask("inputs=*.png") == cli.MISTAKE
    said = capsys.readouterr()
    assert said.err == "odyssey-run: a.png: cannot be looked at: IndexError: index 5 is out of bounds\n"
    assert "b.png" in said.out


def test_an_input_is_never_written_to_and_nothing_that_was_not_made_here_is_replaced(trained, tmp_path, capsys):
    photo = draw(tmp_path / "own" / "x.png")
    other = draw(tmp_path / "own" / "x-2.png", "none")
    for _ in range(2):  # the second time its own picture is replaced
        assert ask("inputs=own/x.png", "out=own") == 0
        assert "own/x.png  (the model's input: own/x-3.png)" in capsys.readouterr().out
    assert (tmp_path / "own" / "x.png").read_bytes() == photo
    assert (tmp_path / "own" / "x-2.png").read_bytes() == other
    made = (tmp_path / "own" / "x-3.png").read_bytes()
    assert ask("inputs=own/x-3.png", "out=own") in (0, cli.MISTAKE)  # a picture made here is an input like others
    assert (tmp_path / "own" / "x-3.png").read_bytes() == made


def test_pictures_of_equal_names_are_both_kept(trained, tmp_path, capsys):
    for folder in "ab":
        draw(tmp_path / folder / "A.png")
    assert ask("inputs=*/A.png") == 0
    out = capsys.readouterr().out
    assert "a/A.png  (the model's input: predictions/A.png)" in out
    assert "b/A.png  (the model's input: predictions/A-2.png)" in out
    assert {path.name for path in (tmp_path / "predictions").iterdir()} == {"A.png", "A-2.png"}


def test_a_name_with_a_byte_that_is_no_text_is_read_and_drawn(trained, tmp_path):
    draw(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/\xff$.png")
    assert ask("inputs=*.png") == 0
    (picture,) = os.listdir(os.fsencode(tmp_path / "predictions"))
    assert picture == b"\xff$.png"


def test_names_folders_and_patterns(tmp_path):
    for name in ("[1].png", "a (2), b=c.png", "Ünï.png", "1.png"):
        draw(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    names = [path.name for path in predict.matching([f"{tmp_path}/in"])]
    assert names == ["1.png", "[1].png", "a (2), b=c.png", "Ünï.png"]
    for name in names:
        assert predict.matching([f"{tmp_path}/in/{name}"]) == [tmp_path / "in" / name]
    assert len(predict.matching([f"{tmp_path}/in/*.png", f"{tmp_path}/in"])) == 4
    (tmp_path / "none").mkdir()
    for pattern, says in (
        ("no/*.png", "no file matches 'no/\\*.png'"),
        (f"{tmp_path}/none", "the folder '.*none' itself holds no pictures; '.*none/\\*\\*/\\*.png' names those in"),
        ("http://host/a.png", "is an address; download it, and name the file"),
    ):
        with pytest.raises(ConfigError, match=says):
            predict.matching([pattern])
    with pytest.raises(ConfigError, match="inputs: expected a file, a folder or a pattern, got none"):
        predict.matching([])
    (tmp_path / "none" / "below").mkdir()
    draw(tmp_path / "none" / "below" / "1.png")
    assert predict.matching([f"{tmp_path}/none/**/*.png"]) == [tmp_path / "none" / "below" / "1.png"]


def test_a_table_holds_a_row_for_every_character_and_every_fault(trained, tmp_path, capsys):
    Image.fromarray(pages.row_of([4, 2], np.random.default_rng(0))).save(tmp_path / "two.png")
    draw(tmp_path / "no.png", "none")
    for _ in range(2):  # the second time its own table is replaced
        assert ask("inputs=*.png", "out=preds.csv") == cli.MISTAKE
        assert capsys.readouterr().out == "preds.csv: 2 characters in 2 pictures\n"
    with open(tmp_path / "preds.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["character"], bool(row["answer"]), bool(row["note"])) for row in rows] == [
        ("no.png", "", False, True), ("two.png", "1", True, False), ("two.png", "2", True, False),
    ]  # fmt: skip
    assert int(rows[1]["right"]) < int(rows[2]["left"]) and 0 < float(rows[1]["probability"]) <= 1
    assert ask("inputs=*.png", "out=preds.json") == cli.MISTAKE
    whole = json.loads((tmp_path / "preds.json").read_text())
    assert whole["run"] == "one" and whole["classes"] == list("0123456789")
    assert [len(image["characters"]) for image in whole["images"]] == [0, 2]
    assert whole["images"][0]["fault"] and whole["images"][1]["fault"] is None
    assert not (tmp_path / "predictions").exists()


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("mine.csv", "out: mine.csv exists and was not made by this program; name another file"),
        ("folder.csv", "out: folder.csv is a folder; name another file"),
        ("file/preds.csv", "out: cannot write file/preds.csv"),
        ("file", "out: cannot write file/a.png"),
        ("file/below", "out: cannot write file/below/a.png"),
    ],
)
def test_an_out_that_cannot_be_had_is_one_line(trained, tmp_path, capsys, out, says):
    draw(tmp_path / "a.png")
    mine = "file,label\n/home/maria/ml-odyssey/photos/a.png,7\n"
    (tmp_path / "mine.csv").write_text(mine)
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("a file")
    assert ask("inputs=a.png", f"out={out}") == cli.MISTAKE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"odyssey-run: {says}")
    assert (tmp_path / "mine.csv").read_text() == mine


@pytest.mark.parametrize("command", [("task=export", "run_id=one"), ("task=data", "data=digits")])
def test_no_task_replaces_what_was_not_made_here(trained, tmp_path, capsys, command):
    photo = draw(tmp_path / "photo.png")
    assert cli.main([*command, "tracking=none", "out=photo.png"]) == cli.MISTAKE
    assert "out: photo.png exists and was not made by this program" in capsys.readouterr().err
    assert (tmp_path / "photo.png").read_bytes() == photo
    for _ in range(2):
        assert cli.main([*command, "tracking=none", "out=own.file"]) == 0
    assert cli.main([*command, "tracking=none", "out=photo.png/below"]) == cli.MISTAKE
    assert "out: cannot write photo.png/below" in capsys.readouterr().err


def read(run, images, tmp_path):
    """The answers of task=predict for pictures: class names, "" where none or several are read; and the highest."""
    classifier = recorded.find(run, NONE).classifier(BACKENDS["numba"]())
    names, highest = [], 0.0
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        reading = predict.read(classifier, classifier.preparation.reader(), tmp_path / f"{number}.png")
        answers = [character.answers[0] for character in reading.answers]
        names.append(answers[0][0] if len(answers) == 1 else "")
        highest = max([highest, *(probability for _, probability in answers)])
    return names, highest


RECIPES = {
    "digits": ("trainer.epochs=6", "optim.lr=0.003"),
    "glyphs": ("trainer.epochs=1", "trainer.train_size=20000"),
    "mnist": ("trainer.epochs=3",),
    "emnist": ("trainer.epochs=1",),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory, real):
    """model("mnist") trains LeNet-5 on a data set once; the run's folder and the data set."""
    made = {}

    def train(name):
        if name not in made:
            root = [f"data.root={real(name)}"] if name in ("mnist", "emnist") else []
            folder = tmp_path_factory.mktemp("models") / name
            command = [f"data={name}", *root, "optim=adam", "trainer.batch_size=64", *RECIPES[name], "tracking=none"]
            assert cli.main([*command, "plots.enabled=false", f"run.dir={folder}"]) == 0
            arguments = {"root": str(real(name))} if root else {}
            made[name] = str(folder), DATASETS[name](**arguments)
        return made[name]

    return train


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_data_sets_own_images_are_read_as_the_model_itself_reads_them(model, tmp_path, name):
    run, dataset = model(name)
    images, labels = dataset.upright_test.pixels[:200], dataset.upright_test.labels[:200]
    truth = [dataset.class_names[label] for label in labels]
    itself = recorded.find(run, NONE).predict(images)[0]
    right = sum(a == b for a, b in zip(itself, truth, strict=True))
    for pictures in (images[:, 0], 255 - images[:, 0], np.kron(images[:, 0], np.ones((1, 9, 9), np.uint8))):
        answers, _ = read(run, pictures, tmp_path)
        assert sum(a == b for a, b in zip(answers, truth, strict=True)) >= right - 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", pages.KINDS)
def test_at_least_eight_of_ten_pages_of_each_difficult_kind_are_read_right(model, tmp_path, kind):
    run, _ = model("mnist")
    answers, _ = read(run, [pages.page(kind, digit, seed=1) for digit in range(10)], tmp_path)
    assert sum(answer == str(digit) for digit, answer in enumerate(answers)) >= 8, answers


@pytest.mark.slow
@pytest.mark.parametrize("kind", pages.NOTHING)
def test_no_answer_above_90_percent_where_there_is_no_clear_character(model, tmp_path, kind):
    run, _ = model("mnist")
    _, highest = read(run, [pages.nothing(kind, seed) for seed in range(3)], tmp_path)
    assert highest <= 0.9


@pytest.mark.slow
def test_several_characters_are_read_one_by_one(model, tmp_path):
    run, _ = model("mnist")
    Image.fromarray(pages.row_of([4, 4, 7, 2], np.random.default_rng(3))).save(tmp_path / "row.png")
    classifier = recorded.find(run, NONE).classifier()
    reading = predict.read(classifier, classifier.preparation.reader(), tmp_path / "row.png")
    assert [character.answers[0][0] for character in reading.answers] == ["4", "4", "7", "2"]


@pytest.mark.skipif(os.geteuid() == 0, reason="a superuser may write anywhere")
def test_a_folder_that_may_not_be_written_to(trained, tmp_path, capsys):
    draw(tmp_path / "a.png")
    (tmp_path / "locked").mkdir(mode=0o500)
    assert ask("inputs=a.png", f"out={Path('locked')}") == cli.MISTAKE
    assert "out: cannot write locked/a.png (Permission denied)" in capsys.readouterr().err
