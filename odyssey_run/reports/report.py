"""One page that tells of a run from top to bottom, with everything it shows inside it."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from odyssey_run.config.claims import ClaimRow
from odyssey_run.reports import summary
from odyssey_run.reports.curves import epochs
from odyssey_run.reports.page import filled, picture, table
from odyssey_run.reports.page import page as html
from odyssey_run.reports.scores import Scores, confused_pairs, per_class
from odyssey_run.runs.statements import MARK, PENDING
from odyssey_run.tracking.names import Tag
from odyssey_run.tracking.records import RunRecords

PAIRS = 12
WIDE = 20  # classes from which a confusion matrix needs the whole page
CAPTIONS = {
    "loss": "The line of training is the mean over the images of an epoch while they are trained on.",
    "accuracy": "Training is measured after each epoch on as many images as validation, but at most 1,000. Where it "
    "goes on rising and validation does not, the model overfits.",
    "learning_rate": "",
    "weight_norms": "After each epoch. A weight that grows without end shows here first.",
    "gradient_norms": "Of the same batch each time. A gradient that vanishes or explodes shows here first.",
    "confusion": "Each row is a true class, each column a predicted one; the diagonal is correct.",
    "classes": "Precision: of the images given this label, how many are of the class. Recall: of the images of the "
    "class, how many are given its label. F1 is their harmonic mean.",
    "mistakes": "The errors made with most confidence: some images are mislabelled, some could be either class.",
    "first_layer": "The first weights as images, and what they make of the first test image.",
}


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


def page(run: RunRecords, scores: Scores, claims: Sequence[ClaimRow], pictures: Mapping[str, Path]) -> str:
    whole = len(scores.class_names) > WIDE
    shown = {name: picture(path, CAPTIONS[name], name == "confusion" and whole) for name, path in pictures.items()}
    body = filled(
        "report.html",
        score=f"{scores.accuracy:.2%}",
        correct=f"{scores.correct:,} of {len(scores.labels):,} test images of {escape(scores.data)}",
        claims=_claims(claims),
        one_epoch=_one_epoch(run.metrics),
        confused=_confused(scores),
        table_of_classes=_classes(scores),
        facts=_facts(run),
        **shown,
    )
    return html(run.name, body)


def _one_epoch(points: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Figures in place of curves, of a run whose epochs make none."""
    if epochs(points) > 1:
        return ""
    names = {"train/accuracy": "on training images", "val/accuracy": "in validation", "test/accuracy": "in the test"}
    found = [f"{points[name][-1][1]:.2%} {where}" for name, where in names.items() if name in points]
    return f"<p>One epoch makes no curve by epochs. Its accuracy: {', '.join(found)}.</p>"


def _facts(run: RunRecords) -> str:
    config, tags = run.config, run.start.tags
    groups = ("model", "data", "loss", "optim", "scheduler", "trainer")
    rows = {group: _arguments(config[group]) for group in groups if group in config} | {
        "seed": str(config["seed"]),
        "backend": tags.get(Tag.BACKEND, config["backend"]["name"]),
        "images": summary.official(tags.get(Tag.DATA_OFFICIAL, "")),
        "data SHA-256": tags.get(Tag.DATA_DIGEST, "")[:16],
        "code SHA-256": tags.get(Tag.CODE_DIGEST, "")[:16],
        "trained": summary.speed(run.last),
        "command": tags.get(Tag.COMMAND, ""),
    }
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows.items() if v)
    # Known when the run has ended: `statements.conclude` puts it in.
    return f"{facts}<dt>run digest</dt><dd {MARK.decode()}{PENDING.decode()}/dd>"


def _arguments(values: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{k} {v}" for k, v in values.items() if k != "name" and v is not None)
    return " · ".join(filter(None, (values.get("name"), rest)))


def _claims(claims: Sequence[ClaimRow]) -> str:
    if not claims:
        return ""
    rows = []
    for claim in claims:
        value = "not recorded" if claim["value"] is None else f"{claim['value']:.6g}"
        verdict = f'<span class="{claim["verdict"]}">{claim["verdict"]}</span>'
        rows.append((escape(claim["metric"]), escape(claim["condition"]), value, verdict))
    return "<h2>What it claimed</h2>" + table(("metric", "expected", "found", "verdict"), rows)


def _confused(scores: Scores) -> str:
    """The pairs of classes that are confused most and, where a person confuses some too, what they share."""
    names, wrong = scores.class_names, len(scores.labels) - scores.correct
    if not wrong:
        return "<p>Not one image was taken for another class.</p>"
    pairs = [(names[a], names[b], count) for a, b, count in confused_pairs(scores.confusion, len(names) ** 2)]
    rows = [
        (f"<b>{escape(a)}</b> and <b>{escape(b)}</b>", f"{count:,}", f"{count / wrong:.1%}")
        for a, b, count in pairs[:PAIRS]
    ]
    head = ("classes", "images", "of mistakes")
    if not scores.alike:
        return f"<p>The classes most often taken for each other, in {wrong:,} mistakes.</p>{table(head, rows)}"
    reason = scores.alike.reason
    alike = sum(count for a, b, count in pairs if reason(a, b))
    shared = [escape(reason(a, b) or "– a person would rarely do this") for a, b, _ in pairs[:PAIRS]]
    forgiven = (scores.correct + alike) / len(scores.labels)
    return (
        f"<p>Of {wrong:,} mistakes, {alike:,} ({alike / wrong:.0%}) are between "
        f"{escape(scores.alike.told_apart)}. Were those forgiven, {forgiven:.2%} would be right.</p>"
        + table((*head, "what they share"), [(*row, why) for row, why in zip(rows, shared, strict=True)])
    )


def _classes(scores: Scores) -> str:
    rows = []
    for row in rows_of_classes(scores):
        shares = [row[key] for key in ("precision", "recall", "f1")]
        bars = ["–" if x is None else f'<i style="--v:{100 * x:.1f}%">{100 * x:.1f}</i>' for x in shares]
        taken = f"{escape(row['taken_for'])} × {row['times']}" if row["times"] else ""
        rows.append((f"<b>{escape(row['class'])}</b>", f"{row['images']:,}", *bars, taken))
    return table(("class", "images", "precision %", "recall %", "F1 %", "taken for"), rows)
