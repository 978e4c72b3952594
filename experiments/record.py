"""Takes a verified run of an experiment out of MLflow: ``python experiments/record.py NAME RUN_ID``.

Writes experiments/NAME/result.json, then the table in experiments/NAME/README.md and the one in the top README.md,
which hold nothing but what the result.json files say. The store is found as `odyssey-run` finds it.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hydra
from omegaconf import OmegaConf

from odyssey_core.errors import ConfigError, OdysseyError
from odyssey_core.files import write_atomic
from odyssey_run.config import claims
from odyssey_run.config.schema import TrackingConfig
from odyssey_run.runs.provenance import flatten
from odyssey_run.tasks.verify.evidence import InMLflow
from odyssey_run.tasks.verify.verdict import REPRODUCED
from odyssey_run.tracking.client import make_client
from odyssey_run.tracking.location import resolve
from odyssey_run.tracking.names import Tag

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS, CONF = ROOT / "experiments", ROOT / "conf" / "experiment"
RESULT, README = "result.json", "README.md"
MEASURED, ALL = "measured", "experiments"  # what the markers in a README are called
# May differ from where it is run to where: places, how it was asked for, what it draws.
ELSEWHERE = ("run.", "tracking.", "task.", "sweep.", "plots.", "resume", "data.root", "backend.threads")
KEPT = ("test/accuracy", "test/loss", "time/train_s", "time/images_per_s")


def names() -> list[str]:
    """Every experiment that has a YAML."""
    return sorted(path.stem for path in CONF.glob("*.yaml"))


def result(name: str) -> dict[str, Any] | None:
    """What was recorded of an experiment; None before its first run."""
    path = EXPERIMENTS / name / RESULT
    return json.loads(path.read_text()) if path.exists() else None


def recipe(name: str) -> dict[str, Any]:
    """Every value of the composed experiment that does not depend on where it is run."""
    with hydra.initialize_config_dir(str(CONF.parent), version_base="1.3"):
        config = OmegaConf.to_container(hydra.compose("config", [f"experiment={name}"]), resolve=True)
    return _decisive(config)


def _decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flatten(config).items() if not key.startswith(ELSEWHERE)}


def record(name: str, run_id: str) -> dict[str, Any]:
    """What a run of an experiment came to.

    Args:
        name: of the experiment.
        run_id: MLflow's, of the one run or of the parent of several seeds.

    Raises:
        ConfigError: no such experiment or run, or the run is another's, has not finished, or is not verified.
    """
    if name not in names():
        raise ConfigError(f"unknown experiment {name!r}; known: {', '.join(names())}")
    store = resolve(TrackingConfig("mlflow", None, None, None), name)
    run = InMLflow(make_client(store), run_id)
    with tempfile.TemporaryDirectory() as folder:
        evidence = run.gather(Path(folder))
        config = evidence.config
    if evidence.wrong:
        raise ConfigError(f"run {run_id} is not what it states: {evidence.wrong[0]}")
    was, now = _decisive(config), recipe(name)
    if other := sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key)):
        raise ConfigError(f"run {run_id} was not made by the current experiment={name}: {', '.join(other)} differ")
    if not run.tags.get(Tag.VERIFIED, "").startswith(REPRODUCED):
        raise ConfigError(
            f"run {run_id}: expected one that is {REPRODUCED}, got {run.tags.get(Tag.VERIFIED)}; "
            f"run odyssey-run task=verify run_id={run_id}"
        )
    runs = [child for child in run.children() if f"children/{child.key}" in evidence.stated] or [run]
    found = [_measured(each) for each in runs]
    metrics = run.metrics
    with tempfile.TemporaryDirectory() as folder:
        tags = runs[0].gather(Path(folder)).tags  # MLflow's page has a few of them
    begun = min(each.client.get_run(each.run_id).info.start_time for each in runs)
    return {
        "experiment": name,
        "run": run_id,
        "run_digest": evidence.digest,
        "verified": run.tags[Tag.VERIFIED],
        "date": datetime.fromtimestamp(begun / 1000, UTC).date().isoformat(),
        "claims": claims.report(config["expect"], metrics),
        "metrics": {key: {"mean": metrics[key], "std": metrics.get(f"{key}_std")} for key in _means(metrics)},
        "seeds": found,
        "commit": tags.get("mlflow.source.git.commit"),
        "uncommitted": tags.get("odyssey.git.dirty") == "true",
        "code_sha256": tags["odyssey.code.sha256"],
        "cpu": tags["odyssey.cpu"],
        "machine": tags["odyssey.machine"],
        "backend": tags["odyssey.backend"],
        "versions": {
            "python": tags["odyssey.python"],
            **{k.removeprefix("odyssey.version."): v for k, v in tags.items() if k.startswith("odyssey.version.")},
        },
        "data": {what: tags[f"odyssey.data.{what}"] for what in ("name", "sha256", "official")},
        "recipe": now,
    }


def _means(metrics: Mapping[str, float]) -> list[str]:
    return sorted(key for key in metrics if key.removesuffix("_std") not in metrics or not key.endswith("_std"))


def _measured(run: InMLflow) -> dict[str, Any]:
    data = run.client.get_run(run.run_id).data
    return {
        "seed": int(data.params["seed"]),
        "run": run.run_id,
        "weights_sha256": run.tags["odyssey.weights.sha256"],
        **{key: data.metrics[key] for key in KEPT},
    }


def measured(found: Mapping[str, Any] | None) -> str:
    """The table of one experiment, as Markdown; empty before its first run."""
    if found is None:
        return ""
    of = f"mean of {len(found['seeds'])} seeds" if len(found["seeds"]) > 1 else "one seed"
    lines = [f"| claim | measured, {of} | |", "|---|---|---|"]
    for row in found["claims"]:
        value = _value(row["metric"], **found["metrics"].get(row["metric"], {"mean": None}))
        lines.append(f"| `{row['metric']} {row['condition']}` | {value} | {row['verdict']} |")
    lines += ["", "| seed | test accuracy | test loss | training | images/s |", "|---|---|---|---|---|"]
    for seed in found["seeds"]:
        values = " | ".join(_value(key, seed[key]) for key in KEPT)
        lines.append(f"| {seed['seed']} | {values} |")
    versions, data = found["versions"], found["data"]
    code = f"commit {(found['commit'] or 'unknown')[:12]}{', with uncommitted changes' if found['uncommitted'] else ''}"
    official = "the official files" if data["official"] == "true" else "not the official files"
    lines += [
        "",
        f"{found['date']}, {code}, {found['verified']} by `task=verify`; {found['cpu']}, {found['backend']}; "
        f"Python {versions['python']}, numba {versions['numba']}, numpy {versions['numpy']}; "
        f"{data['name']}, {official} (SHA-256 {data['sha256'][:12]}).",
    ]
    return "\n".join(lines)


def overview(results: list[Mapping[str, Any]]) -> str:
    """The table of all experiments, as Markdown."""
    lines = ["| experiment | claim | measured | training | |", "|---|---|---|---|---|"]
    for found in results:
        name, metrics = found["experiment"], found["metrics"]
        conditions = ", ".join(f"`{row['metric']} {row['condition']}`" for row in found["claims"])
        cells = [_value(key, **metrics[key]) for key in ("test/accuracy", "time/train_s")]
        held = all(row["verdict"] == claims.HELD for row in found["claims"])
        verdict = f"{'held' if held else 'missed'}, {found['verified']}"
        lines.append(f"| [{name}](experiments/{name}/README.md) | {conditions} | {' | '.join(cells)} | {verdict} |")
    return "\n".join(lines) if results else ""


def _value(metric: str, mean: float | None, std: float | None = None) -> str:
    """A figure for people: accuracies in percent, seconds, images per second, losses."""
    if mean is None:
        return "not recorded"
    if metric.endswith("/accuracy"):
        return f"{mean:.2%}" + (f" ± {100 * std:.2f}" if std is not None else "")
    form, unit = {"time/train_s": (".1f", " s"), "time/images_per_s": (",.0f", "")}.get(metric, (".4f", ""))
    if metric == "time/train_s" and mean >= 600:
        mean, std, unit = mean / 60, None if std is None else std / 60, " min"
    return f"{mean:{form}}" + (f" ± {std:{form}}" if std is not None else "") + unit


def between(text: str, marker: str) -> str:
    """What a README has between ``<!-- marker -->`` and ``<!-- /marker -->``.

    Raises:
        ConfigError: the markers are not there.
    """
    return _parts(text, marker)[1].strip()


def _parts(text: str, marker: str) -> tuple[str, str, str]:
    begin, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    before, found, rest = text.partition(begin)
    inside, closed, after = rest.partition(end)
    if not (found and closed):
        raise ConfigError(f"README: expected {begin} and after it {end}, got a text without; put them back")
    return before + begin, inside, end + after


def _fill(path: Path, marker: str, table: str) -> None:
    before, _, after = _parts(path.read_text(), marker)
    write_atomic(path, f"{before}\n{table}\n{after}".encode())


def main(argv: list[str] | None = None) -> int:
    """Records a run; 0, or 2 after one line about a mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the experiment")
    parser.add_argument("run_id", help="MLflow's; of several seeds the parent's")
    arguments = parser.parse_args(argv)
    try:
        found = record(arguments.name, arguments.run_id)
        folder = EXPERIMENTS / arguments.name
        write_atomic(folder / RESULT, f"{json.dumps(found, indent=2)}\n".encode())
        _fill(folder / README, MEASURED, measured(found))
        _fill(ROOT / README, ALL, overview([r for name in names() if (r := result(name))]))
    except OdysseyError as error:
        print(f"record.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
