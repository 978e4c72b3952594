"""What a run states: one list, made when the run ends, hashed into one digest, and held by ``task=verify``.

The list is the file ``statements.json``, a statement a line, and the run digest is the SHA-256 of that file. It is made
from the run's journal and the files in its folder, by the same function for a run that ends and for one that is
verified; what MLflow shows is put under the same names (`evidence`) and compared with it.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from odyssey_core.errors import ConfigError, DataError
from odyssey_core.files import stray_files, sync, write_atomic
from odyssey_run.config.claims import OF_THE_MACHINE
from odyssey_run.runs.folder import CHECKPOINT, CONFIG, LOG, REPORT, write_config
from odyssey_run.tracking import models
from odyssey_run.tracking.journal import Journal, inherit, inside, load, now
from odyssey_run.tracking.names import JOURNAL, Status, Tag
from odyssey_run.tracking.records import (
    MAX_PARAM,
    Artifact,
    End,
    Metrics,
    Model,
    Resume,
    RunRecords,
    Start,
    Tags,
    parse,
    whole,
)

FILE = "statements.json"
# Where the report shows the run digest, and what is in its place when the digest of the report itself is taken.
MARK, PENDING = b'id="digest"', b">" + b"0" * 64 + b"<"
_SHOWN = re.compile(MARK + rb">([0-9a-f]{64})<")
_OF_FILES = ("files/", "models/")  # what names of statements about them begin with
# How a statement can be held, the strongest first.
TRAINED, DERIVED, COMPARED = "trained again", "computed again", "compared with a digest"
HELD = (TRAINED, DERIVED, COMPARED)


def of_run(folder: Path, content: bytes, end: End, children: Mapping[str, str]) -> dict[str, Any]:
    """The list of a run in a folder, from its journal up to its last end. Raises DataError: a journal that is none.

    Args:
        end: that record.
        children: the runs under it, run digest by key.
    """
    return _listed(folder, content, whole(parse(content, folder / JOURNAL), folder / JOURNAL), end, children)


def _listed(folder: Path, content: bytes, run: RunRecords, end: End, children: Mapping[str, str]) -> dict[str, Any]:
    start = run.start
    stated: dict[str, Any] = {
        "name": start.name,
        "parent": start.parent,
        "status": end.status.value,
        "reason": end.reason,
        "began": start.time,
        "ended": end.time,
        "journal": {"bytes": len(content), "sha256": sha256(content)},
    }
    stated |= {f"params/{key}": value[:MAX_PARAM] for key, value in start.params.items()}
    stated |= {f"tags/{key}": value for key, value in run.tags.items() if key != Tag.RUN_DIGEST}
    stated[f"tags/{Tag.RUN}"] = start.run
    if facts := models.facts(start.tags):
        stated["data"] = facts
    times = {(record.step, name): record.time for record in run.of(Metrics) for name in record.values}
    for name, points in run.metrics.items():
        stated[f"metrics/{name}"] = sorted([step, value, times[step, name]] for step, value in points)
    stated |= {f"children/{key}": value for key, value in children.items()}
    for record in run.records:
        if isinstance(record, Artifact) and record.path != FILE:  # of an earlier end
            stated |= dict(_files(folder, record.path, "files/"))
            if record.path == CHECKPOINT and end.status != Status.KILLED:
                stated[f"files/{CHECKPOINT}"] = None  # MLflow keeps that of an earlier process
        elif isinstance(record, Model):
            stated |= dict(_files(folder, record.path, "models/"))
            stated[f"models/{record.path}"] = {name: value for name, value, *_ in models.shown_points(run.records)}
    return stated


def _files(folder: Path, name: str, prefix: str) -> Iterator[tuple[str, str | None]]:
    """SHA-256 of a file or of every file in a folder; None for one that a resumed run has left behind."""
    place = inside(folder, name)
    if not place.is_dir():
        yield f"{prefix}{name}", _of_file(place) if place.is_file() else None
        return
    for path in sorted(place.rglob("*")):
        if path.is_file():
            yield f"{prefix}{path.relative_to(folder).as_posix()}", _of_file(path)


def _of_file(path: Path) -> str:
    content = path.read_bytes()
    return sha256(_pending(content) if path.name == REPORT else content)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _pending(page: bytes) -> bytes:
    """A report with zeros in place of its run digest."""
    return _SHOWN.sub(MARK + PENDING, page, count=1)


def shows(page: bytes, digest: str) -> bool:
    """Whether a report shows this run digest and no other; zeros, where it was sent before the run's end."""
    found = [shown.decode() for shown in _SHOWN.findall(page)]
    return page.count(MARK) == 1 and found in ([digest], ["0" * 64])


