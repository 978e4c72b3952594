"""Files that were damaged, and files that somebody else made: nothing is used silently, nothing is a traceback."""

import errno
import json
import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from journals import lines
from stored import artifact, copied, kept, restate, runs

from odyssey_core.checkpoint import CONTENT, load_weights, save_weights
from odyssey_core.errors import DataError, OdysseyError
from odyssey_run import api, cli
from odyssey_run.runs.folder import CONFIG
from odyssey_run.runs.recorded import open_folder, open_run
from odyssey_run.runs.statements import end_dead
from odyssey_run.tracking.names import JOURNAL, Status
from odyssey_run.tracking.records import End, Sent
from odyssey_run.training import resume

pytestmark = pytest.mark.filterwarnings("ignore")

RUN = ("plots.enabled=false", "data=digits", "model=mlp", "trainer.validation_size=100", "trainer.log_every=5")
RUN += ("optim=adam", "run.dir=run", "backend.threads=1")
STEPS, CASES = 40, 60


def damage(content: bytes, seed: int) -> bytes:
    """One bit, a block of noughts, a piece cut off, a piece of itself put elsewhere, something between, or nothing."""
    draw = random.Random(seed)
    place, size = draw.randrange(len(content)), draw.randrange(1, 200)
    return (
        content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :],
        content[:place] + bytes(size) + content[place + size :],
        content[:place],
        content[:place] + content[:size] + content[place + size :],
        content[:place] + draw.randbytes(size) + content[place:],
        b"",
    )[seed % 6]


def weights_of(folder: Path) -> dict[str, bytes]:
    return {name: w.tobytes() for name, w in load_weights(folder / "mlp_weights" / "mlp.safetensors")[0].items()}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was killed with two checkpoints, and the weights that it ends with where nothing happens."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        steps = f"trainer.max_steps={STEPS}"
        assert cli.main([*RUN, steps, "run.dir=whole", "tracking=none"]) == 0

        class Killed(BaseException):
            """As kill -9: nothing more is written."""

        saves, whole = [], resume.save

        def save(*arguments: object) -> None:
            whole(*arguments)
            saves.append(1)
            if len(saves) == 3:
                raise Killed

        patch.setattr(resume, "save", save)
        patch.setattr("odyssey_run.runs.recorder.RunRecorder._fail", lambda self, error: None)
        with pytest.raises(Killed):
            cli.main([*RUN, steps, "trainer.checkpoint_s=0", "tracking=none"])
    return folder / "run", weights_of(folder / "whole")


