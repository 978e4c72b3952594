"""What a sweep leaves when it is over: the leaderboard, the best configuration as an experiment, plots."""

import csv
import html
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from odyssey_core.checkpoint import write_atomic
from odyssey_run.config.request import REGISTRIES
from odyssey_run.config.schema import SweepConfig
from odyssey_run.runs.provenance import NO_RESULT
from odyssey_run.sweep import space
from odyssey_run.sweep.ranking import Row

STYLE = (
    "body{font:14px system-ui;margin:2em}table{border-collapse:collapse}td,th{padding:.3em .8em;text-align:right;"
    "white-space:nowrap;border-bottom:1px solid #ddd}td:last-child{text-align:left;color:#777}"
    "tr.FAILED{color:#b00}tr.PRUNED{color:#999}"
)


def publish(folder: Path, rows: list[Row], config: SweepConfig) -> Iterator[Path]:
    """Writes the files; yields the path of each.

    Args:
        folder: of the sweep.
        rows: the best first, and finished.
        config: for the metric.
    """
    table = _table(rows, config)
    for name, content in (
        ("leaderboard.csv", _csv(table)),
        ("leaderboard.html", _html(table, folder.name)),
        ("experiment/best.yaml", best_yaml(folder, rows[0])),
    ):
        write_atomic(folder / name, content.encode())
        yield folder / name
    from odyssey_run.sweep import plots  # beside matplotlib's import

    yield from plots.draw(folder / "plots", rows, config)


def _table(rows: list[Row], config: SweepConfig) -> list[dict[str, Any]]:
    """Plain values; the same for the same runs, whatever the order in which they came."""
    table = []
    for place, row in enumerate(rows, 1):
        table.append(
            {
                "place": place,
                **{key: space.plain(text) for key, text in row.unit.assignment},
                config.metric: row.value,
                "std": row.spread,
                "seeds": len(row.results),
                "test/accuracy": row.test,
                "status": row.status,
                **({} if row.missed is None else {"claims": "missed" if row.missed else "held"}),
                "weights": " ".join((result.weights or "")[:12] for result in row.results),
                "folder": " ".join(str(result.folder) for result in row.results),
            }
        )
    return table


def _csv(table: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in table for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return out.getvalue()


def _html(table: list[dict[str, Any]], name: str) -> str:
    keys = list(dict.fromkeys(key for row in table for key in row))
    head = "".join(f"<th>{html.escape(key)}</th>" for key in keys)
    lines = []
    for row in table:
        cells = "".join(f"<td>{html.escape(_shown(row.get(key)))}</td>" for key in keys)
        lines.append(f'<tr class="{row["status"]}">{cells}</tr>')
    title = f"sweep:{html.escape(name)}"
    return (
        f'<!doctype html><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>'
        f"<table><tr>{head}</tr>\n" + "\n".join(lines) + "\n</table>\n"
    )


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


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
    return head + yaml.safe_dump({"defaults": defaults, **kept}, sort_keys=False, allow_unicode=True)
