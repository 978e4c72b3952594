"""``task=verify``: what it confirms, and what it finds out."""

import json
import re
import shutil
from pathlib import Path

import pytest
from stored import RUN, artifact, command, here, kept, restate, runs, sql

from odyssey_run import cli
from odyssey_run.runs.recorded import open_run

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

HIDDEN = {  # AVX-512 and what comes with it, where the machine has it
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+fma,+avx,+bmi,+bmi2,+popcnt,+f16c,+sse4.2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL",
    "OPENBLAS_CORETYPE": "Haswell",
}


@pytest.fixture
def verify(place, capsys, monkeypatch):
    """Verifies the run in this process; returns what was said."""
    folder, run_id = place

    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.chdir(folder)
        assert cli.main(["task=verify", f"run_id={run_id}", *arguments]) == code
        return capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a store and a run of files that can be tampered with."""
    from odyssey_characters.digits import digits

    folder = tmp_path_factory.mktemp("made")
    write_mnist(folder / "mnist", digits())
    command(folder, *RUN, "data=mnist", "data.root=mnist", "trainer.validation_size=100")
    shutil.rmtree(folder / "runs")  # MLflow alone must do
    return folder, kept(folder, tmp_path_factory.mktemp("kept") / "made")


def write_mnist(folder: Path, dataset) -> None:
    """The digits as four IDX files."""
    folder.mkdir()
    for name, images in (("train", dataset.train), ("t10k", dataset.test)):
        sizes = b"".join(n.to_bytes(4, "big") for n in (len(images), 28, 28))
        (folder / f"{name}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + images.pixels.tobytes())
        labels = images.labels.astype("u1").tobytes()
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + len(images).to_bytes(4, "big") + labels)


@pytest.fixture
def place(made):
    """The folder as it was made, and the run's id."""
    folder, restore = made
    restore()
    _, (run,) = runs(folder)
    return folder, run.info.run_id


def test_the_same_again(place, verify):
    folder, _ = place
    out = verify()
    assert "REPRODUCED" in out
    assert "and the weights over 252 steps, bit by bit" in out
    _, (run,) = runs(folder)
    assert run.data.tags["odyssey.verified"] == "REPRODUCED"
    assert not (folder / "runs").exists()


def test_other_threads_and_another_cpu(place, verify):
    folder, run_id = place
    assert "REPRODUCED" in verify("backend.threads=1")
    assert "REPRODUCED" in command(folder, "task=verify", f"run_id={run_id}", **HIDDEN)


def test_a_store_that_may_only_be_read(place, verify, monkeypatch):
    """The verdict is on the screen, in the files, and in the exit code."""
    import mlflow

    def refuse(*arguments, **rest):
        raise mlflow.exceptions.RestException({"error_code": "PERMISSION_DENIED", "message": "Permission denied"})

    monkeypatch.setattr(mlflow.MlflowClient, "create_run", refuse)
    out = verify("verify.steps=20", "badge=badge.svg", "json=verdict.json")
    assert "MLflow does not record the verdict: PERMISSION_DENIED: Permission denied\n" in out
    assert (place[0] / "badge.svg").exists()
    assert (place[0] / "verdict.json").exists()


def test_a_prefix(place, verify):
    """A run of which only a part was trained again does not carry the mark of one that was trained to its end."""
    folder, _ = place
    out = verify("verify.steps=90", "badge=badge.svg", "json=verdict.json")
    assert out.startswith("REPRODUCED to step 90")
    assert "metrics over the first 90 of 252 steps, bit by bit" in out
    assert "ended it" not in out  # it was trained as far as it was asked to
    _, (run,) = runs(folder)
    assert run.data.tags["odyssey.verified"] == "REPRODUCED to step 90"
    assert ">REPRODUCED to step 90<" in (folder / "badge.svg").read_text()
    assert json.loads((folder / "verdict.json").read_text())["steps"] == 90
    assert "REPRODUCED to" not in verify("verify.steps=252")


def test_a_prefix_without_a_metric_shows_nothing(place, verify):
    folder, _ = place
    out = verify("verify.steps=19", code=4)
    assert out.startswith("CANNOT")
    assert "verify.steps: no metric is recorded up to step 19; expected at least 20" in out
    _, (run,) = runs(folder)
    assert run.data.tags["odyssey.verified"] == "CANNOT"


def test_an_edited_metric(place, verify):
    folder, run_id = place
    sql(folder, "UPDATE metrics SET value = value + 1e-9 WHERE key = 'train/loss' AND step = 40")
    out = verify(code=3)
    assert "DIFFERS" in out
    assert "metrics/train/loss at step 40: stated " in out
    assert runs(folder)[1][0].data.tags["odyssey.verified"] == "DIFFERS"

    def tell(records):
        for record in records:
            if record["kind"] == "metrics" and record["step"] == 40 and "train/loss" in record["values"]:
                record["values"]["train/loss"] += 1e-9

    restate(folder, run_id, tell)  # so that only training again can tell
    out = verify(code=3)
    assert "DIFFERS" in out
    assert "train/loss at step 40: recorded " in out
    assert "(-1e-09)" in out


