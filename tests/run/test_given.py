"""Objects beside the overrides: a class, arrays, a data set, hooks; and one clear exception for what is wrong."""

import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from quick import QUICK

import odyssey_run
from odyssey_core import Module, OdysseyError, nn, ops
from odyssey_core.data import DATASETS
from odyssey_run.api.given import _written
from odyssey_run.config import plugins
from odyssey_run.config.command_line import typed

REST = QUICK[1:]
WIDE = 3


class Small(Module):
    def __init__(self, input_shape, classes, width: int = WIDE):
        self.first = nn.Linear(input_shape[0] * input_shape[1] * input_shape[2], width)
        self.last = nn.Linear(width, classes)

    def forward(self, x):
        return self.last(ops.relu(self.first(ops.flatten(x))))


class Wrong(Module):
    def __init__(self, input_shape, classes):
        self.fc = nn.Linear(input_shape[5], classes)


class Short(Module):
    def __init__(self, classes):
        pass


@dataclass
class Until(odyssey_run.Hook):
    epoch: int = 9
    note: str = ""

    def on_epoch_end(self, state):
        if state.epoch == self.epoch:
            state.stop(self.note)


class Forgets(odyssey_run.Hook):
    def __init__(self, epoch: int):
        pass


class Keeps(odyssey_run.Hook):
    def __init__(self, values):
        self.values = values


@pytest.fixture(autouse=True)
def none_left_over():
    yield
    for name in [*plugins._loaded]:
        plugins._withdraw(name)


def test_a_class_is_trained_with_its_options_and_recorded(tmp_path):
    run = odyssey_run.train(*QUICK, "model.width=4", model=Small)
    assert run.classifier().parameters["first.weight"].shape == (4, 784)
    text = (run.folder / "plugins" / "Small.py").read_text()
    assert "\nWIDE = 3\n" in text
    assert text.endswith("register.model(Small)\n")
    assert run.config["model"]["name"] == "Small"


def test_a_hook_is_made_again_with_the_options_of_the_object():
    run = odyssey_run.train(
        *QUICK[:-1], "model=linear", "trainer.epochs=4", hooks=[Until(epoch=2, note="it's \\ 'enough'"), Until]
    )
    assert run.config["hooks"] == [
        {"name": "Until", "epoch": 2, "note": "it's \\ 'enough'"}, {"name": "Until"},
    ]  # fmt: skip
    assert len(run.history) == 2
    assert [row["epoch"] for row in run.history] == [1, 2]


@pytest.mark.parametrize("text", ["a'b", 'a"b', "\\", "a\\'", "", "x=3, [y", "null", "1"])
def test_options_are_written_as_overrides_read_them(text):
    value = {"name": text, "list": [1, 2.5e-7, None, True, -3]}
    assert typed("hooks", _written([value]), {}).value == [value]


ARRAYS = np.zeros((4, 3, 3), np.uint8), np.arange(4) % 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "lenet5"}, r'model: expected a class or a function; a model that has a name is "model=lenet5"'),
        ({"model": Small((1, 2, 2), 3)}, r"model: expected the class itself, model=Small; its options are overrides"),
        ({"model": dict}, r"model: expected a class derived from odyssey_core\.Module or a function .*, got <class"),
        ({"model": Short}, r"Short\.py, line \d+: model 'Short': its signature must take input_shape, which the"),
        ({"model": Wrong}, r"Wrong\.py, line \d+: IndexError: tuple index out of range"),
        ({"hooks": Until}, r"hooks: expected a list, got .*; one alone is hooks=\[\.\.\.\]"),
        ({"hooks": [print]}, r"hooks\[0\]: expected a class derived from odyssey_run\.Hook or an object of one, got"),
        ({"hooks": [Forgets(3)]}, r"hooks\[0\]: Forgets does not say what epoch it was made with; keep it as self"),
        ({"hooks": [Keeps(np.zeros(3))]}, r"hooks\[0\]\.values: expected a plain value, got array"),
        ({"hooks": [Until(epoch="x")]}, r"hooks\[0\]\.epoch: expected an integer, got the text 'x'"),
        ({"data": "digits"}, r"data: expected \(images, labels\), .*, got str"),
        ({"data": ARRAYS[:1]}, r"data: expected \(images, labels\), .*, got tuple"),
        ({"data": (ARRAYS[0] / 255, ARRAYS[1])}, r"data: images: expected whole numbers from 0 to 255, .* got float64"),
        ({"data": (ARRAYS[0][0], ARRAYS[1])}, r"data: images: expected .* got uint8 of shape \(3, 3\) from 0 to 0"),
        ({"data": (ARRAYS[0], ARRAYS[1][:3])}, r"data: expected one label an image, got 4 images and 3 labels"),
        ({"data": (ARRAYS[0], ARRAYS[1] / 2)}, r"data: labels: expected whole numbers or names, \(N,\), got float64"),
        ({"data": (ARRAYS[0], np.array([None] * 4))}, r"data: labels: expected whole numbers or names, .* got object"),
    ],
)  # fmt: skip
def test_a_wrong_object_gets_one_exception_without_the_way_through_the_program(tmp_path, arguments, message):
    rest = [text for text in QUICK if text.partition("=")[0] not in arguments]
    with pytest.raises(OdysseyError, match=f"^{message}") as raised:
        odyssey_run.train(*rest, **arguments)
    assert len(traceback.extract_tb(raised.value.__traceback__)) == 2
    assert raised.value.__suppress_context__
    assert not (tmp_path / "runs").exists()


