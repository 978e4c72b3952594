"""What a benchmark shows: tables as Markdown, and plain numbers."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from odyssey_core.backends.numba.timing import RowTime
from odyssey_run.reports.tables import markdown
from odyssey_run.tasks.benchmark.measure import WHOLE, Figures, Line
from odyssey_run.tasks.benchmark.ours import ROW_BATCH
from odyssey_run.tasks.benchmark.peers import TRAIN, Case

# What a line of the parts tells of its rows; how they are cut into tiles and strips is in benchmark.json.
SIZES = ("channels", "out", "features", "pixels", "vectors")
LEAST_SHARE = 0.005  # of a step; parts below it share a line


def tables(figures: Figures) -> str:
    peaks = ", ".join(f"{peak:.0f} on {n} thread{'s' * (n > 1)}" for n, peak in figures.peaks().items())
    work = ", ".join(f"{kind} {flops / 1e6:.3f}" for kind, flops in figures.flops.items())
    head = f"Peak: {peaks} GFLOP/s. {figures.parameters:,} parameters; MFLOP an image, zeros included: {work}."
    return "\n".join([head, *_left_out(figures), "", _rates(figures.lines()), "", _parts(figures)])


def _left_out(figures: Figures) -> list[str]:
    """For each number of threads a sentence on the rounds that do not count."""
    found = []
    for threads in sorted({case.threads for case in figures.rounds} - {1}):
        of = [case for case in figures.rounds if case.threads == threads]
        ratios = [each.scaling for case in of for each in figures.rounds[case]]
        left_out = len(ratios) - sum(len(figures.counted(case)) for case in of)
        found.append(
            f"Multiply-adds on {threads} threads ran {min(ratios):.2f} to {max(ratios):.2f} times as fast as on one; "
            f"{left_out} of {len(ratios)} rounds below {WHOLE * threads:.2g} are left out."
        )
    return found


def _rates(lines: list[Line]) -> str:
    measured = ("images/s", "rounds", "GFLOP/s", "of peak")
    rows: list[tuple[str, ...]] = [("", "batch", "threads", *measured, "fastest peer", "images/s", "ratio")]
    for line in lines:
        case = (line.case.kind, str(line.case.batch), str(line.case.threads))
        rounds = f"{line.low:,.0f}–{line.high:,.0f}"
        own = (f"{line.images_per_s:,.0f}", rounds, f"{line.gflops:.1f}", f"{line.of_peak:.2f}")
        beside = (line.peer, f"{line.peer_images_per_s:,.0f}", f"{line.ratio:.1f} ×") if line.peer else ("", "", "")
        rows.append((*case, *own, *beside))
    return markdown(rows, left=(0, 7))


def _parts(figures: Figures) -> str:
    """Where a step goes: a line for all rows of one kernel that have the same sizes, the most expensive first."""
    whole, peak = _seconds(figures.rows), figures.peaks().get(1)
    table = [("rows", "sizes", "runs", "µs", "share", "GFLOP/s", "of peak")]
    parts = sorted(_grouped(figures.rows).items(), key=lambda part: -_seconds(part[1]))
    small = [row for _, rows in parts if _seconds(rows) < LEAST_SHARE * whole for row in rows]
    parts = [part for part in parts if _seconds(part[1]) >= LEAST_SHARE * whole]
    if small:
        parts.append(((f"each below {LEAST_SHARE:.1%}", ""), small))
    for (name, sizes), rows in parts:
        seconds, runs = _seconds(rows), sum(row.runs for row in rows)
        speed = sum(row.flops * row.runs for row in rows) / seconds / 1e9 if seconds else 0.0
        shown = (f"{speed:.0f}", f"{speed / peak:.2f}" if peak else "") if speed else ("", "")
        table.append((name, sizes, str(runs), f"{seconds * 1e6:.2f}", f"{seconds / whole:.1%}", *shown))
    table.append(("all rows", "", "", f"{whole * 1e6:.1f}", "100.0%", "", ""))
    own = [line for line in figures.lines() if line.case == Case(TRAIN, ROW_BATCH, 1)]
    for step in (1e6 * ROW_BATCH / line.images_per_s for line in own):
        speed = figures.flops[TRAIN] * ROW_BATCH / step / 1e3
        table.append(("a whole step", "", "", f"{step:.1f}", "", f"{speed:.0f}", ""))
    return f"One training step, batch {ROW_BATCH}, 1 thread:\n{markdown(table, left=(0, 1))}"


def _seconds(rows: Iterable[RowTime]) -> float:
    return sum(row.seconds * row.runs for row in rows)


def _grouped(rows: Iterable[RowTime]) -> dict[tuple[str, str], list[RowTime]]:
    """The rows by the name of their kernel and by their sizes."""
    parts: dict[tuple[str, str], list[RowTime]] = {}
    for row in rows:
        numbers = dict(number.split("=") for number in row.work.split())
        sizes = [f"{name}={numbers[name]}" for name in SIZES if name in numbers]
        if "height" in numbers:
            sizes.append(f"{numbers['height']}×{numbers['width']}")
        key = row.name.partition("[")[0], " ".join(sizes)
        parts.setdefault(key, []).append(row)
    return parts


def metrics(figures: Figures) -> dict[str, float]:
    """For MLflow: ``training/b32/t1/images_per_s`` and its like."""
    found = {f"peak/t{threads}/gflops": peak for threads, peak in figures.peaks().items()}
    for line in figures.lines():
        place = f"{line.case.kind}/b{line.case.batch}/t{line.case.threads}"
        for name in ("images_per_s", "gflops", "of_peak", "peer_images_per_s", "ratio"):
            value = getattr(line, name)
            if value is not None:
                found[f"{place}/{name}"] = value
    return found


def numbers(figures: Figures) -> dict[str, Any]:
    """For programs: each round of each case, and every row of the instruction table."""
    rounds = [asdict(case) | asdict(each) for case, found in figures.rounds.items() for each in found]
    work = {"flops": figures.flops, "parameters": figures.parameters}
    return work | {"rounds": rounds, "rows": [asdict(row) for row in figures.rows]}
