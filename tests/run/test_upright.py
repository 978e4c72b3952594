"""A model of a data set that is stored transposed takes upright images at every door, and they all answer alike."""

import gzip
import json

import numpy as np
import pytest
import yaml
from idx_files import idx_bytes

import odyssey_run
from odyssey_characters.preparations import PREPARATIONS
from odyssey_core.backends import BACKENDS
from odyssey_core.checkpoint import load_weights
from odyssey_core.classifier import Classifier
from odyssey_core.data import DATASETS, Images
from odyssey_core.data.preparation import Preparation, of_metadata, written
from odyssey_core.errors import OdysseyError
from odyssey_run import cli
from odyssey_run.config.schema import TrackingConfig
from odyssey_run.runs import recorded
from odyssey_run.tasks import export
from odyssey_run.tracking import serving

NONE = TrackingConfig("none", None, None, None)


def transposed_files(folder):
    """The digits, kept as EMNIST keeps its own: four files, rows and columns swapped."""
    digits = DATASETS["digits"]()
    folder.mkdir()
    for part, images in (("train", digits.train), ("test", digits.test)):
        stored = np.swapaxes(images.pixels[:, 0], 1, 2)
        for kind, array in (("images-idx3", stored), ("labels-idx1", images.labels)):
            packed = gzip.compress(idx_bytes(array), 1)
            (folder / f"emnist-digits-{part}-{kind}-ubyte.gz").write_bytes(packed)
    return digits.test


@pytest.fixture
def trained(tmp_path):
    """The upright test images and the run, called ``turned``."""
    test = transposed_files(tmp_path / "files")
    command = ("data=emnist", "data.split=digits", f"data.root={tmp_path / 'files'}", "model=linear", "optim=adam")
    rest = ("backend=numpy", "tracking=none", "trainer.epochs=4", "run.name=turned")
    assert cli.main([*command, *rest]) == 0
    return test, recorded.find("turned", NONE)


def test_every_door_answers_upright_images_as_evaluate_does(trained, tmp_path):
    test, run = trained
    assert cli.main(["task=evaluate", "run_id=turned", "tracking=none", "backend=numpy"]) == 0
    (folder,) = (tmp_path / "runs").glob("turned-on-emnist-digits-*")
    ((_, scored),) = recorded.open_folder(folder).metrics["test/accuracy"]
    assert scored > 0.85 and ((_, scored),) == tuple(run.metrics["test/accuracy"])

    served = serving._load_pyfunc(tmp_path / "runs" / "turned" / "model" / "weights.safetensors", {"backend": "numpy"})
    classifier = run.classifier(BACKENDS["numpy"]())
    doors = {
        "run.predict": odyssey_run.load("turned", "tracking=none").predict(test.pixels)[0],
        "pyfunc": served.predict(test.pixels[:, 0])["labels"],
        "classifier": [classifier.class_names[i] for i in classifier.evaluate(test)[0].argmax(axis=1)],
    }
    truth = [str(label) for label in test.labels]
    for door, labels in doors.items():
        assert np.mean([a == b for a, b in zip(labels, truth, strict=True)]) == scored, door
    lying = np.swapaxes(test.pixels, 2, 3)
    assert (classifier.probabilities(np.ascontiguousarray(lying)).argmax(axis=1) == test.labels).mean() < 0.6


def test_pictures_are_of_the_answers_that_the_file_gives(tmp_path, monkeypatch):
    """The test's own are taken: the classifier is not asked again."""
    from odyssey_run.reports import presentation

    drawn = []
    monkeypatch.setattr(presentation, "draw", lambda *arguments: drawn.append(arguments))
    transposed_files(tmp_path / "files")
    data = ("data=emnist", "data.split=digits", f"data.root={tmp_path / 'files'}")
    for backend in ("numba", "numpy"):
        made = (f"backend={backend}", "model=linear", "tracking=none", "trainer.max_steps=20", "trainer.ema=0.9")
        assert cli.main([*data, *made, "trainer.keep=best", "trainer.tta=mirror"]) == 0
        _, _, classifier, scores, _ = drawn.pop()
        again = classifier.evaluate(Images(scores.pixels, scores.labels))
        np.testing.assert_array_equal(scores.logits, again[0])
        np.testing.assert_array_equal(scores.losses, again[1])


def test_onnx_turns_what_is_stored_transposed(trained):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    test, run = trained
    classifier = run.classifier(BACKENDS["numpy"]())
    session = runtime.InferenceSession(export.as_onnx(classifier, run.about))
    (logits,) = session.run(None, {"pixels": test.pixels})
    np.testing.assert_allclose(logits, classifier.evaluate(test)[0], atol=1e-4)
    about = session.get_modelmeta().custom_metadata_map
    assert about["polarity"] == "light on dark" and of_metadata(about) == PREPARATIONS["emnist"]


def test_the_folder_for_mlflow_states_what_it_takes_and_shows_upright_examples(trained, tmp_path):
    test, _ = trained
    model = tmp_path / "runs" / "turned" / "model"
    assert json.loads((model / "input_example.json").read_text()) == test.pixels[:2, 0].tolist()
    told = yaml.safe_load((model / "MLmodel").read_text())["metadata"]["images"]
    assert told == "upright, light on dark, whole numbers from 0 to 255"


def test_a_weights_file_says_how_its_images_were_made(trained, tmp_path):
    _, run = trained
    assert of_metadata(run.about) == PREPARATIONS["emnist"]
    assert (run.about["orientation"], run.about["polarity"]) == ("transposed", "light on dark")
    assert cli.main(["task=export", "run_id=turned", "tracking=none"]) == 0
    assert of_metadata(load_weights(tmp_path / "turned.safetensors")[1]) == PREPARATIONS["emnist"]


def test_what_is_written_is_read_again():
    for preparation in (*PREPARATIONS.values(), Preparation("resize", {"mode": "pad"}), Preparation("resize")):
        assert of_metadata(written(preparation)) == preparation


@pytest.mark.parametrize(
    ("dataset", "meant"),
    [("mnist", "mnist"), ("emnist-letters", "emnist"), ("digits", "digits"), ("glyphs", "glyphs"), ("mine", "emnist")],
)
def test_a_file_from_before_is_read_by_the_name_of_its_data(trained, dataset, meant):
    _, run = trained
    about = {k: v for k, v in run.about.items() if k not in ("preparation", "polarity")} | {"dataset": dataset}
    found = Classifier(run.weights, about, BACKENDS["numpy"]()).preparation
    assert found.reader() == PREPARATIONS[meant].reader()


NONE_OF_ITS_KIND = (
    *("nothing", "[]", "[1]", '{"box": 1}', '{"box": 2, "centre": "mass", "stroke": 0.1}', '{"kind": "x"}'),
    *('{"kind": 1}', '{"kind": "resize", "mode": "stretch"}', '{"kind": "resize", "box": 1}'),
)


@pytest.mark.parametrize("text", NONE_OF_ITS_KIND)
def test_metadata_that_are_no_preparation(text):
    with pytest.raises(OdysseyError, match="prepar"):
        of_metadata({"preparation": text}).reader()