def resumed(folder: Path, capsys) -> tuple[int, str]:
    steps = f"trainer.max_steps={STEPS}"
    code = cli.main([*RUN, steps, "trainer.checkpoint_s=0", "tracking=none", "resume=auto"])
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.mark.parametrize("case", range(CASES // 2))
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path, stopped, case, capsys):
    folder, weights = stopped
    shutil.copytree(folder, tmp_path / "run")
    path = tmp_path / "run" / resume.CHECKPOINT
    path.write_bytes(damage(path.read_bytes(), case))
    code, said = resumed(tmp_path / "run", capsys)
    assert code == 0, said
    assert "the checkpoint before it is used" in said
    assert weights_of(tmp_path / "run") == weights


def test_a_full_disk_after_a_damaged_checkpoint_leaves_the_whole_one(tmp_path, stopped, capsys, monkeypatch):
    folder, weights = stopped
    shutil.copytree(folder, tmp_path / "run")
    whole = (tmp_path / "run" / resume.BEFORE).read_bytes()
    path = tmp_path / "run" / resume.CHECKPOINT
    path.write_bytes(path.read_bytes()[:-1])

    class Killed(BaseException):
        """As kill -9: nothing more is written."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(resume, "save_weights", full)
        patch.setattr("odyssey_run.training.trainer.Trainer._validate", killed)
        patch.setattr("odyssey_run.runs.recorder.RunRecorder._fail", lambda self, error: None)
        with pytest.raises(Killed):
            resumed(tmp_path / "run", capsys)
    said = capsys.readouterr().out
    assert "the checkpoint before it is used" in said
    assert "no checkpoint could be written" in said
    assert [p.read_bytes() for p in (tmp_path / "run").glob("checkpoint*")] == [whole]
    assert resumed(tmp_path / "run", capsys)[0] == 0
    assert weights_of(tmp_path / "run") == weights


def test_without_a_whole_checkpoint_the_run_is_left_as_it_was(tmp_path, stopped, capsys):
    folder, weights = stopped
    shutil.copytree(folder, tmp_path / "run")
    for name in (resume.CHECKPOINT, resume.BEFORE):
        (tmp_path / "run" / name).write_bytes(b"no")
    before = (tmp_path / "run" / JOURNAL).read_bytes()
    code, said = resumed(tmp_path / "run", capsys)
    assert code == cli.MISTAKE
    assert said.count("\n") == 1
    assert "remove what is damaged to begin again at step 0" in said
    assert (tmp_path / "run" / JOURNAL).read_bytes() == before
    for name in (resume.CHECKPOINT, resume.BEFORE):
        (tmp_path / "run" / name).unlink()
    assert resumed(tmp_path / "run", capsys)[0] == 0
    assert weights_of(tmp_path / "run") == weights


@pytest.mark.parametrize("how", ["resumed", "ended"])
def test_a_configuration_that_a_power_cut_emptied_is_written_again(tmp_path, stopped, how, capsys):
    folder, _ = stopped
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / CONFIG).write_bytes(b"")
    if how == "resumed":
        assert resumed(tmp_path / "run", capsys)[0] == 0
    else:
        assert end_dead(tmp_path / "run", Status.KILLED, "died")
    assert (tmp_path / "run" / CONFIG).read_bytes() == (folder / CONFIG).read_bytes()


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path, stopped, capsys):
    folder, _ = stopped
    shutil.copytree(folder, tmp_path / "run")
    for name in (resume.CHECKPOINT, resume.BEFORE):
        arrays, about = load_weights(tmp_path / "run" / name)
        save_weights(tmp_path / "run" / name, arrays, about | {"config_sha256": "0"})
    code, said = resumed(tmp_path / "run", capsys)
    assert code == cli.MISTAKE
    assert "belongs to a run with another configuration" in said


def test_a_new_run_reads_no_checkpoint(tmp_path, stopped, mistake):
    (tmp_path / "run").mkdir()
    shutil.copy(stopped[0] / resume.CHECKPOINT, tmp_path / "run")
    (line,) = mistake(*RUN, "tracking=none")
    assert line == "run.dir: run already holds other files (checkpoint.safetensors); choose another"


@pytest.mark.parametrize("case", range(CASES // 2))
def test_damaged_weights_answer_nothing(tmp_path, stopped, case, capsys):
    shutil.copytree(stopped[0].parent / "whole", tmp_path / "whole")
    (tmp_path / "photo.png").touch()
    path = tmp_path / "whole" / "mlp_weights" / "mlp.safetensors"
    path.write_bytes(damage(path.read_bytes(), case))
    with pytest.raises(DataError, match="it was changed or damaged after the run"):
        open_folder(tmp_path / "whole")
    with pytest.raises(DataError, match="cannot"):
        load_weights(path)
    for task in ("task=evaluate", "task=export format=torch", "task=predict inputs=photo.png"):
        assert cli.main([*task.split(), "run_id=whole", "tracking=none"]) == cli.MISTAKE
        said = capsys.readouterr().err
        assert "it was changed or damaged after the run" in said
        assert "Traceback" not in said


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_config", '{"foo": 1}'), ("model_config", "[]"), ("model_config", '{"hidden": "x"}'), ("mean", "nan"),
        ("mean", "inf"), ("std", "0"), ("std", "-1"), ("input_shape", "[28, 28]"), ("input_shape", "[1, 0, 28]"),
        ("input_shape", "[1, 100000, 100000]"), ("input_shape", '["1", 28, 28]'), ("class_names", "[1, 2]"),
        ("class_names", "[]"), ("class_names", "3"), ("orientation", "sideways"), ("model", "lenet6"),
        ("preparation", "{}"), ("preparation", "["),
    ],
)  # fmt: skip
def test_metadata_that_say_nothing_of_use_are_one_line(stopped, key, value):
    from odyssey_core.classifier import Classifier

    arrays, about = load_weights(stopped[0].parent / "whole" / "mlp_weights" / "mlp.safetensors")
    with pytest.raises(OdysseyError) as error:
        Classifier(arrays, about | {key: value})
    assert len(str(error.value).splitlines()) == 1


def test_weights_that_are_no_numbers_are_one_line(stopped):
    from odyssey_core.classifier import Classifier

    arrays, about = load_weights(stopped[0].parent / "whole" / "mlp_weights" / "mlp.safetensors")
    arrays["fc1_bias"] = np.full_like(arrays["fc1_bias"], np.nan)
    with pytest.raises(DataError, match=r"weights fc1\.bias: not all are finite numbers"):
        Classifier(arrays, about)


def test_a_served_model_whose_weights_are_another_runs_is_refused(tmp_path, stopped):
    from odyssey_run.tracking.serving import _load_pyfunc

    whole, other = stopped[0].parent / "whole" / "model", tmp_path / "other.safetensors"
    config = yaml.safe_load((whole / "MLmodel").read_text())["flavors"]["python_function"]["config"]
    _load_pyfunc(str(whole / "weights.safetensors"), config)
    arrays, about = load_weights(whole / "weights.safetensors")
    save_weights(other, arrays | {"fc1_bias": arrays["fc1_bias"] + 1}, about)  # whole by itself
    with pytest.raises(DataError, match=r"MLmodel has .*; it was changed"):
        _load_pyfunc(str(other), config)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a run that MLflow has, and what undoes all that is done there."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        assert cli.main([*RUN[:-2], "run.name=one", "trainer.max_steps=10", "backend.threads=1"]) == 0
    return folder, kept(folder, tmp_path_factory.mktemp("kept") / "store")


@pytest.fixture
def store(made):
    """The folder as it was made."""
    folder, restore = made
    restore()
    return folder


NASTY = ("", "abc", "-1", "nan", "1e999", "[]", "{}", "null", '"\\ud800"', "[" * 5000, "../../x", "$x^{", "\x00")
CONFIGS = (b"\xff\xfe", b"- a\n- b\n", b"a: [", b"", b"3", b"&a [*a]", b"? !!python/name:os.system", b"[" * 3000)


def twisted(value: object, draw: random.Random) -> object:
    """A value of a journal with one part of it replaced, removed or added."""
    inside: object = value
    while True:
        keys = list(inside) if isinstance(inside, dict) else []
        key = draw.choice(keys) if keys else None
        if key is None:
            return value
        if isinstance(inside[key], dict) and inside[key] and draw.random() < 0.8:
            inside = inside[key]
            continue
        if draw.random() < 0.3:
            del inside[key]
        else:
            inside[key] = draw.choice([None, 3, -1, 1e300, [], {}, "x", draw.choice(NASTY), [[]], True])
        return value


def foreign(folder: Path, run_id: str, case: int) -> None:
    """Makes something of a run that no run of this program would be."""
    draw = random.Random(case)
    weights = artifact(folder, run_id, "mlp_weights/mlp.safetensors")
    if case % 4 == 0:
        path = artifact(folder, run_id, draw.choice([JOURNAL, "statements.json", "config.yaml"]))
        path.write_bytes(damage(path.read_bytes(), case // 4))
        return
    if case % 4 == 1:
        artifact(folder, run_id, "config.yaml").write_bytes(CONFIGS[case // 4 % len(CONFIGS)])
    elif case % 4 == 2:
        arrays, about = load_weights(weights)
        del about[CONTENT]  # made again when it is saved
        about[draw.choice(sorted(about))] = draw.choice(NASTY)
        if draw.random() < 0.3:
            arrays[draw.choice(sorted(arrays))] = np.full((2, 3), np.nan, np.float32)
        save_weights(weights, arrays, about)
        shutil.copy(weights, artifact(folder, run_id, "model/weights.safetensors"))
    with suppress(OdysseyError, KeyError, TypeError, ValueError, AttributeError):  # what cannot even be stated
        restate(
            folder, run_id, (lambda records: twisted(draw.choice(records), draw)) if case % 4 == 3 else lambda r: None
        )


@pytest.mark.slow
@pytest.mark.parametrize("case", range(CASES))
def test_foreign_evidence_is_answered_in_lines(store, case, capsys, monkeypatch):
    monkeypatch.chdir(store)
    client, (run,) = runs(store)
    foreign(store, run.info.run_id, case)
    shutil.rmtree(store / "runs")
    for task in ("task=verify", "task=export format=torch out=x"):
        code = cli.main([*task.split(), f"run_id={run.info.run_id}", "backend.threads=1"])
        assert code in (2, 3, 4) or task != "task=verify", capsys.readouterr().out
    if client.get_run(run.info.run_id).data.tags.get("odyssey.verified") == "REPRODUCED":
        pytest.fail(capsys.readouterr().out)
    # The same in a folder, where a run that may be gone on with is looked for.
    shutil.copytree(artifact(store, run.info.run_id, JOURNAL).parent, store / "runs" / "bad")
    again = (*RUN[:-2], "backend.threads=1", "trainer.max_steps=3", "resume=auto")
    found = ("run_id=runs/bad", "plots.enabled=false")
    for arguments in (("task=verify", *found), ("task=evaluate", *found), ("task=doctor",), again):
        cli.main([*arguments, "tracking=none"])
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("line", ["garbage", '{"kind":"start"}', '{"kind":"start","time":1,"config":[]}', None])
def test_a_bad_journal_stops_nothing_else(tmp_path, stopped, line, capsys):
    for name in ("a", "z"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        journal = tmp_path / "runs" / name / JOURNAL
        journal.write_text(f"{line}\n") if line else journal.mkdir()  # a folder in its place
    shutil.copytree(stopped[0].parent / "whole", tmp_path / "runs" / "good")
    assert api.load(open_folder(tmp_path / "runs" / "good").key).status == "FINISHED"
    assert cli.main(["task=doctor", "tracking=none"]) == 0
    assert cli.main([*RUN[:-2], "trainer.max_steps=3", "tracking=none", "resume=auto"]) == 0
    said = capsys.readouterr().err
    assert f"runs/a/{JOURNAL}" in said
    assert "it is skipped" in said


ODD: dict[str, Callable[[dict[str, Any]], object]] = {
    "a parameter is a number": lambda start: start["params"].update(seed=0),
    "no task": lambda start: start["config"].pop("task"),
    "no run": lambda start: start["config"].pop("run"),
    "a store without an address": lambda start: start.update(store={}),
    "no command": lambda start: start["tags"].pop("odyssey.command"),
    "a command that no shell reads": lambda start: start["tags"].update({"odyssey.command": "odyssey-run '"}),
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_start_keeps_the_doctor_from_no_other_run(tmp_path, stopped, odd, capsys):
    start = lines(stopped[0] / JOURNAL)[0]
    good = json.dumps(start)
    ODD[odd](start)
    for name, line in {"bad": json.dumps(start), "good": good}.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / JOURNAL).write_text(f"{line}\n")
    assert cli.main(["task=doctor", "tracking=none"]) in (0, 5)
    said = capsys.readouterr()
    assert open_run(tmp_path / "runs" / "good").status == "KILLED"
    assert "Traceback" not in said.err
    assert odd == "no command" or "runs/bad" in said.err


@pytest.mark.parametrize("line", ["garbage", '{"kind":"start"}', "no parent"])
def test_a_bad_journal_keeps_no_other_run_from_mlflow(tmp_path, store, line, capsys):
    client, (run,) = runs(copied(store, tmp_path))
    journal = tmp_path / "runs" / "one" / JOURNAL
    records = journal.read_bytes().splitlines(keepends=True)
    assert b'"kind":"sent"' in records[-1]
    journal.write_bytes(b"".join(records[:-1]))
    if line == "no parent":  # and no end, which the doctor would write
        begun = json.loads(records[0])
        del begun["parent"]
        line = json.dumps(begun)
    for name in ("bad", "zero"):
        (tmp_path / "runs" / name).mkdir()
        (tmp_path / "runs" / name / JOURNAL).write_text(f"{line}\n")
    # Another that MLflow takes to be running, and whose journal elsewhere is as bad.
    (tmp_path / "away").mkdir()
    shutil.copy(tmp_path / "runs" / "bad" / JOURNAL, tmp_path / "away")
    tags = {"odyssey.run": "away", "odyssey.folder": str(tmp_path / "away"), "odyssey.process.host": "another"}
    away = client.create_run(run.info.experiment_id, tags=tags)
    assert cli.main(["task=doctor"]) == 0
    said = capsys.readouterr()
    assert "sent 1 run\n" in said.out
    assert "1 run is running on another" in said.out
    for name in ("bad", "zero"):
        assert f"runs/{name}/{JOURNAL}" in said.err
    assert open_folder(tmp_path / "runs" / "one").records[-1].__class__ is Sent
    assert client.get_run(away.info.run_id).info.status == "RUNNING"


def test_a_journal_names_no_file_outside_its_folder(tmp_path, stopped):
    from odyssey_run.runs import statements

    shutil.copytree(stopped[0].parent / "whole", tmp_path / "run")
    (tmp_path / "secret").write_text("secret")
    journal = tmp_path / "run" / JOURNAL
    for name in ("../secret", str(tmp_path / "secret")):
        record = {"kind": "artifact", "time": 1, "path": name, "folder": ""}
        content = journal.read_bytes() + json.dumps(record).encode() + b"\n"
        with pytest.raises(DataError, match="which is outside"):
            statements.of_run(tmp_path / "run", content, End(status=Status.FINISHED, time=1), {})
