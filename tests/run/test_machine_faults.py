"""A run whose machine lets it down: nobody reads what it prints, the disk is full, a picture fails."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from journals import append, lines
from PIL import Image
from quick import QUICK
from stored import here

from odyssey_core.checkpoint import load_weights
from odyssey_core.files import stray_files
from odyssey_run import cli
from odyssey_run.runs.recorded import open_folder
from odyssey_run.tracking.journal import Journal
from odyssey_run.tracking.names import JOURNAL, Status

COMMAND = [sys.executable, "-m", "odyssey_run.cli"]
LONG = ("plots.enabled=false", "data=digits", "model=mlp", "tracking=none", "trainer.epochs=12", "trainer.log_every=5")
LONG += ("trainer.checkpoint_s=0", "trainer.ema=0.9", "optim=adam", "run.dir=run")


def run(folder: Path, shell: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs the program in a shell; ``{}`` in the shell's line stands for it."""
    line = shell.replace("{}", " ".join([*COMMAND, *arguments]))
    return subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize(
    "shell",
    [
        "{} | head -1",
        "{} 2>&1 | head -1",
        "{} > /dev/full",
        "{} > /dev/full 2>&1",
        "{} >&-",
        "{} >&- 2>&- <&-",
        "{} | (read -r line; exec sleep 0)",
        "{} | tee >(head -1) >/dev/null",
    ],
)
def test_training_goes_on_when_nobody_reads(tmp_path, shell):
    done = run(tmp_path, f"{shell}; exit ${{PIPESTATUS[0]}}", *LONG)
    assert "Traceback" not in done.stderr, done.stderr
    assert "BrokenPipe" not in done.stderr, done.stderr
    assert open_folder(tmp_path / "run").status == "FINISHED"
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_arrows_and_bars_gets_their_numbers(encoding):
    script = """
import sys
from odyssey_run.runs.streams import lasting
with lasting():
    print("→ ä █", "\\udcff", flush=True)
    print("still there →", file=sys.stderr)
"""
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment)
    letter = "ä".encode(encoding, "backslashreplace")
    assert done.stdout == b"\\u2192 " + letter + b" \\u2588 \\udcff\n"
    assert (done.returncode, done.stderr) == (0, b"still there \\u2192\n")


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_run_on_such_a_terminal_comes_to_its_end(tmp_path, encoding):
    done = run(tmp_path, f"PYTHONIOENCODING={encoding} {{}} > out.txt", *QUICK, "run.dir=run")
    assert done.returncode == 0, done.stderr
    assert open_folder(tmp_path / "run").status == "FINISHED"
    picture = Image.new("L", (40, 40), 255)
    picture.paste(0, (18, 5, 22, 35))
    picture.save(tmp_path / "one.png")
    asked = ("task=predict", "run_id=run", "inputs=one.png", "tracking=none")
    done = run(tmp_path, f"PYTHONIOENCODING={encoding} {{}} > out.txt", *asked)
    assert (done.returncode, done.stderr) == (0, "")
    assert b"\\u2588" in (tmp_path / "out.txt").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("argument", ["--help", "--cfg job", "--version", "task=show"])
