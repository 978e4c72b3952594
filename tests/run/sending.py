"""Runs that tests write and send to an MLflow store of their own."""

from pathlib import Path

from journals import append

from odyssey_run.tracking.client import make_client
from odyssey_run.tracking.journal import Journal, load
from odyssey_run.tracking.location import Store
from odyssey_run.tracking.outbox import Outbox


def store_in(folder: Path, name: str = "mlflow.db", experiment: str = "emnist") -> Store:
    return Store(f"sqlite:///{folder / name}", experiment, (folder / "mlartifacts").as_uri())


def write_run(folder: Path, points: int = 5) -> Journal:
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: 0\n")
    journal = Journal(folder / "journal.jsonl")
    params = {"optim.lr": "0.01", "long": "x" * 7000} | {f"p{i}": str(i) for i in range(150)}
    append(journal, "start", run=f"{folder}-1", name="lenet5-s0", params=params, tags={"odyssey.code": "abc"})
    for step in range(1, points + 1):
        append(journal, "metrics", step=step, values={"train/loss": 1 / step, "val/accuracy": step / 7})
    return journal


def end(journal: Journal, status: str = "FINISHED") -> None:
    append(journal, "artifact", path="config.yaml", folder="")
    append(journal, "artifact", path="config.yaml", folder="conf")
    append(journal, "end", status=status, reason=None)


def send_all(journal: Journal, store: Store, client=None, patience: float = 30) -> bool:
    outbox = Outbox(store, client)
    outbox.follow(journal.path)
    outbox.close(patience)
    return outbox.run()


def ids(journal: Journal) -> dict:
    return vars(load(journal.path).created)


def runs(store: Store):
    client = make_client(store)
    experiment = client.get_experiment_by_name(store.experiment)
    return client, client.search_runs([experiment.experiment_id])


def history(client, run_id, key="train/loss"):
    return [(m.step, m.timestamp, m.value) for m in client.get_metric_history(run_id, key)]
