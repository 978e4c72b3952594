"""One page that tells of a run from top to bottom, with everything it shows inside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from odyssey_run.config.claims import ClaimRow
from odyssey_run.reports import summary
from odyssey_run.reports.curves import epochs
from odyssey_run.reports.page import filled
from odyssey_run.reports.scores import Scores, confused_pairs, per_class
from odyssey_run.tracking.names import Tag
from odyssey_run.tracking.records import RunRecords


def rows_of_classes(scores: Scores) -> list[dict[str, Any]]:
    """One row a class: name, images, precision, recall, F1 (None: undefined), and what it is most often taken for."""
    confusion, names, values = scores.confusion, scores.class_names, per_class(scores.confusion)
    wrong = confusion - np.diag(np.diag(confusion))
    worst, times = wrong.argmax(axis=1), wrong.max(axis=1)
    return [
        {"class": name, "images": int(confusion[i].sum())}
        | {key: None if np.isnan(value[i]) else round(float(value[i]), 4) for key, value in values.items()}
        | {"taken_for": names[worst[i]] if times[i] else "", "times": int(times[i])}
        for i, name in enumerate(names)
    ]


def page(run: RunRecords, scores: Scores, claims: Sequence[ClaimRow], pictures: Mapping[str, Path | None]) -> str:
    names = scores.class_names
    confused = [(names[a], names[b], count) for a, b, count in confused_pairs(scores.confusion, len(names) ** 2)]
    return filled(
        "report.html",
        title=run.name,
        scores=scores,
        claims=claims,
        pictures=pictures,
        one_epoch=one_epoch(run.metrics),
        confused=confused,
        alike=sum(count for a, b, count in confused if scores.alike and scores.alike.reason(a, b)),
        classes=rows_of_classes(scores),
        facts=_facts(run),
    )


def one_epoch(points: Mapping[str, Sequence[tuple[int, float]]]) -> list[str]:
    """Accuracies in place of curves, of a run whose epochs make none."""
    names = {"train/accuracy": "on training images", "val/accuracy": "in validation", "test/accuracy": "in the test"}
    ended = [name for name in names if name in points and epochs(points) < 2]
    return [f"{points[name][-1][1]:.2%} {names[name]}" for name in ended]


def _facts(run: RunRecords) -> dict[str, str]:
    config, tags = run.config, run.start.tags
    groups = ("model", "data", "loss", "optim", "scheduler", "trainer")
    return {group: _arguments(config[group]) for group in groups if group in config} | {
        "seed": str(config["seed"]),
        "backend": tags.get(Tag.BACKEND, config["backend"]["name"]),
        "images": summary.official(tags.get(Tag.DATA_OFFICIAL, "")),
        "data SHA-256": tags.get(Tag.DATA_DIGEST, "")[:16],
        "code SHA-256": tags.get(Tag.CODE_DIGEST, "")[:16],
        "trained": summary.speed(run.last),
        "command": tags.get(Tag.COMMAND, ""),
    }


def _arguments(values: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{k} {v}" for k, v in values.items() if k != "name" and v is not None)
    return " · ".join(filter(None, (values.get("name"), rest)))