def test_a_variable_of_the_function_around_a_class_has_no_source():
    width = 3

    class Inside(Module):
        def __init__(self, input_shape, classes):
            self.fc = nn.Linear(width, classes)

    with pytest.raises(OdysseyError, match=r"^Inside: width is not defined in test_given outside of functions"):
        odyssey_run.train(*QUICK, model=Inside)


class Empty(Module):
    def __init__(self, input_shape, classes):
        self.fc = nn.Linear(3, classes)


def test_a_model_without_forward_is_told_what_to_define():
    with pytest.raises(
        OdysseyError, match=r"^Empty: define forward\(self, x\), which returns what the model makes of x"
    ):
        odyssey_run.train(*QUICK, model=Empty)


@pytest.mark.parametrize("name", ["model", "data", "hooks"])
def test_what_is_given_twice_is_refused(name):
    values = {"model": Small, "data": ARRAYS, "hooks": [Until]}
    with pytest.raises(OdysseyError, match=rf"^{name} is given twice: as an argument and as an override"):
        odyssey_run.train(*REST, f"{name}=x", **{name: values[name]})


def test_a_data_set_given_as_an_object_trains_to_the_same_bits():
    digits = DATASETS["digits"]()
    named, given = odyssey_run.train("data=digits", *REST), odyssey_run.train(*REST, data=digits)
    for tag in ("odyssey.weights.sha256", "odyssey.data.sha256"):
        assert given.tags[tag] == named.tags[tag]
    assert given.config["data"]["classes"] == list(digits.class_names)


def test_arrays_are_a_file_that_comes_back_when_they_are_given_again(monkeypatch, tmp_path):
    monkeypatch.setenv("ODYSSEY_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    pair = rng.integers(0, 256, (60, 5, 4, 3)), [("cat", "dog")[i % 2] for i in range(60)]
    test = rng.integers(0, 256, (20, 5, 4, 3)), ["dog", "cat"] * 10
    request = odyssey_run.compose("model=linear", data=(pair, test))
    dataset, file = request.data.build(), Path(request.config["data"]["file"])
    assert dataset.input_shape == (3, 5, 4)
    assert (len(dataset.train), len(dataset.test), dataset.class_names) == (60, 20, ("cat", "dog"))
    np.testing.assert_array_equal(dataset.test.pixels, test[0].transpose(0, 3, 1, 2))
    file.unlink()
    again = odyssey_run.compose("model=linear", "data.mean=0.5", data=(pair, test))
    assert again.config["data"]["file"] == str(file)
    assert (again.data.build().digest, again.config["data"]["mean"]) == (dataset.digest, 0.5)


def two_classes():
    return DATASETS["digits"]()


def test_a_function_that_returns_a_data_set_is_a_plug_in(tmp_path):
    run = odyssey_run.train(*REST, data=two_classes)
    assert run.config["data"]["name"] == "two_classes"
    assert (run.folder / "plugins" / "two_classes.py").is_file()


@pytest.fixture
def linear():
    return odyssey_run.train(*QUICK, "model=linear", "trainer.log_every=2")


def test_confusion_counts_what_is_taken_for_what(linear):
    test = DATASETS["digits"]().test
    matrix = linear.confusion(test.pixels, test.labels)
    names, _ = linear.predict(test.pixels)
    assert matrix.sum() == len(test)
    assert matrix[3, 5] == sum(label == 3 and name == "5" for label, name in zip(test.labels, names, strict=True))
    np.testing.assert_array_equal(linear.confusion(test.pixels, [str(label) for label in test.labels]), matrix)
    for wrong in (test.labels[:-1], test.labels + 1, test.labels / 2, ["x"] * len(test)):
        with pytest.raises(OdysseyError, match=r"^labels: expected 360 numbers from 0 to 9, or names of classes, got"):
            linear.confusion(test.pixels, wrong)


def test_the_history_has_a_row_for_each_epoch(linear):
    (row,) = linear.history
    assert (row["epoch"], row["step"]) == (1, 3)
    for name in ("train/loss", "train/lr", "train/epoch_loss", "val/loss", "val/accuracy"):
        assert row[name] == linear.metrics[name][-1][1]
    assert not [name for name in row if name.startswith(("test/", "time/", "system/"))]


def test_a_notebook_shows_a_run(linear):
    assert f"<b>{linear.name}</b>: FINISHED, test accuracy" in linear._repr_html_()


def test_public_names_are_there_and_listed():
    import odyssey_core

    for package in (odyssey_core, odyssey_run):
        assert set(package.__all__) <= set(dir(package))
        assert all(getattr(package, name) is not None for name in package.__all__)
        assert (Path(package.__file__).parent / "py.typed").is_file()
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            package.nothing  # noqa: B018
