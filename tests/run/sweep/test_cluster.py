"""Sweeps on a Dask cluster of real processes, which send to a real MLflow server."""

import csv
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from small import SMALL, processes, wait_for

from odyssey_core.errors import ConfigError
from odyssey_run.runs.recorded import begun, open_run
from odyssey_run.tracking.client import end_orphans, make_client
from odyssey_run.tracking.location import Store
from odyssey_run.tracking.records import Created, Resume

pytest.importorskip("distributed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow's own, and those of what it imports

SWEEP = [sys.executable, "-m", "odyssey_run.cli", "-m", *SMALL]
GRID = ("trainer.epochs=40", "optim.lr=0.05,0.1,0.2,0.5", "trainer.batch_size=16,32")


def free_port():
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return made.getsockname()[1]


def answers(port):
    with socket.socket() as made:
        return made.connect_ex(("127.0.0.1", port)) == 0


class Processes:
    """Starts processes, which end with the test, and what they started with them."""

    def __init__(self, stack):
        self._stack = stack
        self.started = []

    def start(self, folder, *command, **rest):
        folder.mkdir(exist_ok=True)
        process = self._stack.enter_context(subprocess.Popen(command, cwd=folder, start_new_session=True, **rest))
        self.started.append(process)

        def end():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        self._stack.callback(end)
        return process

    def module(self, folder, *command, **rest):
        with open(folder.with_suffix(".log"), "a") as log:
            return self.start(folder, sys.executable, "-m", *command, stdout=log, stderr=log, **rest)


@pytest.fixture
def start(tmp_path):
    with ExitStack() as stack:
        yield Processes(stack)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a server that passes artifacts on to a folder of its own."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    where = ["--backend-store-uri", f"sqlite:///{folder}/store.db", "--artifacts-destination", f"{folder}/artifacts"]
    with ExitStack() as stack:
        options = ["--serve-artifacts", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
        alone = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # six processes that nothing here needs
        Processes(stack).module(folder / "own", "mlflow", "server", *where, *options, env=alone)
        wait_for(lambda: answers(port))
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def cluster(tmp_path, start):
    """Makes a scheduler with a worker in each folder given; returns its address and the workers."""

    def make(*folders, threads=1):
        address = f"tcp://127.0.0.1:{(port := free_port())}"
        start.module(tmp_path / "scheduler", "dask", "scheduler", "--port", str(port), "--no-dashboard")
        wait_for(lambda: answers(port))
        options = [address, "--nthreads", str(threads), "--no-nanny", "--no-dashboard"]
        return address, [start.module(folder, "dask", "worker", *options) for folder in folders]

    return make


class Children:
    """The runs below the one sweep that a server has under a name."""

    def __init__(self, server, experiment):
        self.client = make_client(Store(server, experiment, None))
        known = self.client.get_experiment_by_name(experiment)
        runs = self.client.search_runs([known.experiment_id])
        (self.parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        self.all = [run for run in runs if run is not self.parent]

    @property
    def statuses(self):
        return Counter(run.info.status for run in self.all)


def begin(start, folder, address, server, *arguments):
    where = ("sweep.executor=dask", f"sweep.address={address}", f"tracking.uri={server}", "sweep.name=s")
    experiment = f"tracking.experiment={folder.parent.name}"
    return start.start(
        folder, *SWEEP, *where, experiment, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def runs_in(folder):
    return [open_run(p.parent) for p in folder.glob("runs/s/*/journal.jsonl") if begun(p.parent)]


def board(folder):
    rows = csv.DictReader((folder / "runs/s/leaderboard.csv").read_text().splitlines())
    return {(row["optim.lr"], row["trainer.batch_size"]): (row["val/accuracy"], row["weights"]) for row in rows}


@pytest.mark.parametrize("shared", [True, False])
def test_a_worker_that_is_killed_costs_no_run(tmp_path, start, cluster, server, shared):
    here = tmp_path / "here"
    folders = (here, here) if shared else (tmp_path / "one", tmp_path / "two")
    address, workers = cluster(*folders)
    wait_for(lambda: all("Registered to" in path.with_suffix(".log").read_text() for path in folders))
    sweep = begin(start, here, address, server, *GRID)

    def half_way():
        """The run that one of the workers is at when half of all are over."""
        runs = [run for folder in {*folders} for run in runs_in(folder)]
        own = [run for run in runs if run.status is None and processes(run.folder) == [workers[0].pid]]
        return sum(run.status == "FINISHED" for run in runs) >= 4 and [run for run in own if len(run.metrics)]

    (lost,) = wait_for(half_way)
    workers[0].kill()
    workers[0].wait()
    assert open_run(lost.folder).status is None
    _out, err = sweep.communicate(timeout=120)
    assert (sweep.returncode, err) == (0, "")
    local = start.start(tmp_path / "local", *SWEEP, *GRID, "sweep.name=s", "tracking=none")
    assert local.wait(120) == 0
    assert len(board(here)) == 8
    assert board(here) == board(tmp_path / "local")

    children = Children(server, tmp_path.name)
    # Where the other worker found the folder it went on with the run; elsewhere it began another.
    assert children.statuses == ({"FINISHED": 8} if shared else {"FINISHED": 8, "KILLED": 1})
    assert children.parent.info.status == "FINISHED"
    for run in children.all:
        assert run.data.tags["mlflow.parentRunId"] == children.parent.info.run_id
        if run.info.status == "FINISHED":
            files = {item.path for item in children.client.list_artifacts(run.info.run_id)}
            assert files >= {"config.yaml", "journal.jsonl", "linear_weights"}
    weights = {run.tags["odyssey.weights.sha256"] for run in runs_in(tmp_path / "local")}
    sent = [run.data.tags["odyssey.weights.sha256"] for run in children.all if run.info.status == "FINISHED"]
    assert len(weights) == 8
    assert set(sent) == weights


def test_ctrl_c_ends_runs_and_takes_back_the_rest(tmp_path, start, cluster, server):
    here = tmp_path / "here"
    address, _ = cluster(tmp_path / "worker", threads=2)
    wait_for(lambda: "Registered to" in (tmp_path / "worker.log").read_text())
    sweep = begin(start, here, address, server, "trainer.epochs=100000", "optim.lr=0.05,0.1,0.2", "sweep.jobs=3")
    wait_for(lambda: sum(bool(run.metrics) for run in runs_in(tmp_path / "worker")) == 2)
    sweep.send_signal(signal.SIGINT)
    _out, err = sweep.communicate(timeout=30)
    assert (sweep.returncode, err) == (130, "")
    children = Children(server, tmp_path.name)
    assert children.statuses == {"KILLED": 2}
    assert children.parent.info.status == "KILLED"
    assert [run.status for run in runs_in(here)] == ["KILLED", "KILLED"]
    # The cluster is free for the next, which goes on with what was begun.
    again = begin(start, here, address, server, "trainer.epochs=100000", "optim.lr=0.05,0.1,0.2")
    wait_for(lambda: any(run.of(Resume) for run in runs_in(tmp_path / "worker")))
    again.send_signal(signal.SIGINT)
    assert again.communicate(timeout=30)[1] == ""
    assert set(Children(server, tmp_path.name).statuses) == {"KILLED"}


def test_a_run_worse_than_the_median_is_pruned(tmp_path, start, cluster, server):
    pytest.importorskip("optuna")
    address, _ = cluster(tmp_path / "worker")
    wait_for(lambda: "Registered to" in (tmp_path / "worker.log").read_text())
    arguments = ("sweep=tpe", "sweep.trials=14", "optim.lr=tag(log,interval(1e-7,1))", "trainer.epochs=10")
    sweep = begin(start, tmp_path / "here", address, server, *arguments)
    _out, err = sweep.communicate(timeout=120)
    assert (sweep.returncode, err) == (0, "")
    children = Children(server, tmp_path.name)
    assert set(children.statuses) == {"FINISHED", "KILLED"}
    pruned = [run for run in runs_in(tmp_path / "here") if run.status == "KILLED"]
    assert children.statuses["KILLED"] == len(pruned)
    for run in pruned:
        assert run.tags["odyssey.pruned"] == "true"
        assert 2 <= len(run.metrics["val/accuracy"]) < 10
        assert run.reason.startswith("pruned after epoch ")


def test_a_scheduler_that_is_gone_is_one_line_and_the_way_on(tmp_path, start, cluster, server):
    here, worker = tmp_path / "here", tmp_path / "worker"
    address, _ = cluster(worker)
    wait_for(lambda: "Registered to" in worker.with_suffix(".log").read_text())
    sweep = begin(start, here, address, server, "trainer.epochs=100000", "optim.lr=0.05,0.1")
    wait_for(lambda: any(run.metrics for run in runs_in(worker)))
    start.started[0].kill()
    _out, err = sweep.communicate(timeout=60)
    gone, onward = err.splitlines()
    assert gone == "odyssey-run: sweep.address: the scheduler is gone; start it, and the same command goes on"
    assert onward.startswith(f"odyssey-run: to go on: odyssey-run -m {' '.join(SMALL)} sweep.executor=dask ")
    assert sweep.returncode == 2
    assert open_run(here / "runs/s").status == "FAILED"


def test_what_a_dead_worker_left_running_is_ended(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/store.db", "lost", str(tmp_path / "artifacts"))
    client = make_client(store)
    experiment = client.create_experiment(store.experiment, store.artifact_location)
    parent = client.create_run(experiment).info.run_id

    def child(key, begun):
        tags = {"mlflow.parentRunId": parent, "odyssey.run": key}
        return client.create_run(experiment, begun, tags).info.run_id

    here, lost, before = child("here", 2000), child("lost", 2000), child("before", 999)
    followed = []
    ids = Created(run_id=parent, experiment_id=experiment)
    end_orphans(store, ids, 1000, {"here": tmp_path / "journal.jsonl"}, followed.append)
    assert followed == [tmp_path / "journal.jsonl"]
    statuses = [client.get_run(run).info.status for run in (here, lost, before)]
    assert statuses == ["RUNNING", "KILLED", "RUNNING"]
    away = Store(f"http://127.0.0.1:{free_port()}", "lost", None)
    with pytest.raises(ConfigError, match=r"tracking.uri: MLflow at http://127.0.0.1:\d+ does not answer"):
        end_orphans(away, ids, 1000, {}, followed.append)


def test_workers_are_given_the_text_of_a_plug_in_and_must_have_its_package(tmp_path, start, cluster):
    """No file of it lies where the workers are; a package that is not there is told of in one line."""
    here, path = tmp_path / "here", os.pathsep.join(filter(None, sys.path))
    here.mkdir()
    shutil.copy(Path(__file__).parents[3] / "docs" / "own_parts.py", here / "mine.py")
    (tmp_path / "installed" / "outside.py").parent.mkdir()
    (tmp_path / "installed" / "outside.py").write_text("from odyssey_core.optim import SGD as own\n")
    info = tmp_path / "installed" / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ml_odyssey.optimizers]\nown = outside:own\n")
    address, _ = cluster(tmp_path / "worker", threads=2)
    wait_for(lambda: "Registered to" in (tmp_path / "worker.log").read_text())
    options = ("--plugin", "mine.py", "model=small_resnet", "data=bars", "model.width=4,8", "tracking=none")
    where = ("sweep.executor=dask", f"sweep.address={address}", "sweep.name=s")

    def sweep(*arguments):
        with_package = os.environ | {"PYTHONPATH": f"{tmp_path / 'installed'}{os.pathsep}{path}"}
        return start.start(
            here, *SWEEP, *options, *where, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=with_package,
        )  # fmt: skip

    done = sweep()
    _out, err = done.communicate(timeout=120)
    assert (done.returncode, err) == (0, "")
    digest = hashlib.sha256((here / "mine.py").read_bytes()).hexdigest()
    assert [run.tags["odyssey.plugin.mine.py.sha256"] for run in runs_in(here)] == [digest, digest]
    refused = sweep("optim=own", "optim.lr=0.01")
    _out, err = refused.communicate(timeout=120)
    assert refused.returncode == 1
    assert len(err.splitlines()) == 2
    for line in err.splitlines():
        assert f"on {socket.gethostname()} the plug-in outside (SHA-256 " in line
        assert "is missing; install the run's version of the package" in line
