"""A model of colour pictures, wider than high: drawn, scored, exported, served, and asked about photographs."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from mlflow.exceptions import MlflowException
from PIL import Image

import odyssey_run
from odyssey_core.backends import BACKENDS
from odyssey_core.data.pictures import read
from odyssey_core.data.preparation import Preparation
from odyssey_run import cli
from odyssey_run.config.schema import TrackingConfig
from odyssey_run.reports import images, style
from odyssey_run.runs import recorded
from odyssey_run.tasks import export, predict
from odyssey_run.tracking import serving

NONE = TrackingConfig("none", None, None, None)
CLASSES = {"cherry red": (200, 40, 40), "leaf green": (40, 180, 60), "sea blue": (40, 70, 200)}
SIZE = (20, 24)
COMMAND = ("data=folder", "data.size=[20,24]", "data.normalize=channel", "model=resnet8", "model.width=2")
REST = ("optim=adam", "optim.lr=0.02", "trainer.batch_size=8", "trainer.epochs=4", "trainer.validation_size=9")


def photograph(name, number, size=(48, 40)):
    """A picture of noise about a class's colour."""
    rng = np.random.default_rng([number, len(name)])
    return Image.fromarray(np.uint8(np.clip(rng.normal(CLASSES[name], 30, (size[1], size[0], 3)), 0, 255)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run and the options of its data."""
    place = tmp_path_factory.mktemp("colour")
    for name in CLASSES:
        (place / "files" / name).mkdir(parents=True)
        for number in range(25):
            photograph(name, number).save(place / "files" / name / f"{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ODYSSEY_CACHE", str(place / "cache"))
        root = f"data.root={place / 'files'}"
        run = f"run.dir={place / 'run'}"
        assert cli.main([*COMMAND, *REST, root, "backend=numpy", "tracking=none", run]) == 0
        yield recorded.find(str(place / "run"), NONE), (*COMMAND[:3], root)


def test_the_report_and_its_pictures_are_of_classes_in_colour(trained):
    run, _ = trained
    page = (run.folder / "report.html").read_text()
    drawn = {path.stem for path in (run.folder / "plots").glob("*.png")}
    assert drawn >= {"loss", "accuracy", "confusion", "classes", "first_layer", "weight_norms", "gradient_norms"}
    assert "official" not in page
    assert "cherry red" in page and "character" not in page and "word around them" not in page
    assert run.metrics["test/accuracy"][-1][1] == 1.0
    classifier = run.classifier(BACKENDS["numpy"]())
    figure = images.first_layer(classifier, np.full((3, *SIZE), 99, np.uint8))
    filters, answers, image = (axes.images[0].get_array() for axes in figure.axes)
    assert filters.shape[2] == 3 and np.ptp(filters.astype(int), axis=2).max() > 20
    assert answers.ndim == 2 and (image[:20, :24] == 99).all()


def test_samples_of_a_data_set_are_drawn_in_colour_with_their_names(trained, tmp_path, capsys):
    _, data = trained
    assert cli.main(["task=data", *data, "tracking=none", "out=samples.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "folder-files: 60 train, 15 test, 3×20×24"
    assert "cherry red        20        5" in lines
    with Image.open(tmp_path / "samples.png") as picture:
        seen = np.asarray(picture.convert("RGB").resize((picture.width // 4, picture.height // 4)), int)
    for colour in CLASSES.values():
        assert (np.abs(seen - colour).max(axis=2) < 40).mean() > 0.05


def test_every_door_answers_colour_pictures_alike(trained, tmp_path):
    run, data = trained
    test = odyssey_run.compose(*data, "tracking=none").data.build().upright_test
    classifier = run.classifier(BACKENDS["numpy"]())
    logits, _ = classifier.evaluate(test)
    labels = [classifier.class_names[i] for i in logits.argmax(axis=1)]
    assert run.predict(test.pixels)[0] == labels == [sorted(CLASSES)[i] for i in test.labels]
    model = run.folder / "model"
    served = serving._load_pyfunc(model / "weights.safetensors", {"backend": "numpy"})
    for given in (test.pixels, np.moveaxis(test.pixels, 1, 3), np.moveaxis(test.pixels, 1, 3).tolist()):
        assert served.predict(given)["labels"] == labels
    with pytest.raises(MlflowException, match=r"expected whole numbers .* \(N, 3, 20, 24\), N at least 1, got shape"):
        served.predict(test.pixels[:, :1])
    assert np.array(json.loads((model / "input_example.json").read_text())).shape == (2, 3, *SIZE)
    about = yaml.safe_load((model / "MLmodel").read_text())
    assert about["metadata"]["images"] == "upright, red, green and blue, whole numbers from 0 to 255"
    assert json.loads(about["signature"]["inputs"])[0]["tensor-spec"]["shape"] == [-1, 3, *SIZE]
    pytest.importorskip("onnx")
    session = pytest.importorskip("onnxruntime").InferenceSession(export.as_onnx(classifier, run.about))
    np.testing.assert_allclose(session.run(None, {"pixels": test.pixels})[0], logits, atol=1e-4)


def test_the_export_says_how_each_channel_is_normalised(trained, tmp_path, capsys):
    run, _ = trained
    assert cli.main(["task=export", f"run_id={run.folder}", "tracking=none"]) == 0
    said = capsys.readouterr().out
    assert "images are upright, red, green and blue; 3 classes: cherry red, leaf green, sea blue" in said
    assert "float32 (N, 3, 20, 24)" in said
    (expression,) = (line for line in said.splitlines() if line.startswith("it takes "))
    mean, std = (json.loads(run.about[key]) for key in ("mean", "std"))
    assert len(mean) == len(std) == 3
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, *SIZE), np.uint8)
    text = expression.removeprefix("it takes ").partition(", float32")[0].replace(".view(", ".reshape(")
    given = eval(text, {"pixels": pixels, "torch": SimpleNamespace(tensor=np.array)})
    expected = (pixels / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    np.testing.assert_allclose(given, expected, atol=1e-4)


def files(folder):
    """One picture as every kind of file, and what no picture is."""
    upright = photograph("sea blue", 99)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.save(folder / "plain.png")
    upright.resize((480, 400)).save(folder / "large.jpg", quality=95)
    upright.resize((960, 200)).save(folder / "wide.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(folder / "phone.jpg", exif=exif, quality=95)
    upright.convert("CMYK").save(folder / "print.jpg", quality=95)
    upright.quantize(64).save(folder / "palette.png")
    upright.convert("RGBA").save(folder / "alpha.png")
    upright.convert("L").save(folder / "grey.png")
    (folder / "torn.jpg").write_bytes((folder / "large.jpg").read_bytes()[:3000])
    (folder / "text.png").write_text("text")


def test_photographs_are_cut_to_size_as_the_data_set_was_made(trained, tmp_path, capsys):
    run, _ = trained
    (tmp_path / "in").mkdir()
    files(tmp_path / "in")
    command = ["task=predict", f"run_id={run.folder}", "inputs=in", "backend=numpy", "tracking=none"]
    assert cli.main([*command, "out=answers.csv"]) == cli.MISTAKE
    said = capsys.readouterr()
    assert said.out == "answers.csv: 8 answers in 10 pictures\n"
    named = [line.split(": ")[1] for line in said.err.splitlines()]
    assert named == ["in/text.png", "in/torn.jpg"]
    with open(tmp_path / "answers.csv") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert list(next(iter(rows.values()))) == [
        "file", "answer", "probability", "second", "second_probability", "note", "made_by"
    ]  # fmt: skip
    answers = {file: row["answer"] for file, row in rows.items() if not row["note"]}
    assert len(answers) == 8
    assert {answer for file, answer in answers.items() if file != "in/grey.png"} == {"sea blue"}
    assert cli.main([*command, "out=answers.json"]) == cli.MISTAKE
    (plain,) = (i for i in json.loads((tmp_path / "answers.json").read_text())["images"] if "plain" in i["file"])
    assert next(iter(plain["answers"])) == "sea blue" and plain["fault"] is None
    names, probabilities = run.predict(read(tmp_path / "in" / "plain.png", 3, SIZE)[None])
    assert names == ["sea blue"] and plain["answers"]["sea blue"] == pytest.approx(probabilities.max(), abs=1e-4)


def test_a_prediction_is_drawn_with_the_part_that_the_net_saw(trained, tmp_path, capsys):
    run, _ = trained
    photograph("leaf green", 99).resize((960, 200)).save(tmp_path / "wide.png")
    command = ["task=predict", f"run_id={run.folder}", "inputs=wide.png", "backend=numpy", "tracking=none"]
    assert cli.main(command) == 0
    assert "leaf green" in capsys.readouterr().out
    assert (tmp_path / "predictions" / "wide.png").exists()
    classifier = run.classifier(BACKENDS["numpy"]())
    found = predict.read(classifier, classifier.preparation.reader(), tmp_path / "wide.png")
    (answer,) = found.answers
    assert found.box(answer.seen.box) == [360, 0, 600, 200]  # 200 high, 240 wide, as 20 by 24
    with style.styled():
        photograph_, seen, _ = images.reading(found, light_on_dark=False).axes
    assert (seen.images[0].get_array() == np.moveaxis(answer.seen.image, 0, 2)).all()
    assert photograph_.images[0].get_array().shape == (200, 960, 3)


def test_images_of_ink_take_pictures_on_light_paper_as_negatives(tmp_path):
    picture = Image.new("L", (40, 40), 250)
    picture.paste(20, (15, 5, 25, 35))
    picture.save(tmp_path / "paper.png")
    Image.eval(picture, lambda value: 255 - value).save(tmp_path / "board.png")
    negative = Preparation("resize", {"mode": "pad", "polarity": "light on dark"})
    seen = [negative.reader().look(tmp_path / f"{name}.png", (1, 20, 24)).found[0].image for name in ("paper", "board")]
    assert (seen[0] == seen[1]).all() and seen[0][0, 10, 12] == 235 and seen[0][0, 0].max() == 5
    assert negative.images(1) == "upright, light on dark"
    kept = Preparation("resize").reader().look(tmp_path / "paper.png", (1, 40, 40)).found[0].image
    assert (kept[0] == np.asarray(picture)).all()