def test_edited_weights(place, verify):
    from odyssey_core.checkpoint import load_weights, save_weights

    folder, run_id = place
    path = artifact(folder, run_id, "mlp_weights/mlp.safetensors")
    arrays, about = load_weights(path)
    arrays["fc1_weights"] = arrays["fc1_weights"].copy()
    arrays["fc1_weights"][0, 0] += 1
    save_weights(path, arrays, about)
    assert "files/mlp_weights/mlp.safetensors: stated " in verify(code=3)
    shutil.copy(path, artifact(folder, run_id, "model/weights.safetensors"))
    restate(folder, run_id)
    assert "weights fc1_weights in mlp_weights/mlp.safetensors: differ by up to 1\n" in verify(code=3)


def test_metadata_of_weights_that_are_named_as_the_weights(place, verify):
    from odyssey_core.checkpoint import load_weights, save_weights

    folder, run_id = place
    path = artifact(folder, run_id, "mlp_weights/mlp.safetensors")
    arrays, about = load_weights(path)
    named = "weights fc1_weights"
    save_weights(path, arrays, about | {named: f"float32 {arrays['fc1_weights'].shape}"})
    shutil.copy(path, artifact(folder, run_id, "model/weights.safetensors"))
    restate(folder, run_id)
    assert f"metadata {named} in mlp_weights/mlp.safetensors: recorded float32 " in verify(code=3)


def test_a_flipped_byte_in_the_data(place, verify):
    folder, _ = place
    path = folder / "mnist" / "train-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    out = verify("data=mnist", f"data.root={folder}/mnist", code=4)
    assert "CANNOT" in out
    assert "the data differs" in out


def test_the_same_data_in_another_folder(place, verify):
    folder, _ = place
    (folder / "mnist").rename(folder / "elsewhere")
    assert "REPRODUCED" in verify("data=mnist", f"data.root={folder}/elsewhere")


def test_a_changed_line_of_our_code(place):
    import odyssey_core

    folder, run_id = place
    copy = folder / "source"
    for package in ("odyssey_core", "odyssey_run"):
        source = Path(odyssey_core.__file__).parents[1] / package
        shutil.copytree(source, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(Path(odyssey_core.__file__).parents[1] / "conf", copy / "odyssey_run" / "conf")
    path = copy / "odyssey_run" / "training" / "trainer.py"
    changed = path.read_text().replace("self.config.batch_size, self.seed, state.epoch", "self.config.batch_size, 1, 0")
    assert changed != path.read_text()
    path.write_text(changed)
    out = command(folder, "task=verify", f"run_id={run_id}", code=4, PYTHONPATH=str(copy))
    assert "CANNOT" in out
    assert "the code differs" in out
    out = command(folder, "task=verify", f"run_id={run_id}", "verify.any_code=true", code=3, PYTHONPATH=str(copy))
    assert "train/loss at step 20: recorded " in out
    assert "the code differs" in out


def test_a_run_under_seeds_is_verified_run_by_run(tmp_path):
    command(tmp_path, *RUN, "seeds=2", "trainer.max_steps=40", "run.name=two")
    _, found = runs(tmp_path)
    (parent,) = [run for run in found if "odyssey.seeds" in run.data.tags]
    code, out = here(tmp_path, "task=verify", f"run_id={parent.info.run_id}")
    assert (code, out.count("REPRODUCED")) == (0, 3), out
    assert "its 2 runs, and what follows from them" in out
    # MLflow gives all three the name that was chosen.
    assert re.findall(r"^REPRODUCED  (.*)  ", out, re.M) == ["two seed=0", "two seed=1", "two"]
    assert {run.data.tags["odyssey.verified"] for run in runs(tmp_path)[1]} == {"REPRODUCED"}


def test_a_run_that_a_time_budget_ended_is_replayed_to_its_last_step(tmp_path):
    command(tmp_path, *RUN, "trainer.epochs=100000", "trainer.time_budget_s=0.3")
    _, (run,) = runs(tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    steps = int(open_run(folder).tags["odyssey.step"])
    code, out = here(tmp_path, "task=verify", f"run_id={run.info.run_id}")
    assert (code, f"{steps:,} steps" in out) == (0, True), out


def test_mistakes(tmp_path, mistake):
    (line,) = mistake("task=verify")
    assert line == "task=verify needs run_id=VALUE; odyssey-run --help task=verify says what it is"
    (line,) = mistake("task=verify", "run_id=abc")
    assert line.endswith("mlflow.db, which does not exist; set tracking.uri")
    (line,) = mistake("task=verify", "run_id=abc", "verify.step=3")
    assert line.startswith("unknown key verify.step; verify has steps, any_code; did you mean verify.steps?")


def test_the_reference_backend_is_held_to_a_tolerance(tmp_path):
    assert cli.main([*RUN, "backend=numpy", "trainer.max_steps=40"]) == 0
    _, (run,) = runs(tmp_path)
    code, out = here(tmp_path, "task=verify", f"run_id={run.info.run_id}")
    assert (code, "to a relative 0.001 (backend numpy promises no bits)" in out) == (0, True), out
