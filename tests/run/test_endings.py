"""However a run ends, MLflow says so before the process is gone, and the last line says how to go on."""

import http.server
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mlflow_server import free_port, serving

from odyssey_run.runs.recorded import open_run
from odyssey_run.tracking.client import make_client
from odyssey_run.tracking.location import Store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

MODULE = [sys.executable, "-m", "odyssey_run.cli"]
BASE = ("plots.enabled=false", "model=linear", "data=digits", "backend=numpy", "trainer.validation_size=100")
LONG, SHORT = (*BASE, "trainer.epochs=5000"), (*BASE, "trainer.epochs=2")


def launch(folder: Path, *arguments: str, before: tuple[str, ...] = (), **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*before, *MODULE, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, *arguments: str, **rest) -> tuple[int, str]:
    process = launch(folder, *arguments, **rest)
    out, _ = process.communicate(timeout=120)
    return process.returncode, out


def when_training(process: subprocess.Popen) -> subprocess.Popen:
    for line in process.stdout:
        if re.match(r"\s*1/\d+\s", line):
            return process
    raise AssertionError("it ended before")


def store_of(folder: Path, experiment: str = "digits") -> Store:
    return Store(f"sqlite:///{folder}/mlflow.db", experiment, None)


def statuses(folder: Path, experiment: str = "digits") -> list[str]:
    client = make_client(store_of(folder))
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return sorted(run.info.status for run in found)


def the_run(folder: Path) -> Path:
    (path,) = (folder / "runs").iterdir()
    return path


def wait_until_known(folder: Path) -> None:
    """A killed run's own sender goes on until it has sent what was written."""
    deadline = time.monotonic() + 60
    while not open_run(the_run(folder)).run_id:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def killed(folder: Path, *arguments: str, **rest) -> None:
    """A run that nobody could end."""
    process = when_training(launch(folder, *LONG, *arguments, **rest))
    process.kill()
    process.communicate()


@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 143), ("HUP", 129), ("QUIT", 131), ("USR1", 138)])
def test_a_signal_leaves_the_truth_and_the_way_on(tmp_path, name, code):
    process = when_training(launch(tmp_path, *LONG))
    process.send_signal(getattr(signal, f"SIG{name}"))
    out, _ = process.communicate(timeout=60)
    assert statuses(tmp_path) == ["KILLED"]  # it does not end before MLflow knows
    assert process.returncode == code, out
    assert f"stopped by SIG{name}" in out
    last = out.splitlines()[-1]
    assert last == f"to go on: odyssey-run {' '.join(LONG)} resume={the_run(tmp_path).name}"
    again = launch(tmp_path, *shlex.split(last.removeprefix("to go on: odyssey-run ")))
    resumed = any("resumed at step" in line for line in again.stdout)
    again.kill()
    again.communicate()
    assert resumed


def test_a_run_that_is_to_outlive_its_terminal_does(tmp_path):
    process = when_training(launch(tmp_path, *LONG, "tracking=none", before=("nohup",)))
    process.send_signal(signal.SIGHUP)
    time.sleep(1)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert "stopped by SIGTERM" in process.communicate(timeout=30)[0]


