"""Runs that a crash left behind: found here and in MLflow, ended truthfully, sent.

A run is alive while a process holds its journal, wherever that process is. What is appended here is what the process
itself could not: the end. A run whose folder is not here may be alive on another machine: only of one that was made on
this machine, since it was last started, is it known that its process is gone.
"""

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from odyssey_core.errors import ConfigError, DataError
from odyssey_run.config.masking import HIDDEN
from odyssey_run.config.request import Request
from odyssey_run.reports.summary import counted
from odyssey_run.runs import command, provenance
from odyssey_run.runs.folder import RUNS
from odyssey_run.runs.recorded import opened, passing_over
from odyssey_run.runs.recorder import UNSENT
from odyssey_run.runs.statements import end_dead
from odyssey_run.tracking.client import answering, every_run, reach
from odyssey_run.tracking.location import Store, absolute, resolve
from odyssey_run.tracking.names import JOURNAL, Status, Tag
from odyssey_run.tracking.outbox import Outbox

DIED = "its process died"
PATIENCE = 10.0  # seconds


def doctor(request: Request) -> int:
    """Mends what it finds and prints a line for each run; returns 0, or 5 where an upload is incomplete."""
    folders = {path.parent.absolute() for path in RUNS.rglob(JOURNAL)}
    _end_dead(folders)
    store = resolve(request.tracking, request.data.name)
    found: set[Path] = set()
    if store and (store.database is None or store.database.exists()):
        try:
            client = reach(store)
            away = _running_elsewhere(client, store, folders)
            found = {folder for _, folder in away if folder}
            _end_dead(found)
            _end_without_folder(client, store, [run for run, folder in away if folder is None])
        except ConfigError as error:
            print(f"{error}; runs that are not uploaded stay here: run task=doctor again later")
            return UNSENT
    return _send(folders | found, store)


def _end_dead(folders: set[Path]) -> None:
    """Writes the end of every run that has none and whose journal no process holds."""
    for folder in sorted(folders):
        with passing_over(folder):
            run = opened(folder)
            if run and run.status is None and end_dead(folder, Status.KILLED, DIED):
                inside = run.start.parent is not None  # of a sweep or of several seeds, which goes on as a whole
                onward = "" if inside else f"; to go on: {command.onward(run.start, folder)}"
                print(f"{run.name}  {DIED}; marked KILLED{onward}")


def _running_elsewhere(client: Any, store: Store, folders: set[Path]) -> list[tuple[Any, Path | None]]:
    """Runs of this program that MLflow takes to be running and that are in none of the folders; with their own, which
    may be here. What MLflow says of it is believed where the journal there is of the same run."""
    known = {_key(folder) for folder in folders}
    found: list[tuple[Any, Path | None]] = []
    with answering(store):
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        for run in every_run(client, experiments, "attributes.status = 'RUNNING'") if experiments else ():
            key, folder = run.data.tags.get(Tag.RUN), Path(run.data.tags.get(Tag.FOLDER, ""))
            if key and key not in known:
                found.append((run, folder if _key(folder) == key else None))
    return found


def _key(folder: Path) -> str | None:
    """The key of the run in a folder; None where there is none whose journal can be read."""
    with suppress(DataError, OSError):  # for those under runs/ it was reported
        run = opened(folder)
        return run.key if run else None
    return None


def _end_without_folder(client: Any, store: Store, runs: list[Any]) -> None:
    """Ends in MLflow what has no folder here and whose process is known to be gone; tells of the others."""
    others: Counter[str] = Counter()
    with answering(store):
        for run in runs:
            tags = run.data.tags
            if _may_live(tags):
                others[tags.get(Tag.HOST, "an unknown host")] += 1
            else:
                client.set_terminated(run.info.run_id, Status.KILLED.value)
                print(f"{run.info.run_name}  {DIED} and {tags.get(Tag.FOLDER)} is gone; marked KILLED in MLflow")
    known = "as far as MLflow knows; if not, task=doctor there says so"
    for host, count in sorted(others.items()):
        print(f"{counted(count, 'run')} {'is' if count == 1 else 'are'} running on {host}, {known}")


def _may_live(tags: Mapping[str, str]) -> bool:
    """Whether the process of a run may be there: nothing is known of those on other machines."""
    now = provenance.process()
    if tags.get(Tag.HOST) != now["host"]:
        return True
    if tags.get(Tag.BOOT) != now["boot"]:
        return False
    try:
        os.kill(int(tags[Tag.PID]), 0)
    except PermissionError:  # somebody else's
        return True
    except (KeyError, ValueError, ProcessLookupError):
        return False
    return True


def _send(folders: set[Path], store: Store | None) -> int:
    """Sends the runs that have ended and are not all uploaded, to the store that the command names and no other."""
    own: dict[str, list[Path]] = {}  # by experiment
    others: Counter[str] = Counter()
    for folder in sorted(folders):
        with passing_over(folder), suppress(DataError):  # it was reported
            run = opened(folder)
            if not (run and run.unsent and (named := run.store)):
                continue
            if store and named["uri"] == store.named_in(folder):
                own.setdefault(named["experiment"], []).append(folder)
            else:
                others[absolute(named["uri"], folder)] += 1
    sent = [_send_to(replace(store, experiment=name), places) for name, places in own.items() if store]
    for uri, count in others.items():
        there = command.line(["task=doctor", command.override("tracking.uri", uri)])
        secret = f", with the password for {HIDDEN}" if HIDDEN in uri else ""
        print(f"{counted(count, 'run')} not yet in MLflow at {uri}; to send: {there}{secret}")
    if not own and not others:
        print("all runs are uploaded")
    return 0 if all(sent) and not others else UNSENT


def _send_to(store: Store, folders: list[Path]) -> bool:
    outbox = Outbox(store)
    for folder in folders:
        outbox.follow(folder / JOURNAL)
    outbox.close(PATIENCE)
    complete, runs = outbox.run(), counted(len(folders), "run")
    for line in outbox.refused:
        print(f"MLflow rejected {line}; it is not sent again")
    later = f"the upload of {runs} is incomplete: {outbox.fault}; run task=doctor again later"
    print(f"{store.shown}  {f'sent {runs}' if complete else later}")
    return complete
