"""Runs of a tenth of a second on one core, and what their journals say."""

import time
from pathlib import Path

from odyssey_run.tracking.journal import read
from odyssey_run.tracking.names import JOURNAL
from odyssey_run.tracking.records import Resume, Start

SMALL = ("model=linear", "data=digits", "backend=numpy", "trainer.epochs=2", "trainer.validation_size=100")


def processes(folder: Path) -> list[int]:
    """The process ids that were at a run, in order."""
    return [r.process["pid"] for r in read(folder / JOURNAL)[0] if isinstance(r, Start | Resume)]


def wait_for(what, seconds=60):
    """What a function returns, as soon as that is something."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found
