"""A run in a few lines of Markdown, for the top of its page in MLflow."""

from collections.abc import Mapping, Sequence

from odyssey_run.config.claims import ClaimRow
from odyssey_run.tracking.names import Tag
from odyssey_run.tracking.records import RunRecords


def official(told: str, after: str = "") -> str:
    """Whether a data set's files are the published ones, as its tag has it (true or false), for people; "" where none
    are published."""
    what = {"true": "the official files", "false": "not the official files"}.get(told.lower())
    return f"{after}{what}" if what else ""


def number(metric: str, value: float | None) -> str:
    """A value of an accuracy or a loss, as a table has it."""
    return "" if value is None else f"{value:.2%}" if metric.endswith("accuracy") else f"{value:.4f}"


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def speed(last: Mapping[str, float]) -> str:
    """How long training took and how fast it was; "" where that was not recorded."""
    if "time/images_per_s" not in last:
        return ""
    return f"{last['time/train_s']:,.1f} s, {last['time/images_per_s']:,.0f} images/s"


def note(run: RunRecords, claims: Sequence[ClaimRow], report: bool) -> str:
    config, tags, last = run.config, run.start.tags, run.last
    optim, trainer = config["optim"], config["trainer"]
    unofficial = ", not the official files" if tags.get(Tag.DATA_OFFICIAL) == "false" else ""
    most = f", at most {trainer['max_steps']:,} steps" if trainer["max_steps"] else ""
    lines = [
        f"**{config['model']['name']}** on **{tags.get(Tag.DATA_NAME, config['data']['name'])}**{unofficial}, "
        f"{optim['name']} with lr {optim['lr']:g}, {trainer['epochs']} epochs of batches of {trainer['batch_size']}"
        f"{most}, seed {config['seed']}.",
        "",
        "| metric | value |",
        "|---|---|",
    ]
    names = ("test/accuracy", "val/accuracy", "test/loss", "val/loss", "train/loss")
    lines += [f"| {name} | {number(name, last[name])} |" for name in names if name in last]
    if took := speed(last):
        lines.append(f"| training | {took} |")
    lines += [f"| claim: {c['metric']} {c['condition']} | {c['verdict']} |" for c in claims]
    if report:
        lines += ["", "The whole story is in the artifact `report.html`."]
    if run.start.parent:
        lines += ["", "Versions of packages and the text of plug-ins are among the artifacts of its parent run."]
    lines += ["", f"`{tags.get(Tag.COMMAND, '')}`"]
    return "\n".join(lines)
