"""One page that tells of a run from top to bottom, with everything it shows inside it."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from odyssey_run.plots.lookalikes import reason
from odyssey_run.plots.scores import Scores, confused_pairs, per_class

PAIRS = 12
CAPTIONS = {
    "learning": "Loss, accuracy and learning rate by optimizer step. The star is the test, read once, at the end.",
    "norms": "Norms per layer after each epoch. A gradient that vanishes or a weight that runs away shows here first.",
    "confusion": "Each row is a class, each column an answer; the diagonal is right. Numbers from 10 % on.",
    "classes": "Precision: how often the answer is true. Recall: how many of the class are found. F1 joins the two.",
    "mistakes": "The wrong answers given with most confidence: some are mislabelled, some could be read either way.",
    "first_layer": "The first weights as images, and their answers to the first test image.",
}


def rows_of_classes(scores: Scores) -> list[dict[str, Any]]:
    """One row a class: name, images, precision, recall, F1, and what it is most often taken for."""
    confusion, names = scores.confusion, scores.class_names
    values, rows = per_class(confusion), []
    for i, name in enumerate(names):
        others = confusion[i] * (np.arange(len(names)) != i)
        worst = int(others.argmax())
        rows.append(
            {"class": name, "images": int(confusion[i].sum())}
            | {key: round(float(value[i]), 4) for key, value in values.items()}
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
    template = Template((files("odyssey_run.plots") / "report.html").read_text(encoding="utf-8"))
    return template.substitute(
        name=escape(start["name"]),
        accuracy=f"{scores.accuracy:.2%}",
        answers=f"{scores.correct:,} of {len(scores.labels):,} test images",
        facts=_facts(start, points),
        claims=_claims(claims),
        confused=_confused(scores),
        table=_classes(scores),
        **{name: _picture(name, pictures.get(name)) for name in CAPTIONS},
    )


def _picture(name: str, path: Path | None) -> str:
    if path is None:
        return ""
    data, caption = base64.b64encode(path.read_bytes()).decode(), CAPTIONS[name]
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(caption)}">'
    return f'<figure class="{name}"><div>{image}</div><figcaption>{escape(caption)}</figcaption></figure>'


def _facts(start: Mapping[str, Any], points: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    config, tags = start["config"], start["tags"]
    last = {name: values[-1][1] for name, values in points.items()}
    trained = last.get("time/train_s")
    groups = ("model", "data", "optim", "scheduler", "trainer")
    rows = {group: _arguments(config[group]) for group in groups if group in config} | {
        "seed": str(config["seed"]),
        "backend": tags.get("odyssey.backend", config["backend"]["name"]),
        "images": "the official files" if tags.get("odyssey.data.official") == "true" else "not the official files",
        "data digest": tags.get("odyssey.data.sha256", "")[:16],
        "code digest": tags.get("odyssey.code.sha256", "")[:16],
        "trained": f"{trained:,.1f} s, {last['time/images_per_s']:,.0f} images/s" if trained else "",
        "command": tags.get("odyssey.command", ""),
    }
    return "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows.items() if v)


def _arguments(values: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{k} {v}" for k, v in values.items() if k != "name" and v is not None)
    return " · ".join(part for part in (values.get("name", ""), rest) if part)


def _claims(claims: Sequence[Mapping[str, Any]]) -> str:
    if not claims:
        return "<p>This run claims nothing: its configuration has no <code>expect</code>.</p>"
    rows = "".join(
        f'<tr class="{escape(c["verdict"])}"><td>{escape(c["metric"])}</td><td>{escape(c["condition"])}</td>'
        f"<td>{'never came' if c['value'] is None else format(c['value'], '.6g')}</td><td>{escape(c['verdict'])}</td></tr>"
        for c in claims
    )
    head = "<tr><th>metric</th><th>expected</th><th>found</th><th>verdict</th></tr>"
    return f'<div class="wide"><table class="claims">{head}{rows}</table></div>'


def _confused(scores: Scores) -> str:
    """The pairs that are confused most, and what may be said for it."""
    names, wrong = scores.class_names, len(scores.labels) - scores.correct
    if not wrong:
        return "<p>Not one image was taken for another class.</p>"
    every = confused_pairs(scores.confusion, len(names) ** 2)
    forgiven = sum(count for a, b, count in every if reason(names[a], names[b]))
    rows = "".join(
        f"<tr><td><b>{escape(names[a])}</b> and <b>{escape(names[b])}</b></td><td>{count:,}</td>"
        f"<td>{count / wrong:.1%}</td><td>{escape(reason(names[a], names[b]) or '– a person would rarely do this')}</td></tr>"
        for a, b, count in every[:PAIRS]
    )
    head = "<tr><th>classes</th><th>images</th><th>of mistakes</th><th>what they share</th></tr>"
    return (
        f"<p>Of {wrong:,} mistakes, {forgiven:,} ({forgiven / wrong:.0%}) are between characters that look alike and that "
        f"a reader tells apart by the word around them. Were those forgiven, "
        f"{(scores.correct + forgiven) / len(scores.labels):.2%} would be right.</p>"
        f'<div class="wide"><table>{head}{rows}</table></div>'
    )


def _classes(scores: Scores) -> str:
    rows = "".join(
        f"<tr><td><b>{escape(r['class'])}</b></td><td>{r['images']:,}</td>"
        + "".join(f'<td class="bar" style="--v:{100 * r[k]:.1f}%">{100 * r[k]:.1f}</td>' for k in ("precision", "recall", "f1"))
        + f"<td>{escape(r['taken_for'])}{' × ' + str(r['times']) if r['times'] else ''}</td></tr>"
        for r in rows_of_classes(scores)
    )
    head = "<tr><th>class</th><th>images</th><th>precision %</th><th>recall %</th><th>F1 %</th><th>taken for</th></tr>"
    return f'<div class="wide"><table class="classes">{head}{rows}</table></div>'
