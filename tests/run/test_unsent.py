"""Runs that ended while nothing reached MLflow, because the process that sends died with theirs."""

from pathlib import Path

import pytest
from quick import QUICK

from odyssey_run import cli
from odyssey_run.runs import provenance
from odyssey_run.runs.recorded import open_run
from odyssey_run.runs.recorder import RunRecorder
from odyssey_run.sweep import conduct
from odyssey_run.tracking.client import end_orphans
from odyssey_run.tracking.location import Store
from odyssey_run.tracking.records import Created, Sent
from odyssey_run.tracking.uploader import Uploader
from odyssey_run.training.trainer import Trainer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

RUN = tuple(part for part in QUICK if part != "tracking=none")
SWEEP = ("-m", *RUN, "model=linear", "optim.lr=0.05,0.5", "sweep.jobs=1", "sweep.name=s")


class Killed(BaseException):
    """As kill -9: nothing more is written."""


@pytest.fixture
def dying(monkeypatch):
    """A context in which nothing is sent, and an exception writes nothing."""
    with monkeypatch.context() as patch:
        patch.setattr(Uploader, "follow", lambda self, journal: None)
        patch.setattr(Uploader, "close", lambda self, patience=None: False)
        patch.setattr(RunRecorder, "_fail", lambda self, error: None)
        patch.setattr(conduct, "PATIENCE", 0.0)
        yield patch


def in_mlflow(folder: Path) -> tuple[list[str], int]:
    """The statuses of all runs, and how many of them are under another."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    return sorted(run.info.status for run in found), sum("mlflow.parentRunId" in run.data.tags for run in found)


def test_a_finished_seed_is_sent_when_the_others_go_on(tmp_path, dying, capsys):
    train, trained = Trainer.run, []

    def run(self):
        trained.append(1)
        if len(trained) == 2:
            raise Killed
        return train(self)

    dying.setattr(Trainer, "run", run)
    with pytest.raises(Killed):
        cli.main([*RUN, "model=linear", "seeds=2"])
    dying.undo()
    (parent,) = (tmp_path / "runs").iterdir()
    assert open_run(parent / "seed-0").status == "FINISHED"
    assert not (tmp_path / "mlflow.db").exists()
    assert cli.main([*RUN, "model=linear", "seeds=2", "resume=auto"]) == 0
    assert in_mlflow(tmp_path) == (["FINISHED"] * 3, 2)
    assert open_run(parent / "seed-0").records[-1].__class__ is Sent
    assert cli.main(["task=verify", f"run_id={parent.name}"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("ended", [False, True])
def test_the_runs_of_a_sweep_are_sent_when_it_is_asked_for_again(tmp_path, dying, capsys, ended):
    if ended:
        assert cli.main([*SWEEP]) == 5
    else:

        def conclude(self):
            raise Killed

        dying.setattr(conduct.SweepRunner, "_conclude", conclude)
        with pytest.raises(Killed):
            cli.main([*SWEEP])
    dying.undo()
    assert not (tmp_path / "mlflow.db").exists()
    # Without tracking nothing can be sent, and what is done is done.
    if ended:
        capsys.readouterr()
        assert cli.main([*SWEEP, "tracking=none"]) == 0
        assert capsys.readouterr().out.startswith("all 2 runs are done")
    assert cli.main([*SWEEP]) == 0
    assert in_mlflow(tmp_path) == (["FINISHED"] * 3, 2)
    capsys.readouterr()
    assert cli.main([*SWEEP]) == 0
    assert capsys.readouterr().out.startswith("all 2 runs are done")


def test_lost_runs_are_found_page_after_page(tmp_path, monkeypatch, capsys):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.create_experiment("digits")
    here = {"odyssey.process.host": provenance.process()["host"], "odyssey.process.boot": "before"}
    parent = client.create_run(experiment).info
    for number in range(3):
        client.create_run(experiment, tags=here | {"odyssey.run": f"lost-{number}", "odyssey.folder": "gone"})
    search = MlflowClient.search_runs
    monkeypatch.setattr(MlflowClient, "search_runs", lambda *given, **named: search(*given, **named, max_results=1))
    assert cli.main(["task=doctor"]) == 0
    assert capsys.readouterr().out.count("marked KILLED in MLflow") == 3
    under = [client.create_run(experiment, tags={"mlflow.parentRunId": parent.run_id}).info for _ in range(3)]
    above = Created(run_id=parent.run_id, experiment_id=experiment)
    store = Store(f"sqlite:///{tmp_path}/mlflow.db", "digits", None)
    end_orphans(store, above, 0, {}, lambda journal: None)
    assert [client.get_run(info.run_id).info.status for info in under] == ["KILLED"] * 3
