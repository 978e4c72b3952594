"""What can be done with a run, and with a model or a data set before there is one."""

import re
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from idx_files import small_files
from quick import QUICK
from safetensors.numpy import load_file
from stored import here

import odyssey_run
from odyssey_core.backends import BACKENDS
from odyssey_core.data import DATASETS, Images
from odyssey_core.errors import DataError
from odyssey_run import cli
from odyssey_run.config.schema import TrackingConfig
from odyssey_run.runs import recorded
from odyssey_run.tasks.evaluate import fitted

NONE = TrackingConfig("none", None, None, None)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a run on digits."""
    folder = tmp_path_factory.mktemp("made")
    code, said = here(folder, *QUICK, "run.name=one")
    assert code == 0, said
    return folder / "runs"


@pytest.fixture
def trained(tmp_path, made):
    """A copy of it, where the test runs; the run's name."""
    shutil.copytree(made, tmp_path / "runs")
    return "one"


def test_evaluate_finds_what_training_found(trained, tmp_path):
    command = ["task=evaluate", f"run_id={trained}", "backend=numpy", "tracking=none"]
    assert cli.main(command) == 0
    (folder,) = (tmp_path / "runs").glob("one-on-digits-*")
    again, before = recorded.open_folder(folder), recorded.find(trained, NONE)
    for name in ("test/accuracy", "test/loss"):
        assert again.metrics[name] == [(3, pytest.approx(before.metrics[name][0][1], rel=1e-6))]
    assert again.start.parent == before.key
    assert {path.name for path in folder.iterdir()} >= {"report.html", "plots"}


def test_evaluate_turns_images_and_renames_classes(trained):
    classifier = recorded.find(trained, NONE).classifier(BACKENDS["numpy"]())
    digits = DATASETS["digits"]()
    classifier.class_names = tuple("x0123456789")
    stored = Images(np.ascontiguousarray(np.swapaxes(digits.test.pixels, 2, 3)), digits.test.labels)
    images = fitted(replace(digits, test=stored, orientation="transposed"), classifier)
    assert (images.pixels == digits.test.pixels).all()
    assert (images.labels == digits.test.labels + 1).all()
    classifier.class_names = tuple("12345678")
    with pytest.raises(DataError, match="the model knows the classes 12345678, not 09; choose data"):
        fitted(digits, classifier)
    classifier.class_names = ("zero", "one")
    with pytest.raises(DataError, match="the model knows the classes zero, one, not 0123456789; choose data"):
        fitted(digits, classifier)


def test_evaluate_and_verify_set_keys_of_the_runs_own_data(tmp_path, capsys):
    small_files(tmp_path / "a", "emnist-digits", [0, 1, 2, 3] * 5)
    small_files(tmp_path / "b", "emnist-digits", [0, 1, 2, 3, 4])
    short = ("backend=numpy", "tracking=none", "plots.enabled=false")
    command = (
        "data=emnist",
        "data.split=digits",
        f"data.root={tmp_path / 'a'}",
        "model=linear",
        "trainer.batch_size=4",
    )
    assert cli.main([*command, *short, "trainer.validation_size=0", "trainer.max_steps=2", "run.name=small"]) == 0
    capsys.readouterr()
    assert cli.main(["task=evaluate", "run_id=small", f"data.root={tmp_path / 'b'}", *short]) == 0
    assert "emnist-digits  5 test images" in capsys.readouterr().out
    assert cli.main(["task=evaluate", "run_id=small", "data.rot=x", *short]) == cli.MISTAKE
    assert "unknown key data.rot" in capsys.readouterr().err
    assert cli.main(["task=evaluate", "run_id=smal", "data.root=x", *short]) == cli.MISTAKE
    assert "no run 'smal'" in capsys.readouterr().err
    assert cli.main(["task=verify", "run_id=small", f"data.root={tmp_path / 'a'}", *short]) == 0
    assert cli.main(["task=verify", "run_id=small", f"data.root={tmp_path / 'b'}", *short]) == 4
    assert "the data differs" in capsys.readouterr().out


def test_evaluate_asks_nothing_of_a_class_without_images(trained):
    classifier = recorded.find(trained, NONE).classifier(BACKENDS["numpy"]())
    digits = DATASETS["digits"]()
    classifier.class_names = tuple("01234567")
    few = digits.test.labels < 8
    images = fitted(replace(digits, test=Images(digits.test.pixels[few], digits.test.labels[few])), classifier)
    assert (images.labels == digits.test.labels[few]).all()


def test_predict_without_files(trained, capsys):
    capsys.readouterr()
    assert cli.main(["task=predict", f"run_id={trained}", "inputs=letters/*.png", "tracking=none"]) == cli.MISTAKE
    assert capsys.readouterr().err == "odyssey-run: inputs: no file matches 'letters/*.png'\n"


