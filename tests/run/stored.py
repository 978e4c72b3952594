"""Runs in stores of their own, which tests change as somebody could who may write to them."""

import io
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir, closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from journals import lines

from odyssey_run import cli
from odyssey_run.runs import statements
from odyssey_run.tracking.names import JOURNAL, Tag
from odyssey_run.tracking.records import parse

COMMAND = [sys.executable, "-m", "odyssey_run.cli"]
RUN = (
    "plots.enabled=false",
    "data=digits",
    "model=mlp",
    "trainer.epochs=6",
    "trainer.log_every=20",
    "optim=adam",
    "trainer.ema=0.9",
)
PLACES = (("runs", "artifact_uri"), ("experiments", "artifact_location"), ("logged_models", "artifact_location"))


def command(folder: Path, *arguments: str, code: int = 0, **environment: str) -> str:
    """Runs the program; returns what it said."""
    path = os.pathsep.join(filter(None, [environment.pop("PYTHONPATH", ""), *sys.path]))
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def here(folder: Path, *arguments: str) -> tuple[int, str]:
    """The same in this process, which has imported all that it needs; returns the exit code, too."""
    said = io.StringIO()
    with chdir(folder), redirect_stdout(said), redirect_stderr(said):
        code = cli.main(arguments)
    return code, said.getvalue()


def runs(folder: Path) -> tuple[Any, list[Any]]:
    """MLflow's client, and the runs in a folder's store but for those of verifications, in the order they began."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found = client.search_runs([e.experiment_id for e in client.search_experiments()], "", order_by=["start_time"])
    return client, [run for run in found if Tag.VERIFIES not in run.data.tags]


def sql(folder: Path, *orders: str) -> None:
    """Changes a folder's store behind MLflow's back; each order must change something."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as store, store:
        for order in orders:
            assert store.execute(order).rowcount > 0, order


def copied(made: Path, place: Path) -> Path:
    """A copy of a folder with a store in it, with the paths in the store changed to the copy's."""
    shutil.copytree(made, place, dirs_exist_ok=True)
    with closing(sqlite3.connect(place / "mlflow.db")) as store, store:
        for table, column in PLACES:
            store.execute(f"UPDATE {table} SET {column} = REPLACE({column}, ?, ?)", (str(made), str(place)))
    return place


def kept(made: Path, place: Path) -> Callable[[], None]:
    """Keeps a copy of a folder with a store in it; returns what makes the folder what it was.

    MLflow, which takes its time over a store that it has not opened yet, has this one open all the while.
    """
    shutil.copytree(made, place)

    def restore() -> None:
        for path in made.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "mlflow.db":
                path.unlink()
        shutil.copytree(place, made, dirs_exist_ok=True, ignore=shutil.ignore_patterns("mlflow.db"))
        with closing(sqlite3.connect(place / "mlflow.db")) as old, closing(sqlite3.connect(made / "mlflow.db")) as now:
            old.backup(now)

    return restore


def artifact(folder: Path, run_id: str, name: str) -> Path:
    """An artifact of a run where the store has it; of its model, ``model/NAME``."""
    own = folder / "mlartifacts" / run_id / "artifacts" / name
    if not own.exists() and name.startswith("model/"):
        (found,) = (folder / "mlartifacts" / "models").glob(f"*/artifacts/{name.removeprefix('model/')}")
        return found
    return own


def restate(folder: Path, run_id: str, change: Callable[[list[dict[str, Any]]], None] = lambda records: None) -> None:
    """Writes the list anew, its digest and the tag, as somebody would who changed a run and knows how it is held.

    Args:
        folder: of the store.
        run_id: of a run whose artifacts were changed, or will be:
        change: of the journal's records.
    """
    place = artifact(folder, run_id, JOURNAL).parent
    (model,) = (folder / "mlartifacts" / "models").glob("*/artifacts")
    shutil.copytree(model, place / "model")
    journal = place / JOURNAL
    records = lines(journal)
    last = max(i for i, record in enumerate(records) if record == {"kind": "artifact", "path": statements.FILE,
                                                                  "folder": "", "time": record["time"]})  # fmt: skip
    end = next(record for record in records if record["kind"] == "end")
    kept = [record for record in records[:last] if record["kind"] not in ("tracking", "sent")]
    change([*kept, end])
    content = b"".join(line(record) for record in kept)
    journal.write_bytes(content)
    listed = statements.encode(statements.of_run(place, content, parse(line(end), journal)[0], {}))
    (place / statements.FILE).write_bytes(listed)
    digest = statements.sha256(listed)
    tail = [records[last], {"kind": "tags", "time": 0, "values": {Tag.RUN_DIGEST: digest}}, end]
    journal.write_bytes(content + b"".join(map(line, tail)))
    shutil.rmtree(place / "model")
    sql(folder, f"UPDATE tags SET value = '{digest}' WHERE key = '{Tag.RUN_DIGEST}' AND run_uuid = '{run_id}'")


def line(record: dict[str, Any]) -> bytes:
    """A record as a journal has it."""
    import json

    return json.dumps(record, separators=(",", ":")).encode() + b"\n"
