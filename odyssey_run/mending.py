"""Runs that a crash left behind: found here and in MLflow, ended truthfully, sent.

A run is alive while a process holds its journal. What is appended here is what the process itself could not: the end.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from odyssey_core.errors import ConfigError
from odyssey_run import provenance
from odyssey_run.assemble import Request
from odyssey_run.runs import RUNS, RecordedRun, begun, open_run, passing_over
from odyssey_run.statements import conclude
from odyssey_run.tracking.journal import FILE_NAME, RUN_TAG, Journal
from odyssey_run.tracking.location import Store, resolve
from odyssey_run.tracking.sender import Outbox, fault_of, reach

DIED = "its process died"
PATIENCE = 10.0  # seconds


def doctor(request: Request) -> int:
    """Mends what it finds and prints a line for each run.

    Returns:
        0, or 1 where MLflow could not be told.
    """
    store = resolve(request.tracking, request.data.name)
    client = reach(store) if store and (store.database is None or store.database.exists()) else None
    lost = list(_running(client)) if client else []
    folders = {path.parent.absolute() for path in RUNS.rglob(FILE_NAME)}
    folders |= {folder for _, folder in lost if (folder / FILE_NAME).exists()}
    runs = []
    for folder in sorted(folders):
        with passing_over():
            if begun(folder):
                runs.append(open_run(folder))
    for run in runs:
        if run.status is None and _mark(run):
            command = run.tags["odyssey.command"]
            print(f"{run.name}  {DIED}; marked KILLED; to go on: {command} resume={run.name}")
    for run, folder in lost:
        if not (folder / FILE_NAME).exists() and not _alive(run.data.tags):
            client.set_terminated(run.info.run_id, "KILLED")
            print(f"{run.info.run_name}  {DIED} and {folder} is gone; marked KILLED in MLflow")
    return _send([run.folder for run in runs])


def end_lost(
    store: Store, parent: Mapping[str, str], since: int, journals: Mapping[str, Path], follow: Callable[[Path], None]
) -> None:
    """Ends what MLflow takes to be running under a run when its workers have sent all: the process, elsewhere, died.

    Args:
        store: where both are.
        parent: ``run_id`` and ``experiment_id`` of the run above.
        since: milliseconds since 1970; what began earlier is not ours to end.
        journals: those that are here, by the key of the run; they tell how it ended.
        follow: sends one; what has none is marked as killed.

    Raises:
        ConfigError: the store does not answer.
    """
    client = reach(store)
    condition = f"attributes.status = 'RUNNING' and tags.`mlflow.parentRunId` = '{parent['run_id']}'"
    try:
        for run in client.search_runs([parent["experiment_id"]], condition):
            if journal := journals.get(run.data.tags.get(RUN_TAG)):
                follow(journal)
            elif run.info.start_time >= since:
                client.set_terminated(run.info.run_id, "KILLED")
    except Exception as error:  # whatever a server answers with
        raise ConfigError(f"tracking.uri: {store.uri} does not answer: {fault_of(error)}") from None


def _running(client: Any) -> Iterator[tuple[Any, Path]]:
    """Runs of this program on this host that MLflow takes to be running, with their folders."""
    host = provenance.process()["host"]
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    condition = f"attributes.status = 'RUNNING' and tags.`odyssey.process.host` = '{host}'"
    for run in client.search_runs(experiments, condition) if experiments else []:
        yield run, Path(run.data.tags.get("odyssey.folder", ""))


def _alive(tags: dict[str, str]) -> bool:
    now = provenance.process()
    if tags.get("odyssey.process.boot") != now["boot"]:
        return False
    try:
        os.kill(int(tags["odyssey.process.pid"]), 0)
    except (KeyError, ValueError, ProcessLookupError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _mark(run: RecordedRun) -> bool:
    """Ends a journal whose process is gone; False where it is there, or on another machine."""
    process = next(r["process"] for r in reversed(run.records) if "process" in r)
    if process["host"] != provenance.process()["host"]:
        return False
    try:
        journal = Journal(run.folder / FILE_NAME)
    except ConfigError:
        return False
    conclude(journal, "KILLED", DIED)
    journal.close()
    return True


def _send(folders: Iterable[Path]) -> int:
    """Sends every journal that has an end which MLflow has not got."""
    unsent: dict[str, tuple[Store, list[Path]]] = {}
    for run in map(open_run, folders):
        last = [r["kind"] for r in run.records if r["kind"] in ("resume", "end", "sent")][-1:]
        if last == ["end"] and run.start["store"]:
            store = Store(**run.start["store"])
            unsent.setdefault(store.uri, (store, []))[1].append(run.folder)
    code = 0
    for store, places in unsent.values():
        outbox = Outbox(store)
        for folder in places:
            outbox.follow(folder / FILE_NAME)
        outbox.close(PATIENCE)
        if outbox.run():
            print(f"{store.uri}  sent {len(places)} {'run' if len(places) == 1 else 'runs'}")
        else:
            print(f"{store.uri}  does not take {len(places)} of them: {outbox.fault}; run task=doctor again later")
            code = 1
    if not unsent:
        print("nothing is left to send")
    return code