def test_show_counts_parameters_and_work(capsys):
    assert cli.main(["task=show", "data=digits", "tracking=none", "show.listing=true"]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()[1:14]}
    assert rows["conv2"] == ["16×8×8", "2,416", f"{2 * 16 * 64 * 150 / 1e6:.3f}"]
    assert rows["fc3"] == ["10", "850", "0.002"]
    assert rows["all"][0] == "44,426"
    assert "training     1.517 MFLOP an image" in out
    assert re.search(
        r"memory       [\d.]+ MiB in a training step: parameters [\d.]+, sums and packed weights [\d.]+, "
        r"gradients [\d.]+, scratch [\d.]+",
        out,
    )
    assert "gradient_descent grads=" in out


def test_data_counts_and_draws(tmp_path, capsys):
    assert cli.main(["task=data", "data=digits", "tracking=none"]) == 0
    out = capsys.readouterr().out
    assert "digits: 1,437 train, 360 test, 1×28×28" in out
    counts = [int(line.split()[1]) for line in out.splitlines() if len(line.split()) == 3 and line[0].isdigit()]
    assert (len(counts), sum(counts)) == (10, 1437)
    assert (tmp_path / "digits.png").exists()


def test_ui_without_runs(capsys):
    assert cli.main(["task=ui"]) == cli.MISTAKE
    assert "no runs yet in" in capsys.readouterr().err
    assert cli.main(["task=ui", "tracking.uri=http://127.0.0.1:1"]) == 0
    assert "http://127.0.0.1:1/#/experiments?workflowType=machine_learning" in capsys.readouterr().out


def test_export_for_torch_has_the_names_and_shapes_of_its_modules(trained, tmp_path):
    assert cli.main(["task=export", f"run_id={trained}", "tracking=none"]) == 0
    arrays = load_file(tmp_path / "one.safetensors")
    assert {name: value.shape for name, value in arrays.items() if name.endswith("weight")} == {
        "conv1.weight": (6, 1, 5, 5), "conv2.weight": (16, 6, 5, 5),
        "fc1.weight": (120, 256), "fc2.weight": (84, 120), "fc3.weight": (10, 84),
    }  # fmt: skip


def test_export_for_torch_says_what_the_net_takes(trained, capsys):
    capsys.readouterr()
    assert cli.main(["task=export", f"run_id={trained}", "tracking=none"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "it takes (pixels / 255 - 0) / 1, float32 (N, 1, 28, 28)",
        "images are upright, light on dark; 10 classes: 0123456789",
    ]


def test_export_for_onnx_agrees_with_its_runtime(trained, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    command = ["task=export", f"run_id={trained}", "format=onnx", "tracking=none"]
    assert cli.main(command) == 0
    digits = DATASETS["digits"]()
    (logits,) = runtime.InferenceSession(tmp_path / "one.onnx").run(None, {"pixels": digits.test.pixels})
    ours, _ = recorded.find(trained, NONE).classifier(BACKENDS["numpy"]()).evaluate(digits.test)
    np.testing.assert_allclose(logits, ours, atol=1e-5)


def test_export_for_onnx_without_its_package(trained, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert cli.main(["task=export", f"run_id={trained}", "format=onnx", "tracking=none"]) == cli.MISTAKE
    assert "pip install 'ml-odyssey[onnx]'" in capsys.readouterr().err


def test_public_names():
    names = ["EpochEnd", "Hook", "OdysseyError", "RecordedRun", "Request", "UnfinishedRun", "compose", "load", "train"]
    assert odyssey_run.__all__ == names
    assert dir(odyssey_run) == sorted([*names, "__version__"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", odyssey_run.__version__)
    for name in odyssey_run.__all__:
        assert getattr(odyssey_run, name).__doc__
    with pytest.raises(AttributeError, match="module 'odyssey_run' has no attribute 'trian'"):
        odyssey_run.trian  # noqa: B018


def test_prediction_takes_arrays_and_lists_and_refuses_the_rest_in_one_line(trained):
    run = odyssey_run.load(trained, "tracking=none")
    images = DATASETS["digits"]().upright_test.pixels[:2]
    labels, _ = run.predict(images)
    for same in (images[:, 0], images.tolist(), images[:, 0].tolist(), images.astype(np.float64)):
        assert run.predict(same)[0] == labels
    for wrong, says in (
        (images / 255, "got fractions; multiply pixels"),
        ((images > 127).astype(float), "got float64 from 0 to 1; multiply by 255"),
        ([1, 2, 3], r"N at least 1, got shape \(3,\)"),
        ([[1, 2], [3]], "got lists of different lengths"),
        ("two.png", "got <U7 of shape"),
        (None, "got object of shape"),
        ([], r"got shape \(0,\)"),
    ):
        with pytest.raises(DataError, match=says) as caught:
            run.predict(wrong)
        assert "\n" not in str(caught.value)
