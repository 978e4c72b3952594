"""A model, a data set, an optimizer and a loss of somebody's own, in a folder outside the repository."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from stored import COMMAND, command
from test_honest import epochs

from odyssey_run.config import plugins
from odyssey_run.runs.recorded import open_folder
from odyssey_run.runs.statements import decode, sha256
from odyssey_run.tracking.records import Resume

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

FILE = Path(__file__).parents[2] / "docs" / "own_parts.py"
PLUGIN = ("--plugin", "mine.py")
PARTS = ("model=small_resnet", "data=bars", "optim=sign_momentum", "loss=softened")
RUN = (*PLUGIN, *PARTS, "tracking=none", "plots.enabled=false", "trainer.epochs=60", "trainer.checkpoint_s=0.1")
ASK = """
import sys
import numpy as np, mlflow.pyfunc
pixels = np.load("pixels.npy")
np.save("served.npy", mlflow.pyfunc.load_model("runs/one/model").predict(pixels)["probabilities"])
assert "plugin_mine" not in sys.modules
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a finished run, and nothing of the repository."""
    folder = tmp_path_factory.mktemp("outside")
    shutil.copy(FILE, folder / "mine.py")
    command(folder, *RUN, "run.name=one")
    return folder


def test_learns_and_says_what_it_was_made_with(trained):
    run = open_folder(trained / "runs" / "one")
    assert run.metrics["test/accuracy"][-1][1] > 0.95
    digest, text = sha256(FILE.read_bytes()), trained / "runs/one/plugins/mine.py"
    assert run.tags["odyssey.plugin.mine.py.sha256"] == digest
    assert text.read_bytes() == FILE.read_bytes()
    stated = decode((trained / "runs/one/statements.json").read_bytes(), "")
    assert stated["tags/odyssey.plugin.mine.py.sha256"] == stated["files/plugins/mine.py"] == digest


def test_each_part_passes_the_checks_that_ours_pass():
    from odyssey_core.data import DATASETS
    from odyssey_core.losses import LOSSES
    from odyssey_core.models import MODELS
    from odyssey_core.optim import OPTIMIZERS
    from odyssey_core.testing import check_dataset, check_model, check_optimizer

    plugins.load([str(FILE)])
    try:
        data = check_dataset(DATASETS["bars"])
        check_model(MODELS["small_resnet"], data.input_shape, data.classes, loss=LOSSES["softened"]())
        check_optimizer(OPTIMIZERS["sign_momentum"]())
    finally:
        plugins._withdraw(FILE.name)


def test_killed_and_resumed_it_comes_to_the_same_bits(trained):
    with open(trained / "out", "w") as out:
        process = subprocess.Popen(
            [*COMMAND, *RUN, "run.name=two"], cwd=trained, stdout=out, stderr=out,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
    while epochs(trained / "runs/two/journal.jsonl") < 3:
        assert process.poll() is None, (trained / "out").read_text()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (trained / "elsewhere").mkdir()
    (trained / "elsewhere" / "mine.py").write_text((trained / "mine.py").read_text().replace("1e-37", "1e-36"))
    changed = ("--plugin", "elsewhere/mine.py", *RUN[2:], "run.name=two", "resume=two")
    told = command(trained, *changed, code=2)
    assert "resume: runs/two cannot go on: the plug-in mine.py differs (SHA-256 " in told
    command(trained, *RUN, "run.name=two", "resume=two")
    one, two = (open_folder(trained / "runs" / name) for name in ("one", "two"))
    assert len(two.of(Resume)) == 1
    assert one.tags["odyssey.weights.sha256"] == two.tags["odyssey.weights.sha256"]
    assert "REPRODUCED" in command(trained, *PLUGIN, "task=verify", "run_id=two", "tracking=none")


def test_swept_over_its_own_options_killed_and_gone_on_with(trained):
    sweep = ("-m", *RUN, "model.width=4,8", "data.noise=0.2,0.4", "sweep.name=wide", "sweep.jobs=2")
    with open(trained / "out", "w") as out:
        process = subprocess.Popen(
            [*COMMAND, *sweep], cwd=trained, stdout=out, stderr=out,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
    folder = trained / "runs" / "wide"
    while not any(epochs(path) > 3 for path in folder.glob("*/journal.jsonl")):
        assert process.poll() is None, (trained / "out").read_text()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    out = command(trained, *sweep)
    assert f"odyssey-run --plugin mine.py --config-dir {folder.relative_to(trained)} experiment=best" in out
    kept = [path.relative_to(folder).as_posix() for path in folder.rglob("mine.py")]
    assert kept == ["plugins/mine.py"]  # once for all points
    out = command(trained, *PLUGIN, "task=verify", "run_id=wide", "tracking=none")
    assert out.count("REPRODUCED") == 5
    assert "the plug-in mine.py" in command(trained, "task=verify", "run_id=wide", "tracking=none", code=4)


def test_what_was_trained_is_used_without_the_plug_in(trained):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (20, 12, 12), np.uint8)
    np.save(trained / "pixels.npy", pixels)
    Image.fromarray(pixels[0]).save(trained / "first.png")
    labels, expected = open_folder(trained / "runs" / "one").predict(pixels)
    out = command(trained, "task=predict", "run_id=one", "inputs=first.png", "tracking=none")
    assert labels[0] in out
    command(trained, "task=export", "run_id=one", "format=onnx", "out=one.onnx", "tracking=none")
    onnxruntime = pytest.importorskip("onnxruntime")
    (logits,) = onnxruntime.InferenceSession(trained / "one.onnx").run(None, {"pixels": pixels[:, None]})
    odds = np.exp(logits - logits.max(1, keepdims=True))
    assert np.allclose(odds / odds.sum(1, keepdims=True), expected, atol=1e-5)
    path = os.pathsep.join(filter(None, sys.path))
    subprocess.run([sys.executable, "-c", ASK], cwd=trained, env=os.environ | {"PYTHONPATH": path}, check=True)
    assert np.array_equal(np.load(trained / "served.npy"), expected)


def test_evaluating_on_its_data_asks_for_it(trained):
    evaluate = ("task=evaluate", "run_id=one", "data.noise=0.5", "tracking=none", "plots.enabled=false")
    told = command(trained, *evaluate, code=2)
    assert "run_id: one was trained on bars: the plug-in mine.py (SHA-256 " in told
    assert "640 test images" in command(trained, *PLUGIN, *evaluate)


def test_one_character_more_and_nothing_is_reproduced(trained):
    """Neither are the kernels of the rule those that were compiled before."""
    verify = ("task=verify", "run_id=one", "tracking=none", "json=verdict.json")
    (trained / "edited").mkdir()
    text = (trained / "mine.py").read_text()
    (trained / "edited" / "mine.py").write_text(text.replace("fma(-lr, sign, p)", "fma(-lr, sign, +p)"))
    edited = ("--plugin", "edited/mine.py")
    out = command(trained, *edited, *verify, code=4)
    assert out.startswith("CANNOT")
    assert "the plug-in mine.py differs (SHA-256 " in out
    assert "the run, or its parent, keeps its text as plugins/mine.py" in out
    (trained / "edited" / "mine.py").write_text(text.replace("(1 - beta2) * g", "(2 - beta2) * g"))
    out = command(trained, *edited, *verify, "verify.any_code=true", code=3)
    assert "trained again" in out
    kept = ("--plugin", "runs/one/plugins/mine.py")
    assert "REPRODUCED" in command(trained, *kept, *verify)
