"""Whatever is changed of what a store holds of a run, ``task=verify`` does not call it REPRODUCED."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from stored import RUN, artifact, command, here, kept, restate, runs, sql

from odyssey_run.tasks.verify.verdict import EXIT_CODES, REPRODUCED

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SHORT = (*RUN, "trainer.max_steps=40", "optim.lr=0.002")
Change = Callable[[Path, str], None]


def order(text: str) -> Change:
    """Changes the store; ``{run}`` stands for the run's id."""
    return lambda folder, run: sql(folder, text.format(run=run))


def flip(name: str) -> Change:
    """Changes a byte of an artifact."""

    def change(folder: Path, run: str) -> None:
        path = artifact(folder, run, name)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    return change


def remove(name: str) -> Change:
    return lambda folder, run: artifact(folder, run, name).unlink()


def add(name: str) -> Change:
    place, _, file = name.rpartition("/")
    beside = f"{place}/MLmodel" if place else "config.yaml"
    return lambda folder, run: artifact(folder, run, beside).with_name(file).write_bytes(b"more")


def journal(edit: Callable[[list[dict]], None]) -> Change:
    """Changes the journal as its writer could have, and the list, its digest and the tag with it."""
    return lambda folder, run: restate(folder, run, edit)


def metric(name: str) -> dict[str, Change]:
    where = f"key = '{name}' AND run_uuid = '{{run}}'"
    at = f"{where} AND step = (SELECT MAX(step) FROM metrics WHERE {where})"
    return {
        f"the last value of {name} in its history": order(f"UPDATE metrics SET value = value * 1.001 WHERE {at}"),
        f"the value of {name} on MLflow's pages": order(f"UPDATE latest_metrics SET value = value * 1.1 WHERE {where}"),
        f"both of {name}": lambda folder, run: sql(
            folder,
            f"UPDATE metrics SET value = value * 1.1 WHERE {at}".format(run=run),
            f"UPDATE latest_metrics SET value = value * 1.1 WHERE {where}".format(run=run),
        ),
        f"{name} hidden from MLflow's pages": order(f"DELETE FROM latest_metrics WHERE {where}"),
        f"a point of {name} hidden": order(f"DELETE FROM metrics WHERE {at}"),
        f"when {name} was recorded": order(f"UPDATE metrics SET timestamp = timestamp + 60000 WHERE {at}"),
    }


def parameter(name: str, value: str) -> dict[str, Change]:
    where = f"key = '{name}' AND run_uuid = '{{run}}'"
    return {
        f"the parameter {name}": order(f"UPDATE params SET value = '{value}' WHERE {where}"),
        f"the parameter {name} hidden": order(f"DELETE FROM params WHERE {where}"),
    }


def tag(name: str, value: str = "x") -> dict[str, Change]:
    return {
        f"the tag {name}": order(f"UPDATE tags SET value = '{value}' WHERE key = '{name}' AND run_uuid = '{{run}}'")
    }


def new_tag(name: str, value: str) -> dict[str, Change]:
    text = f"INSERT INTO tags (key, value, run_uuid) VALUES ('{name}', '{value}', '{{run}}')"
    return {f"a tag {name} more": order(text)}


def files(*names: str) -> dict[str, Change]:
    return {f"a byte of {name}": flip(name) for name in names} | {f"{name} removed": remove(name) for name in names}


def in_start(*path: str, value: object) -> Change:
    def edit(records: list[dict]) -> None:
        inside = records[0]
        for key in path[:-1]:
            inside = inside[key]
        assert inside[path[-1]] != value
        inside[path[-1]] = value

    return journal(edit)


def in_metrics(name: str, factor: float) -> Change:
    def edit(records: list[dict]) -> None:
        last = [r for r in records if r["kind"] == "metrics" and name in r["values"]][-1]
        last["values"][name] *= factor

    return journal(edit)


def in_tags(name: str, value: str) -> Change:
    def edit(records: list[dict]) -> None:
        for record in records:
            if record["kind"] == "tags" and name in record["values"]:
                record["values"][name] = value

    return journal(edit)


def last_record(**values: object) -> Change:
    return journal(lambda records: records[-1].update(values))


def weights(edit: Callable[[dict, dict], None]) -> Change:
    """Changes the weights file and the model's, with their own digests and the run's."""
    from odyssey_core.checkpoint import load_weights, save_weights

    def change(folder: Path, run: str) -> None:
        path = artifact(folder, run, "mlp_weights/mlp.safetensors")
        arrays, about = load_weights(path)
        edit(arrays, about)
        save_weights(path, arrays, about)
        shutil.copy(path, artifact(folder, run, "model/weights.safetensors"))
        restate(folder, run)

    return change


def about(**values: str) -> Change:
    return weights(lambda arrays, facts: facts.update(values))


def both(*changes: Change) -> Change:
    def change(folder: Path, run: str) -> None:
        for each in changes:
            each(folder, run)

    return change


