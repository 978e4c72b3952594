"""What a sweep leaves when it is over: the leaderboard as a table and as a page, the best configuration, a note."""

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from odyssey_core.files import write_atomic
from odyssey_run.config.request import REGISTRIES
from odyssey_run.config.schema import SweepConfig
from odyssey_run.config.yaml_text import yaml_text
from odyssey_run.reports.outputs import csv_of
from odyssey_run.reports.page import page, picture, side_by_side, table
from odyssey_run.reports.summary import number
from odyssey_run.runs.provenance import NO_RESULT
from odyssey_run.runs.recorded import opened
from odyssey_run.sweep import plots, space
from odyssey_run.sweep.results import PointStatus, Row, tally

PAGE = "leaderboard.html"
NOTED = 30  # points in the description of a sweep


def publish(folder: Path, rows: list[Row], config: SweepConfig) -> Iterator[Path]:
    """Writes the files into a sweep's folder; yields the path of each. Rows are finished, the best first."""
    pictures = list(plots.draw(folder / "plots", rows, config))
    yield from (path for path, _ in pictures)
    for name, content in (
        ("leaderboard.csv", csv_of(_table(rows, config))),
        ("experiment/best.yaml", best_yaml(folder, rows[0]).encode()),
        (PAGE, _page(folder.name, rows, config, pictures).encode()),
    ):
        write_atomic(folder / name, content)
        yield folder / name


def _table(rows: list[Row], config: SweepConfig) -> list[dict[str, Any]]:
    """Plain values; the same for the same runs, whatever the order in which they came."""
    return [
        {
            "place": place,
            **{key: space.plain(text) for key, text in row.trial.assignment},
            config.metric: row.value,
            "std": row.spread,
            "seeds": len(row.results),
            "test/accuracy": row.test,
            "status": row.status,
            **({} if row.missed is None else {"claims": "missed" if row.missed else "held"}),
            "weights": " ".join((result.weights or "")[:12] for result in row.results),
            "folder": " ".join(str(result.folder) for result in row.results),
        }
        for place, row in enumerate(rows, 1)
    ]


def note(rows: list[Row], config: SweepConfig) -> str:
    """The description of a sweep in MLflow: all its points, those too that an earlier command had run elsewhere."""
    lines = [
        f"{len(rows):,} points, {config.strategy}: {tally(rows)}.",
        "",
        f"| | point | {config.metric} | test/accuracy |",
        "|---|---|---|---|",
    ]
    for place, row in enumerate(rows[:NOTED], 1):
        ids = [run.created for result in row.results if (run := opened(result.folder))]
        addresses = [f"#/experiments/{each.experiment_id}/runs/{each.run_id}" for each in ids if each]
        label = row.label.replace("|", "\\|")
        point = f"[{label}]({addresses[0]})" if addresses else label
        valued = row.status in (PointStatus.FINISHED, PointStatus.PRUNED)
        value = number(config.metric, row.value) if valued else row.status.lower()
        lines.append(f"| {place} | {point} | {value} | {number('test/accuracy', row.test)} |")
    rest = f"and {len(rows) - NOTED:,} more, " if len(rows) > NOTED else ""
    return "\n".join([*lines, "", f"{rest}with pictures in the artifact `{PAGE}`."])


def best_yaml(folder: Path, row: Row) -> str:
    """The whole configuration of a row's run as an experiment, which runs whatever the defaults are."""
    config = json.loads(json.dumps(row.results[0].point.request.config))
    groups = [group for group in REGISTRIES if group in config]
    kept = {key: value for key, value in config.items() if key not in NO_RESULT}
    kept["backend"].pop("threads", None)
    defaults = [{f"override /{group}": config[group]["name"]} for group in groups]
    head = (
        "# @package _global_\n"
        f"# the best of its sweep: {row.label}\n"
        f"# odyssey-run --config-dir {folder} experiment=best\n"
    )
    return head + yaml_text({"defaults": defaults, **kept})


def _page(name: str, rows: list[Row], config: SweepConfig, pictures: Sequence[tuple[Path, str]]) -> str:
    best = f"<b>{number(config.metric, rows[0].value)}</b> {escape(config.metric)} with"
    return page(
        name,
        f'<p class="score">{best} {escape(rows[0].label)}</p>',
        f"<p>{len(rows):,} points, {config.strategy}: {tally(rows)}.</p>",
        side_by_side(picture(path, caption) for path, caption in pictures),
        "<h2>All points</h2>",
        table(*_cells(rows, config)),
        _reasons(rows),
        '<p class="note">leaderboard.csv has the folders of the runs and the digests of their weights too.</p>',
    )


def _cells(rows: list[Row], config: SweepConfig) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table: what varies and what came of it."""
    keys = [key for key, _ in rows[0].trial.assignment]
    seeds, tested = any(len(row.results) > 1 for row in rows), config.metric != "test/accuracy"
    lines = []
    for place, row in enumerate(rows, 1):
        values = [number(config.metric, row.value), *[number(config.metric, row.spread)] * seeds]
        values += [number("test/accuracy", row.test)] * tested
        ending = ("missed a claim" if row.missed else "") if row.status == PointStatus.FINISHED else row.status.lower()
        if ending:
            values[0] += f' <span class="failed">{escape(ending)}</span>'
        lines.append([str(place), *(escape(space.plain(text)) for _, text in row.trial.assignment), *values])
    head = ["", *keys, config.metric, *["±"] * seeds, *["test/accuracy"] * tested]
    return [escape(key) for key in head], lines


def _reasons(rows: list[Row]) -> str:
    lines = []
    for row in (row for row in rows if row.status == PointStatus.FAILED):
        reasons = dict.fromkeys(result.reason for result in row.results if result.reason)
        lines.append(f"<li>{escape(row.label)}: {escape('; '.join(reasons))}</li>")
    return f"<h2>What failed</h2><ul>{''.join(lines)}</ul>" if lines else ""
