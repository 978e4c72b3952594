"""What a sweep leaves when it is over: the leaderboard, the best configuration as an experiment, plots."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from odyssey_core.files import write_atomic
from odyssey_run.config.request import REGISTRIES
from odyssey_run.config.schema import SweepConfig
from odyssey_run.reports.outputs import csv_of
from odyssey_run.runs.provenance import NO_RESULT
from odyssey_run.runs.recorded import opened
from odyssey_run.sweep import space
from odyssey_run.sweep.finished import PointStatus
from odyssey_run.sweep.ranking import Row, number, tally

PAGE = "leaderboard.html"
NOTED = 30  # points in the description of a sweep


def publish(folder: Path, rows: list[Row], config: SweepConfig) -> Iterator[Path]:
    """Writes the files into a sweep's folder; yields the path of each. Rows are finished, the best first."""
    from odyssey_run.sweep import page, plots  # beside matplotlib's import

    yield _written(folder / "leaderboard.csv", csv_of(_table(rows, config)))
    yield _written(folder / "experiment/best.yaml", best_yaml(folder, rows[0]).encode())
    pictures = list(plots.draw(folder / "plots", rows, config))
    yield from (picture.path for picture in pictures)
    yield _written(folder / PAGE, page.page(folder.name, rows, config, pictures).encode())


def _written(path: Path, content: bytes) -> Path:
    write_atomic(path, content)
    return path


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
        f"{len(rows)} points, {config.strategy}: {tally(rows)}.",
        "",
        f"| | point | {config.metric} | test/accuracy |",
        "|---|---|---|---|",
    ]
    for place, row in enumerate(rows[:NOTED], 1):
        ids = [run.created for result in row.results if (run := opened(result.folder))]
        addresses = [f"#/experiments/{each.experiment_id}/runs/{each.run_id}" for each in ids if each]
        label = row.label.replace("|", "\\|")
        point = f"[{label}]({addresses[0]})" if addresses else label
        value = (
            number(config.metric, row.value)
            if row.status in (PointStatus.FINISHED, PointStatus.PRUNED)
            else row.status.lower()
        )
        lines.append(f"| {place} | {point} | {value} | {number('test/accuracy', row.test)} |")
    rest = f"and {len(rows) - NOTED} more, " if len(rows) > NOTED else ""
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
    return head + str(yaml.safe_dump({"defaults": defaults, **kept}, sort_keys=False, allow_unicode=True))
