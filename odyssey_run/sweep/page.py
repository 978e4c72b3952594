"""The page of a sweep: its pictures, and all its points in a table."""

from collections.abc import Sequence
from html import escape

from odyssey_run.config.schema import SweepConfig
from odyssey_run.reports.page import page as html_page
from odyssey_run.reports.page import picture, side_by_side, table
from odyssey_run.sweep import space
from odyssey_run.sweep.finished import PointStatus
from odyssey_run.sweep.plots import Picture
from odyssey_run.sweep.ranking import Row, number, tally


def page(name: str, rows: list[Row], config: SweepConfig, pictures: Sequence[Picture]) -> str:
    best = f"<b>{number(config.metric, rows[0].value)}</b> {escape(config.metric)} with"
    return html_page(
        name,
        f'<p class="score">{best} {escape(rows[0].label)}</p>',
        f"<p>{len(rows)} points, {config.strategy}: {tally(rows)}.</p>",
        side_by_side(picture(each.path, each.caption) for each in pictures),
        "<h2>All points</h2>",
        table(*_cells(rows, config)),
        _reasons(rows),
        '<p class="note">leaderboard.csv has the folders of the runs and the digests of their weights too.</p>',
    )


def _cells(rows: list[Row], config: SweepConfig) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table: what varies and what came of it; below that why, where a run did not finish."""
    keys = [key for key, _ in rows[0].trial.assignment]
    seeds = any(len(row.results) > 1 for row in rows)
    names = dict.fromkeys([config.metric, "test/accuracy"])
    lines = []
    for place, row in enumerate(rows, 1):
        values = [number(config.metric, row.value), *[number(config.metric, row.spread)] * seeds]
        values += [number("test/accuracy", row.test)] * (len(names) > 1)
        if fault := _ending(row):
            values[0] += f' <span class="failed">{escape(fault)}</span>'
        lines.append([str(place), *(escape(space.plain(text)) for _, text in row.trial.assignment), *values])
    head = ["", *keys, config.metric, *["±"] * seeds, *list(names)[1:]]
    return [escape(key) for key in head], lines


def _reasons(rows: list[Row]) -> str:
    lines = []
    for row in (row for row in rows if row.status == PointStatus.FAILED):
        reasons = dict.fromkeys(result.reason for result in row.results if result.reason)
        lines.append(f"<li>{escape(row.label)}: {escape('; '.join(reasons))}</li>")
    return f"<h2>What failed</h2><ul>{''.join(lines)}</ul>" if lines else ""


def _ending(row: Row) -> str:
    """How a point ended that did not finish or missed a claim; empty for any other."""
    if row.status == PointStatus.FINISHED:
        return "missed a claim" if row.missed else ""
    return row.status.lower()
