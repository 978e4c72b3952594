"""What recipes are made of, from the command line: filters from the data, groups, slow weights, views at test time."""

import numpy as np
import pytest
from quick import QUICK

from odyssey_core.checkpoint import load_weights
from odyssey_run import cli

RECIPE = (
    *QUICK,
    "model=layers",
    "model.layers=[whitening 2, max_pool 9, gelu, conv 10 3 padding 1 init dirac, batch_norm scale false, flatten, "
    "linear classes]",
    'optim.groups=[{match: "*.bias", lr: 4}]',
    "optim.momentum=0.9",
    "trainer.lookahead={every: 2, decay: 0.8, power: 1}",
    "trainer.tta=mirror",
    "data.augment={flip: alternating, crop: 1, border: reflect}",
)


@pytest.fixture
def run(tmp_path):
    assert cli.main([*RECIPE, "run.name=one"]) == 0
    return tmp_path / "runs" / "one" / "layers_weights" / "layers.safetensors"


def test_filters_from_the_data_are_found_again(run, capsys):
    weights, about = load_weights(run)
    assert about["tta"] == "mirror"
    assert np.abs(weights["whitening1_kernel"].reshape(8, 4)[:4] - np.eye(4)).max() > 0.1
    assert (weights["bn1_weight"] == 1).all() and (weights["bn1_bias"] != 0).all()
    assert cli.main(["task=verify", "run_id=one", "tracking=none"]) == 0
    assert "REPRODUCED" in capsys.readouterr().out
    assert cli.main([*RECIPE, "run.name=other", "trainer.train_size=400"]) == 0
    other, _ = load_weights(run.parents[2] / "other" / "layers_weights" / "layers.safetensors")
    assert (other["whitening1_kernel"] != weights["whitening1_kernel"]).any(), "they follow from the images trained on"


def test_an_export_says_what_it_does_with_views(run, capsys):
    assert cli.main(["task=export", "run_id=one", "tracking=none"]) == 0
    assert "the run was tested with trainer.tta=mirror" in capsys.readouterr().out
    pytest.importorskip("onnx")
    assert cli.main(["task=export", "run_id=one", "tracking=none", "format=onnx"]) == 0
    assert "the logits are a mean over views of the image, as in the run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('optim.groups=[{match: "*.biases"}]', "optim.groups[0].match: *.biases matches no parameter"),
        ("optim.groups=[{match: 1}]", "optim.groups[0].match: expected text, got 1"),
        ("trainer.ema=0.9", "trainer.lookahead: keeps slow weights, and trainer.ema an average; give one of them"),
        ("trainer.tta=twice", "trainer.tta: expected one of mirror, mirror_shift or null, got the text 'twice'"),
        ("data.augment.border=white", "data.augment.border: expected one of black, reflect, got the text 'white'"),
        ("data.augment.flip=often", "data.augment.flip: expected true or false or one of alternating"),
    ],
)
def test_mistakes_are_told_in_a_line(override, message, capsys):
    assert cli.main([*RECIPE, override]) == cli.MISTAKE
    assert message in capsys.readouterr().err