def test_what_only_prints_ends_quietly_too(tmp_path, argument):
    done = run(tmp_path, "{} | head -1; exit ${PIPESTATUS[0]}", argument)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_closed_before_the_start_is_not_taken_for_a_file(run_python):
    script = """
import os, sys
os.close(0); os.close(1)
sys.stdin = sys.stdout = None
from odyssey_run.runs.streams import lasting
with lasting():
    with open(sys.argv[1], "w") as file:
        print("lost")
        assert file.fileno() > 2, file.fileno()
        file.write("kept")
"""
    place = Path("kept.txt").absolute()
    run_python(script, str(place))
    assert place.read_text() == "kept"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that had all the room it wanted: the bytes of its weights file, and its weights."""
    folder = tmp_path_factory.mktemp("whole")
    code, said = here(folder, *LONG)
    assert code == 0, said
    return (folder / "run" / "mlp_weights" / "mlp.safetensors").stat().st_size, weights_of(folder / "run")


def weights_of(folder: Path) -> dict[str, bytes]:
    return {name: w.tobytes() for name, w in load_weights(folder / "mlp_weights" / "mlp.safetensors")[0].items()}


@pytest.fixture
def small(tmp_path):
    """Mounts a file system of a size, and makes it larger."""
    place = tmp_path / "small"
    place.mkdir()

    def mount(size: int, again: bool = False) -> Path:
        options = f"{'remount,' if again else ''}size={size}"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("needs leave to mount a file system")
        return place

    yield mount
    subprocess.run(["umount", "-l", str(place)], capture_output=True)


# Shares of the room that the weights file takes: from none for the journal to all but none for the weights, and last
# a checkpoint, which takes five before there is a best epoch, and no weights.
@pytest.mark.slow
@pytest.mark.parametrize("share", [0.004, 0.01, 0.02, 0.05, 0.1, 0.3, 0.6, 0.9, 1.01, 5.6])
def test_a_full_disk_costs_nothing_but_time(small, whole, share):
    size, weights = whole
    folder = small(int(size * share))
    code, said = here(folder, *LONG)
    assert code == 1, said
    assert "Traceback" not in said
    assert re.search("^odyssey-run: .*No space left on device", said, re.MULTILINE)
    small(64_000_000, again=True)
    code, said = here(folder, *LONG, "resume=auto")
    assert code == 0, said
    assert ("resumed at step" in said) == (share > 5)
    assert weights_of(folder / "run") == weights
    assert open_folder(folder / "run").status == "FINISHED"
    assert not list(stray_files(folder))
    assert not list(folder.glob("run/checkpoint*"))


def test_a_record_that_finds_no_room_leaves_the_journal_as_it_was(tmp_path, monkeypatch):
    journal = Journal(tmp_path / JOURNAL)
    append(journal, "tags", values={"a": "1"})
    write, left = os.write, [10]

    def full(handle: int, content: bytes) -> int:
        if not left[0]:
            raise OSError(28, "No space left on device")
        done = write(handle, bytes(content)[: left[0]])
        left[0] -= done
        return done

    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        with pytest.raises(OSError, match="No space left"):
            append(journal, "tags", values={"b": "2"})
    append(journal, "tags", values={"c": "3"})
    journal.close()
    assert [record["values"] for record in lines(tmp_path / JOURNAL)] == [{"a": "1"}, {"c": "3"}]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("latex could not be found"), "RuntimeError('latex could not be found')"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
    ],
)
def test_a_picture_that_cannot_be_drawn_fails_no_run(tmp_path, monkeypatch, capsys, error, told):
    from odyssey_run.reports import presentation

    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(presentation, "draw", fail)
    assert cli.main([*QUICK, "plots.enabled=true", "run.dir=run"]) == 0
    assert open_folder(tmp_path / "run").status == "FINISHED"
    assert f"the report could be made: {told}\n" in capsys.readouterr().out
    assert "Traceback" in (tmp_path / "run" / "train.log").read_text()


def test_a_checkpoint_that_cannot_be_written_is_told_and_training_goes_on(tmp_path, monkeypatch, capsys):
    from odyssey_run.training import resume

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(resume, "save_weights", fail)
    assert cli.main([*QUICK, "trainer.checkpoint_s=0", "trainer.max_steps=6", "run.dir=run"]) == 0
    assert capsys.readouterr().out.count("no checkpoint could be written: [Errno 28] No space left") == 1


def test_a_folder_that_holds_anything_else_is_refused_and_left_as_it_is(tmp_path, mistake):
    own = tmp_path / "own"
    own.mkdir()
    (own / "config.yaml").write_text("mine")
    (line,) = mistake(*QUICK, "run.dir=own")
    assert line == "run.dir: own already holds other files (config.yaml); choose another"
    assert [(path.name, path.read_text()) for path in own.iterdir()] == [("config.yaml", "mine")]


def test_what_a_killed_write_left_is_cleaned_and_what_a_run_below_writes_is_not(tmp_path):
    from odyssey_run.runs.statements import conclude

    assert cli.main([*QUICK, "run.dir=run"]) == 0
    folder = tmp_path / "run"
    shutil.copytree(folder, folder / "seed-1")
    for name in (
        ".a.abcdefgh",
        "lenet5_weights/.b.abcdefgh",
        "seed-1/.c.abcdefgh",
        "seed-1/lenet5_weights/.d.abcdefgh",
    ):
        (folder / name).touch()
    journal = Journal(folder / JOURNAL)
    conclude(journal, Status.FINISHED, None)
    journal.close()
    assert {path.name for path in stray_files(folder)} == {".c.abcdefgh", ".d.abcdefgh"}


def test_what_a_run_states_is_on_the_disk_before_its_end_is_written(tmp_path, monkeypatch):
    """After a power cut a run that has ended has all its files as it states them."""
    from odyssey_run.runs import statements

    waited = {}

    def waits(paths):
        kinds = [record["kind"] for record in lines(tmp_path / "run" / JOURNAL)]
        waited.update({path.resolve().relative_to(tmp_path / "run").as_posix(): kinds for path in paths})
        sync([tmp_path / "run" / name for name in waited])

    sync = statements.sync
    monkeypatch.setattr(statements, "sync", waits)
    assert cli.main([*QUICK, "run.dir=run", "plots.enabled=true"]) == 0
    stated = statements.decode((tmp_path / "run" / statements.FILE).read_bytes(), "")
    files = {name for name, value in stated.items() if name.startswith(("files/", "models/")) and type(value) is str}
    assert waited.keys() == {name.partition("/")[2] for name in files}
    assert {"config.yaml", "train.log", "model/MLmodel", "plots/confusion.png", "report.html"} <= waited.keys()
    assert all("end" not in kinds for kinds in waited.values())


def test_a_folder_that_a_run_was_killed_in_before_its_first_line_is_used(tmp_path):
    for name in (JOURNAL, "train.log", ".config.yaml.abcdefgh"):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / name).touch()
    assert cli.main([*QUICK, "run.dir=run"]) == 0
    assert not list(stray_files(tmp_path))