def test_all_processes_of_a_job_are_told_at_once_and_mlflow_learns_it(tmp_path):
    process = subprocess.Popen(
        [*MODULE, *LONG], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"}, start_new_session=True,
    )  # fmt: skip
    when_training(process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    for number in (signal.SIGUSR1, signal.SIGTERM):  # as SLURM does
        for pid in (*map(int, children), process.pid):
            os.kill(pid, number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 138, out
    assert statuses(tmp_path) == ["KILLED"]


def test_a_stopped_sweep_says_how_it_goes_on(tmp_path):
    arguments = ("-m", *LONG, "optim.lr=0.1,0.2", "sweep.name=s", "sweep.jobs=2")
    process = launch(tmp_path, *arguments)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("runs/s/*/checkpoint.safetensors"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGHUP)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 129, out
    assert out.splitlines()[-1] == f"to go on: odyssey-run {' '.join(arguments)}"
    assert statuses(tmp_path) == ["KILLED"] * 3


@pytest.mark.parametrize("host", ["another", "the same"])
def test_the_doctor_goes_by_locks_and_not_by_names_of_hosts(tmp_path, host):
    unshare = shutil.which("unshare")
    elsewhere = [unshare, "--uts", "sh", "-c", 'hostname far; exec "$@"', "sh"] if host == "another" else []
    if elsewhere and subprocess.run([*elsewhere, "true"], capture_output=True).returncode:
        pytest.skip("another host's name needs the right to unshare")
    killed(tmp_path, before=tuple(elsewhere))
    wait_until_known(tmp_path)
    assert statuses(tmp_path) == ["RUNNING"]
    code, out = run(tmp_path, "task=doctor")
    assert (code, statuses(tmp_path)) == (0, ["KILLED"]), out
    assert f"its process died; marked KILLED; to go on: odyssey-run {' '.join(LONG)} resume=" in out
    assert run(tmp_path, "task=doctor") == (0, "all runs are uploaded\n")


def test_the_doctor_marks_what_is_here_while_the_server_is_down(tmp_path):
    where = f"tracking.uri=http://127.0.0.1:{free_port()}"
    killed(tmp_path, where)
    code, out = run(tmp_path, "task=doctor", where)
    assert code == 5
    marked, asked = out.splitlines()
    assert "marked KILLED" in marked
    refused = r"tracking.uri: MLflow at http://\S+ does not answer: Connection refused"
    assert re.fullmatch(refused + "; runs that are not uploaded stay here: run task=doctor again later", asked)
    assert open_run(the_run(tmp_path)).status == "KILLED"


class Denying(http.server.BaseHTTPRequestHandler):
    """What MLflow's server answers to a host's name that it was not told of."""

    def do_GET(self) -> None:
        self.send_response(403)
        self.end_headers()
        self.wfile.write(b"Invalid Host header - possible DNS rebinding attack detected")

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def denying():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Denying) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_that_does_not_know_its_name_is_answered_with_the_recipe(tmp_path, denying):
    recipe = "--host 0.0.0.0 --allowed-hosts 'HOST:*' --cors-allowed-origins http://HOST:PORT"
    code, out = run(tmp_path, *SHORT, f"tracking.uri={denying}")
    assert (code, len(out.splitlines())) == (2, 1), out
    assert recipe in out
    assert not (tmp_path / "runs").exists()
    for task in (["task=doctor"], ["task=verify", "run_id=abc"]):
        code, out = run(tmp_path, *task, f"tracking.uri={denying}")
        assert code in (2, 5)
        assert len(out.splitlines()) == 1
        assert recipe in out


def test_what_is_deleted_in_mlflow_is_said_before_training(tmp_path):
    assert run(tmp_path, *SHORT, "run.name=first")[0] == 0
    client = make_client(store_of(tmp_path))
    experiment = client.get_experiment_by_name("digits").experiment_id
    client.delete_experiment(experiment)
    code, out = run(tmp_path, *SHORT, "run.name=second")
    assert (code, [path.name for path in (tmp_path / "runs").iterdir()]) == (2, ["first"])
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    restore = f"MLFLOW_TRACKING_URI='{uri}' mlflow experiments restore --experiment-id {experiment}"
    assert out == (
        "odyssey-run: tracking.experiment: 'digits' was deleted in MLflow; "
        f"bring it back with {restore}, or choose another\n"
    )
    mlflow = [sys.executable, "-m", "mlflow", *shlex.split(restore)[2:]]
    subprocess.run(mlflow, env=os.environ | {"MLFLOW_TRACKING_URI": uri}, check=True, capture_output=True)
    assert run(tmp_path, *SHORT, "run.name=second")[0] == 0


def test_a_deleted_run_is_not_gone_on_with_unknowingly_and_not_asked_for_again(tmp_path):
    process = when_training(launch(tmp_path, *LONG))
    wait_until_known(tmp_path)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    client = make_client(store_of(tmp_path))
    run_id = open_run(the_run(tmp_path)).run_id
    client.delete_run(run_id)
    code, out = run(tmp_path, *LONG, "resume=auto")
    assert code == 2
    assert f"resume: run {run_id} was deleted in MLflow; bring it back with " in out
    assert open_run(the_run(tmp_path)).status == "KILLED"
    code, out = run(tmp_path, "task=verify", f"run_id={run_id}")
    assert (code, "Traceback" in out) == (0, False)
    assert f"{run_id} was deleted in MLflow" in out
    assert "its folder alone is verified" in out


def test_names_that_mlflow_does_not_take_are_said_before_training(tmp_path):
    code, out = run(tmp_path, *SHORT, "tracking.register=team/lenet")
    assert (code, out) == (2, "odyssey-run: tracking.register: MLflow takes a name without / and :, got 'team/lenet'\n")
    for name in ("..", "."):
        code, out = run(tmp_path, *SHORT, f"tracking.register={name}")
        assert (code, out.count("\n")) == (2, 1)
    code, out = run(tmp_path, *SHORT, "expect={acc@1: '>0'}")
    assert (code, out.count("\n")) == (2, 1)
    code, out = run(tmp_path, *SHORT, f"tracking.experiment={'x' * 501}")
    assert (code, out.count("\n")) == (2, 1)
    assert list(tmp_path.iterdir()) == []


def test_artifacts_out_of_reach_are_said_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    options = ("--no-serve-artifacts", "--default-artifact-root", f"{tmp_path}/file/x")
    with serving(tmp_path / "server", *options) as address:
        code, out = run(tmp_path, *SHORT, f"tracking.uri={address}")
    assert (code, out.count("\n")) == (2, 1)
    assert f"the artifacts of 'digits' are stored in {tmp_path}/file/x" in out or "file cannot be written" in out
    assert not (tmp_path / "runs").exists()


def test_a_driver_that_is_missing_is_said_before_training(tmp_path):
    code, out = run(tmp_path, *SHORT, "tracking.uri=mysql+pymysql://maria:pw@host/db")
    assert (code, out) == (
        2,
        "odyssey-run: tracking.uri: mysql+pymysql://maria:***@host/db needs the driver pymysql; pip install pymysql\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_sent_to_a_store_that_the_command_does_not_name(tmp_path):
    with serving(tmp_path / "server") as address:
        foreign = tmp_path / "work/runs/foreign"
        foreign.parent.mkdir(parents=True)
        assert run(tmp_path, *SHORT, "run.dir=made", "tracking=none")[0] == 0
        journal = (tmp_path / "made/journal.jsonl").read_text()
        there = f'"store":{{"uri":"{address}","experiment":"digits"}}'
        (tmp_path / "made").rename(foreign)
        (foreign / "journal.jsonl").write_text(journal.replace('"store":null', there, 1))
        for arguments in ((), ("tracking=none",)):
            code, out = run(tmp_path / "work", "task=doctor", *arguments)
            assert (code, out) == (
                5,
                f"1 run not yet in MLflow at {address}; to send: odyssey-run task=doctor tracking.uri={address}\n",
            )
        assert make_client(Store(address, "digits", None)).get_experiment_by_name("digits") is None
        code, out = run(tmp_path / "work", "task=doctor", f"tracking.uri={address}")
        assert (code, out) == (0, f"{address}  sent 1 run\n")


def test_a_run_that_was_recorded_elsewhere_is_not_gone_on_with_here(tmp_path):
    process = when_training(launch(tmp_path, *LONG, "tracking.uri=sqlite:///other.db"))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    code, out = run(tmp_path, *LONG, "resume=auto")
    assert (code, out.count("\n")) == (2, 1)
    assert "is in MLflow at sqlite:///../../other.db, got sqlite:///../../mlflow.db; give the same" in out
    assert not (tmp_path / "mlflow.db").exists()


def test_a_run_goes_on_after_its_folder_was_moved(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    process = when_training(launch(before, *LONG))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    before.rename(after)
    process = launch(after, *LONG, "resume=auto")
    assert any("resumed at step" in line for line in process.stdout)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert not before.exists()
    assert statuses(after) == ["KILLED"]
    code, out = run(after, *SHORT, "run.name=next")
    assert code == 0, out
    code, out = run(after, "task=verify", "run_id=next")
    assert code == 0, out
    assert not before.exists()


def test_the_pages_start_small_and_end_quietly(tmp_path):
    assert run(tmp_path, *SHORT)[0] == 0
    port = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        code, out = run(tmp_path, "task=ui", f"port={port}")
        assert (code, out) == (
            2,
            f"odyssey-run: port: {port} is not free (Address already in use); choose another: port=5001\n",
        )
    for seconds in (1.0, 12.0):  # in the middle of its imports, and when it answers
        process = launch(tmp_path, "task=ui", f"port={port}")
        shown = process.stdout.readline()
        assert shown.startswith(f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning")
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "Traceback" not in out
        with socket.socket() as free:
            assert free.connect_ex(("127.0.0.1", port))


def test_a_finished_run_says_how_it_is_trained_further(tmp_path):
    assert run(tmp_path, *SHORT, "run.name=fin", "tracking=none")[0] == 0
    for named in ("fin", "runs/fin/"):
        code, out = run(tmp_path, *SHORT, "trainer.epochs=4", f"resume={named}", "tracking=none")
        assert (code, out) == (
            2,
            "odyssey-run: resume: runs/fin ended FINISHED; for more epochs, model.weights=fin begins a new run with "
            "its weights\n",
        )
    assert run(tmp_path, *SHORT, "trainer.epochs=4", "model.weights=fin", "tracking=none")[0] == 0


def test_the_recorded_command_runs_the_same(tmp_path):
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "own/experiment/mine.yaml").write_text("# @package _global_\noptim: {lr: 0.25}\n")
    typed = ("--config-dir", "own", *SHORT, "experiment=mine", "tracking=none")
    assert run(tmp_path, *typed, "run.name=first")[0] == 0
    first = open_run(tmp_path / "runs/first")
    recorded = first.tags["odyssey.command"]
    assert recorded == f"odyssey-run {' '.join(typed)} run.name=first"
    assert recorded in (tmp_path / "runs/first/journal.jsonl").read_text()
    words = [word.replace("=first", "=second") for word in shlex.split(recorded)[1:]]
    assert run(tmp_path, *words)[0] == 0
    second = open_run(tmp_path / "runs/second")
    assert second.tags["odyssey.weights.sha256"] == first.tags["odyssey.weights.sha256"]
    assert second.config["optim"]["lr"] == 0.25
