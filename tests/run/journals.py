"""Journals as tests write and read them: records by kind, lines as the plain values that they hold."""

import json
from pathlib import Path
from typing import Any

from odyssey_run.tracking.journal import Journal
from odyssey_run.tracking.records import Record, parse

START = {
    "parent": None,
    "params": {},
    "tags": {},
    "process": {},
    "config": {group: {} for group in ("model", "data", "optim", "trainer", "backend", "run", "task")},
}


def record(kind: str, **values: Any) -> Record:
    """A record of a kind; a start has what a run of this program has at least."""
    content = {"kind": kind, "time": 0, **(START if kind == "start" else {}), **values}
    return parse(json.dumps(content).encode() + b"\n", Path("journal.jsonl"))[0]


def append(journal: Journal, kind: str, **values: Any) -> None:
    """Writes a record."""
    journal.append(record(kind, **values))


def lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a journal, which may still be written."""
    content = path.read_bytes()
    return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]