SHOWN, NOT_SHOWN = ("run", "weights"), ("config", "code", "data")  # digests on the page of a run
OF_A_RUN: dict[str, Change] = {
    **metric("test/accuracy"),
    **metric("train/loss"),
    **metric("time/train_s"),
    **parameter("optim.lr", "0.1"),
    **parameter("seed", "7"),
    **parameter("model.hidden", "[1]"),
    **{f"the digest of {name}": c for name in SHOWN for c in tag(f"odyssey.{name}.sha256", "0" * 64).values()},
    **{what: c for name in NOT_SHOWN for what, c in new_tag(f"odyssey.{name}.sha256", "0" * 64).items()},
    **new_tag("odyssey.data.name", "mnist"),
    **new_tag("odyssey.data.official", "maybe"),
    **tag("odyssey.claims", "missed"),
    **new_tag("odyssey.step", "41"),
    "a step that is no number": new_tag("odyssey.step", "abc")["a tag odyssey.step more"],
    **tag("odyssey.command"),
    **new_tag("odyssey.cpu", "x"),
    **tag("mlflow.note.content", "100 %"),
    **new_tag("odyssey.backend", "x"),
    **new_tag("odyssey.version.numba", "1"),
    **new_tag("odyssey.seeds", "1"),
    **new_tag("odyssey.better", "yes"),
    **new_tag("mlflow.parentRunId", "{run}"),
    "a parameter more": order("INSERT INTO params (key, value, run_uuid) VALUES ('optim.trick', '1', '{run}')"),
    "a metric more": order(
        "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) "
        "VALUES ('test/f1', 1.0, 1, 40, 0, '{run}')"
    ),
    "the name": order("UPDATE runs SET name = 'lr0.1' WHERE run_uuid = '{run}'"),
    "the status": order("UPDATE runs SET status = 'KILLED' WHERE run_uuid = '{run}'"),
    "when it began": order("UPDATE runs SET start_time = start_time - 60000 WHERE run_uuid = '{run}'"),
    "when it ended": order("UPDATE runs SET end_time = end_time + 60000 WHERE run_uuid = '{run}'"),
    "the data's name": order("UPDATE datasets SET name = 'mnist'"),
    "the data's digest": order("UPDATE datasets SET digest = '0'"),
    "the data's profile": order("UPDATE datasets SET dataset_profile = '{{}}'"),
    "the data hidden": order("DELETE FROM inputs"),
    "the accuracy on the model's page": order(
        "UPDATE logged_model_metrics SET metric_value = 1.0 WHERE metric_name = 'test/accuracy'"
    ),
    "the model hidden": order("UPDATE logged_models SET lifecycle_stage = 'deleted'"),
    **files("config.yaml", "journal.jsonl", "statements.json", "mlp_weights/mlp.safetensors", "train.log"),
    **files("claims.json", "report.html", "plots/confusion.png", "model/weights.safetensors", "model/MLmodel"),
    "an artifact more": add("better.safetensors"),
    "a file in its model more": add("model/code.py"),
}
RESTATED: dict[str, Change] = {
    "the learning rate in the journal": in_start("config", "optim", "lr", value=0.1),
    "a parameter in the journal": both(
        in_start("params", "optim.lr", value="0.1"), *parameter("optim.lr", "0.1").values()
    ),
    "the data's name in the journal": in_start("tags", "odyssey.data.name", value="mnist"),
    "the code's digest in the journal": in_start("tags", "odyssey.code.sha256", value="0" * 64),
    "a loss in the journal": in_metrics("train/loss", 0.9),
    "the accuracy in the journal and on all pages": both(
        in_metrics("test/accuracy", 1.05),
        order("UPDATE metrics SET value = value * 1.05 WHERE key = 'test/accuracy'"),
        order("UPDATE latest_metrics SET value = value * 1.05 WHERE key = 'test/accuracy'"),
        order("UPDATE logged_model_metrics SET metric_value = metric_value * 1.05 WHERE metric_name = 'test/accuracy'"),
    ),
    "the status in the journal": both(
        last_record(status="KILLED"), order("UPDATE runs SET status = 'KILLED' WHERE run_uuid = '{run}'")
    ),
    "the verdict on its claims": both(in_tags("odyssey.claims", "missed"), *tag("odyssey.claims", "missed").values()),
    "the description": both(
        in_tags("mlflow.note.content", "100 %"), *tag("mlflow.note.content", "100 %").values()
    ),
    "the digest of its weights": both(
        in_tags("odyssey.weights.sha256", "0" * 64), *tag("odyssey.weights.sha256", "0" * 64).values()
    ),
    "a weight": weights(lambda arrays, facts: arrays.update(fc1_bias=arrays["fc1_bias"] + 1)),
    "a tensor of another shape": weights(lambda arrays, facts: arrays.update(fc1_bias=arrays["fc1_bias"][:5].copy())),
    "a tensor more": weights(lambda arrays, facts: arrays.update(more=arrays["fc1_bias"])),
    "the names of the classes": about(class_names=json.dumps(list("9876543210"))),
    "the mean": about(mean="0.5"),
    "the deviation": about(std="2.0"),
    "the step of the weights": about(step="41"),
}  # fmt: skip
OF_SEEDS: dict[str, Change] = {
    **metric("test/accuracy"),
    **metric("test/accuracy_std"),
    **parameter("seed", "3"),
    **tag("odyssey.seeds", "3"),
    **tag("odyssey.claims", "missed"),
    "a run taken from it": order(
        "DELETE FROM tags WHERE key = 'mlflow.parentRunId' AND value = '{run}' "
        "AND run_uuid = (SELECT MAX(run_uuid) FROM tags WHERE key = 'mlflow.parentRunId' AND value = '{run}')"
    ),
    "the metric of one of its runs": order(
        "UPDATE metrics SET value = 1 WHERE key = 'test/accuracy' AND run_uuid = "
        "(SELECT MAX(run_uuid) FROM tags WHERE key = 'mlflow.parentRunId' AND value = '{run}')"
    ),
    "the digest of one of its runs": order(
        "UPDATE tags SET value = '0' WHERE key = 'odyssey.run.sha256' AND run_uuid = "
        "(SELECT MAX(run_uuid) FROM tags WHERE key = 'mlflow.parentRunId' AND value = '{run}')"
    ),
    **files("config.yaml", "claims.json"),
}
OF_A_POINT: dict[str, Change] = {
    **metric("val/accuracy"),
    **parameter("optim.lr", "0.1"),
    **tag("odyssey.sweep", "other"),
    "the sweep it is of": order("DELETE FROM tags WHERE key = 'mlflow.parentRunId' AND run_uuid = '{run}'"),
    **files("mlp_weights/mlp.safetensors"),
}
CLAIM = 'expect={test/accuracy: ">= 0.1"}'


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, tuple[Path, str, Callable[[], None]]]:
    """A single run with pictures, a run of two seeds, and a point of a sweep: the folder, the run's id, and what undoes
    a change of it.
    """
    found = {}
    for kind, more in {
        "run": ("plots.enabled=true", CLAIM),
        "seeds": ("seeds=2", CLAIM),
        "point": ("-m", "optim.lr=0.002,0.003"),
    }.items():
        folder = tmp_path_factory.mktemp(kind)
        own = SHORT[:-1] if kind == "point" else SHORT
        command(folder, *own, *more)
        shutil.rmtree(folder / "runs")  # MLflow alone must do
        listed = runs(folder)[1]
        if kind == "seeds":
            (chosen,) = [run for run in listed if "odyssey.seeds" in run.data.tags]
        else:
            chosen = [run for run in listed if run.data.params["optim.lr"] in ("0.002",)][-1]
        found[kind] = folder, chosen.info.run_id, kept(folder, tmp_path_factory.mktemp("kept") / kind)
    return found


