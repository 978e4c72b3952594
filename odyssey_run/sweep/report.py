"""What a sweep leaves when it is over: the leaderboard as a table and as a page, the best configuration, a note."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from odyssey_core.files import write_atomic
from odyssey_run.config.request import REGISTRIES
from odyssey_run.config.schema import SweepConfig
from odyssey_run.config.yaml_text import yaml_text
from odyssey_run.reports.outputs import csv_of
from odyssey_run.reports.page import filled
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
    keys = [key for key, _ in rows[0].trial.assignment]
    shown = {"rows": rows, "keys": keys, "metric": config.metric, "pictures": pictures, "plain": space.plain}
    page = filled("leaderboard.html", title=folder.name, told=_told(rows, config), **shown)
    for name, content in (
        ("leaderboard.csv", csv_of(_table(rows, config))),
        ("experiment/best.yaml", best_yaml(folder, rows[0]).encode()),
        (PAGE, page.encode()),
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


def _told(rows: list[Row], config: SweepConfig) -> str:
    return f"{len(rows):,} points, {config.strategy}: {tally(rows)}."


def note(rows: list[Row], config: SweepConfig, page: bool) -> str:
    """The description of a sweep in MLflow: all its points, those too that an earlier command had run elsewhere."""
    lines = [
        _told(rows, config),
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
    rest = [f"and {len(rows) - NOTED:,} more"] if len(rows) > NOTED else []
    rest += [f"with pictures in the artifact `{PAGE}`"] if page else []
    return "\n".join([*lines, *(["", f"{', '.join(rest)}."] if rest else [])])


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
