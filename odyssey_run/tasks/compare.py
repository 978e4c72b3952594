"""``task=compare runs=[A,B,...]``: what differs between runs and what came of it, with their curves over each other."""

import re
from collections.abc import Iterator

from odyssey_core.errors import ConfigError, DataError, OdysseyError, shortened
from odyssey_core.files import write_atomic
from odyssey_core.places import expanded
from odyssey_run.config.binding import Faults
from odyssey_run.config.request import Request
from odyssey_run.reports.outputs import writing
from odyssey_run.runs import recorded
from odyssey_run.runs.recorded import RecordedRun
from odyssey_run.tracking.client import every_run, fault_of, reach
from odyssey_run.tracking.location import resolve
from odyssey_run.tracking.names import JOURNAL, Tag

MOST = 21  # runs whose curves can be told apart
_FILTER = re.compile(r"[<>=]|\b(LIKE|ILIKE|IN|IS)\b", re.I)  # what every filter of MLflow's has


def compare(request: Request, runs: str | list[str], out: str) -> int:
    """Prints a table of what differs between runs and what came of them, and writes a page with their curves."""
    page = expanded(out)
    if page.suffix != ".html":
        raise ConfigError(f"out: expected a name that ends in .html, got {shortened(str(page))}")
    picture = page.with_suffix(".png")
    found = list({run.key: run for run in _runs(request, runs)}.values())
    if not 2 <= len(found) <= MOST:
        named = ", ".join([*(run.name for run in found[:5]), *["..."] * (len(found) > 5)])
        raise ConfigError(f"runs: from 2 to {MOST} runs are compared, got {len(found)}{named and ': '}{named}")
    from odyssey_run.reports import comparison, style  # beside Matplotlib's import

    with writing(page), writing(picture), style.styled():
        style.save(comparison.curves(found), picture)
        write_atomic(page, comparison.page(found, picture).encode())
    print(f"{comparison.text(found)}\n\nreport   {page}")
    return 0


def _runs(request: Request, named: str | list[str]) -> Iterator[RecordedRun]:
    """Those that are meant; a sweep, or a run of several seeds, stands for its parts. Raises Faults of all missing."""
    faults: list[str] = []
    if isinstance(named, str) and named.startswith("[") and named.endswith("]"):  # Hydra reads no = in a list
        named = [name.strip() for name in named[1:-1].split(",")]
    names = [named] if isinstance(named, str) else named
    if isinstance(named, str) and _FILTER.search(named) and not recorded.locate(named):
        names = _search(request, named)
    for name in names:
        try:
            run = recorded.find(name, request.tracking)
            below = sorted(run.folder.glob(f"*/{JOURNAL}")) if run.folder and run.has_parts else []
            yield from map(recorded.open_run, (path.parent for path in below)) if below else [run]
        except (ConfigError, DataError) as error:
            faults.append(f"runs: {str(error).removeprefix('run_id: ')}")
    if faults:
        raise Faults(faults)


def _search(request: Request, condition: str) -> list[str]:
    """MLflow's ids of the runs that fit a filter. Raises ConfigError: no store, no such run, a rejected filter."""
    store = resolve(request.tracking, "")
    if store is None or (store.database and not store.database.exists()):
        raise ConfigError("runs: a filter needs an MLflow store, and there is none; name the runs")
    client = reach(store)
    wanted = request.tracking.experiment
    try:
        known = [e.experiment_id for e in client.search_experiments() if wanted in (None, e.name)]
        found = [run.info.run_id for run in every_run(client, known, condition) if Tag.RUN in run.data.tags]
    except OdysseyError:
        raise
    except Exception as error:  # of whatever kind of store
        raise ConfigError(f"runs: MLflow rejects the filter {shortened(condition)!r}: {fault_of(error)}") from None
    if not found:
        raise ConfigError(f"runs: no run in {store.shown} fits {shortened(condition)!r}")
    return found
