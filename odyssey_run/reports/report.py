"""One page that tells of a run from top to bottom, with everything it shows inside it."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from odyssey_run.reports import style, summary
from odyssey_run.reports.scores import Scores, confused_pairs, per_class
from odyssey_run.runs.statements import MARK, PENDING

PAIRS = 12
LEGIBLE = 84 / style.DPI  # at 84 pixels an inch the smallest letters can still be read
CAPTIONS = {
    "learning": "Loss, accuracy and learning rate by optimizer step. The star is the test, read once, at the end.",
    "norms": "Norms per layer after each epoch. A gradient that vanishes or a weight that runs away shows here first.",
    "confusion": "Each row is a class, each column an answer; the diagonal is right. Numbers from 10 % on.",
    "classes": "Precision: how often the answer is true. Recall: how many of the class are found. F1 joins the two.",
    "mistakes": "The wrong answers given with most confidence: some are mislabelled, some could be either class.",
    "first_layer": "The first weights as images, and their answers to the first test image.",
}


def rows_of_classes(scores: Scores) -> list[dict[str, Any]]:
    """One row a class: name, images, precision, recall, F1 (None: undefined), and what it is most often taken for."""
    confusion, names = scores.confusion, scores.class_names
    values, rows = per_class(confusion), []
    for i, name in enumerate(names):
        others = confusion[i] * (np.arange(len(names)) != i)
        worst = int(others.argmax())
        rows.append(
            {"class": name, "images": int(confusion[i].sum())}
            | {key: None if np.isnan(value[i]) else round(float(value[i]), 4) for key, value in values.items()}
            | {"taken_for": names[worst] if others[worst] else "", "times": int(others[worst])}
        )
    return rows


def page(
    records: Sequence[Mapping[str, Any]],
    points: Mapping[str, Sequence[tuple[int, float]]],
    scores: Scores,
    claims: Sequence[Mapping[str, Any]],
    pictures: Mapping[str, Path],
) -> str:
    """The whole page, as HTML.

    Args:
        records: the journal of the training.
        points: its metrics, name to (step, value).
        scores: answers on the test images.
        claims: rows of ``claims.report``.
        pictures: by name, PNG files.
    """
    start = next(r for r in records if r["kind"] == "start")
    template = Template((files("odyssey_run.reports") / "report.html").read_text(encoding="utf-8"))
    return template.substitute(
        name=escape(start["name"]),
        accuracy=f"{scores.accuracy:.2%}",
        answers=f"{scores.correct:,} of {len(scores.labels):,} test images of {escape(scores.data)}",
        facts=_facts(start, points),
        claims=_claims(claims),
        confused=_confused(scores),
        table=_classes(scores),
        **{name: _picture(name, pictures.get(name)) for name in CAPTIONS},
    )


def _picture(name: str, path: Path | None) -> str:
    if path is None:
        return ""
    png, caption = path.read_bytes(), CAPTIONS[name]
    data, width = base64.b64encode(png).decode(), int.from_bytes(png[16:20])  # as PNG's head states it
    least = f' style="min-width: {round(width * LEGIBLE)}px"' if name == "confusion" else ""
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(caption)}"{least}>'
    return f'<figure class="{name}"><div>{image}</div><figcaption>{escape(caption)}</figcaption></figure>'


def _facts(start: Mapping[str, Any], points: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    config, tags = start["config"], start["tags"]
    last = {name: values[-1][1] for name, values in points.items()}
    trained = last.get("time/train_s")
    groups = ("model", "data", "loss", "optim", "scheduler", "trainer")
    rows = {group: _arguments(config[group]) for group in groups if group in config} | {
        "seed": str(config["seed"]),
        "backend": tags.get("odyssey.backend", config["backend"]["name"]),
        "images": summary.official(tags.get("odyssey.data.official", "")),
        "data digest": tags.get("odyssey.data.sha256", "")[:16],
        "code digest": tags.get("odyssey.code.sha256", "")[:16],
        "trained": f"{trained:,.1f} s, {last['time/images_per_s']:,.0f} images/s" if trained else "",
        "command": tags.get("odyssey.command", ""),
    }
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows.items() if v)
    # Known when the run has ended: `statements.conclude` puts it in.
    return f"{facts}<dt>run digest</dt><dd {MARK.decode()}{PENDING.decode()}/dd>"


def _arguments(values: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{k} {v}" for k, v in values.items() if k != "name" and v is not None)
    return " · ".join(part for part in (values.get("name", ""), rest) if part)


def _claims(claims: Sequence[Mapping[str, Any]]) -> str:
    if not claims:
        return ""
    rows = []
    for claim in claims:
        value = "never came" if claim["value"] is None else f"{claim['value']:.6g}"
        verdict = f'<span class="{escape(claim["verdict"])}">{escape(claim["verdict"])}</span>'
        rows.append((escape(claim["metric"]), escape(claim["condition"]), value, verdict))
    return "<h2>What it claimed</h2>" + _table(("metric", "expected", "found", "verdict"), rows)


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
        return f"<p>The classes most often taken for each other, in {wrong:,} mistakes.</p>{_table(head, rows)}"
    reason = scores.alike.reason
    alike = sum(count for a, b, count in pairs if reason(a, b))
    shared = [escape(reason(a, b) or "– a person would rarely do this") for a, b, _ in pairs[:PAIRS]]
    forgiven = (scores.correct + alike) / len(scores.labels)
    return (
        f"<p>Of {wrong:,} mistakes, {alike:,} ({alike / wrong:.0%}) are between "
        f"{escape(scores.alike.told_apart)}. Were those forgiven, {forgiven:.2%} would be right.</p>"
        + _table((*head, "what they share"), [(*row, why) for row, why in zip(rows, shared, strict=True)])
    )


def _classes(scores: Scores) -> str:
    rows = []
    for row in rows_of_classes(scores):
        bars = [_bar(row[key]) for key in ("precision", "recall", "f1")]
        taken = f"{escape(row['taken_for'])} × {row['times']}" if row["times"] else ""
        rows.append((f"<b>{escape(row['class'])}</b>", f"{row['images']:,}", *bars, taken))
    return _table(("class", "images", "precision %", "recall %", "F1 %", "taken for"), rows)


def _bar(share: float | None) -> str:
    return "–" if share is None else f'<i style="--v:{100 * share:.1f}%">{100 * share:.1f}</i>'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table that scrolls sideways where it must; the cells are HTML already."""
    lines = [f"<tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows]
    return f'<div class="wide"><table>{"".join(lines)}</table></div>'