@pytest.fixture
def place(made):
    """place("run") is the folder of a run and its id, as it was before any change."""

    def restored(kind: str) -> tuple[Path, str]:
        folder, run_id, restore = made[kind]
        restore()
        return folder, run_id

    return restored


def verdict(folder: Path, run_id: str) -> tuple[str, str]:
    """Its word, and what was said."""
    code, said = here(folder, "task=verify", f"run_id={run_id}")
    return next(word for word, c in EXIT_CODES.items() if c == code), said


def cases() -> Iterator:
    for kind, changes in {"run": OF_A_RUN | RESTATED, "seeds": OF_SEEDS, "point": OF_A_POINT}.items():
        for name, change in changes.items():
            yield pytest.param(kind, change, id=f"{kind}-{name}")


@pytest.mark.parametrize("kind", ["run", "seeds", "point"])
def test_what_was_not_changed_is_reproduced(place, kind):
    word, said = verdict(*place(kind))
    assert word == REPRODUCED, said


@pytest.mark.parametrize(("kind", "change"), list(cases()))
def test_what_was_changed_is_not(place, kind, change):
    folder, run_id = place(kind)
    change(folder, run_id)
    word, said = verdict(folder, run_id)
    assert word != REPRODUCED, said


def test_a_parent_that_was_made_up(place):
    """A run without any training that is given the tag of a run of seeds, over one that is honest."""
    folder, run_id = place("run")
    client, _ = runs(folder)
    parent = client.create_run(client.get_run(run_id).info.experiment_id, tags={"odyssey.seeds": "1"})
    client.log_metric(parent.info.run_id, "test/accuracy", 1.0)
    client.set_tag(run_id, "mlflow.parentRunId", parent.info.run_id)
    word, said = verdict(folder, parent.info.run_id)
    assert word != REPRODUCED, said


def test_there_are_eighty_changes_and_more():
    assert len(list(cases())) >= 80