def encode(stated: Mapping[str, Any]) -> bytes:
    """The file: one JSON object, a statement a line, in the order of their names."""
    lines = [f"{json.dumps(name)}: {json.dumps(stated[name], sort_keys=True)}" for name in sorted(stated)]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def decode(content: bytes, where: str) -> dict[str, Any]:
    """What `encode` wrote. Raises DataError for any other content."""
    try:
        stated: dict[str, Any] = json.loads(content)
        if encode(stated) == content:
            return stated
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    raise DataError(f"{where}: is not a list of statements that this program wrote")


def conclude(journal: Journal, status: Status, reason: str | None, waits: bool = True) -> str:
    """Ends a run: cleans its folder, makes the list, and writes both to the journal; returns the run digest.

    Args:
        waits: for the disk, before the end is written: after a power cut a run that has ended has all that it states.
    """
    folder = journal.path.parent
    for path in stray_files(folder):
        # A run below may still be writing.
        if not any((folder / part / JOURNAL).exists() for part in path.relative_to(folder).parents if part.name):
            path.unlink(missing_ok=True)
    run = journal.records()
    for name in (CONFIG, LOG):
        if (folder / name).exists():
            journal.append(Artifact(path=name, folder=""))
    begun = max(i for i, record in enumerate(run.records) if isinstance(record, Start | Resume))
    if not any(Tag.STEP in record.values for record in run.records[begun:] if isinstance(record, Tags)):
        points = [s for name, found in run.metrics.items() if not name.startswith(OF_THE_MACHINE) for s, _ in found]
        journal.append(Tags(values={Tag.STEP.value: str(max(points, default=0))}))
    end = End(status=status, reason=reason, time=now())
    children, content = ended_below(folder, run.key), journal.path.read_bytes()
    # What another process adds in between are notes, of which nothing is stated.
    listed = _listed(folder, content, journal.records(), end, children)
    stated = encode(listed)
    digest = sha256(stated)
    write_atomic(folder / FILE, stated)
    if (report := folder / REPORT).exists():
        write_atomic(report, _pending(report.read_bytes()).replace(MARK + PENDING, MARK + f">{digest}<".encode(), 1))
    if waits:
        named = (name for name, value in listed.items() if name.startswith(_OF_FILES) and isinstance(value, str))
        sync(folder / name.partition("/")[2] for name in named)
    journal.append(Artifact(path=FILE, folder=""))
    journal.append(Tags(values={Tag.RUN_DIGEST.value: digest}))
    journal.append(end)
    return digest


def end_dead(folder: Path, status: Status, reason: str, patience: float = 0.0) -> bool:
    """Writes the end that the process of a run could not; False where it still has the journal after these seconds."""
    try:
        journal = inherit(folder / JOURNAL, patience)
    except ConfigError:
        return False
    write_config(folder, journal.records().config)
    conclude(journal, status, reason)
    journal.close()
    return True


def ended_below(folder: Path, key: str) -> dict[str, str]:
    """The run digests of the runs in the folders of one that have ended, by key."""
    found = {}
    for path in sorted(folder.glob(f"*/{JOURNAL}")):
        with suppress(DataError):  # one bad journal is no fault of the others
            run = load(path)
            if run.start.parent == key and Tag.RUN_DIGEST in run.tags:
                found[run.key] = run.tags[Tag.RUN_DIGEST]
    return found
