"""Runs written by somebody who knows the format: ``task=verify`` confirms of them only what training again gives."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from journals import append, lines

from odyssey_core.checkpoint import load_weights, save_weights
from odyssey_run import cli
from odyssey_run.reports import summary
from odyssey_run.runs import provenance, recorded
from odyssey_run.runs.folder import REPORT
from odyssey_run.runs.statements import FILE, conclude, decode, encode, sha256
from odyssey_run.tracking.journal import Journal, load
from odyssey_run.tracking.names import Status

pytestmark = pytest.mark.filterwarnings("ignore")

WEIGHTS = recorded.weights_file("linear").as_posix()
STOPPED = "stopped by SIGTERM"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The folder of a run of 50 steps that told the truth."""
    place = tmp_path_factory.mktemp("good")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        command = ("data=digits", "model=linear", "trainer.max_steps=50", "run.name=good", "tracking=none")
        assert cli.main([*command, "plots.enabled=false", "trainer.log_every=10"]) == 0
    return place / "runs" / "good"


@pytest.fixture
def forge(good, tmp_path, monkeypatch):
    """Writes a run and verifies it; returns the exit code and the verdict for programs."""
    monkeypatch.chdir(tmp_path)

    def write(status, records, reason=None, *, note=False, report=False, weights=None, files=None, **changes):
        folder = tmp_path / "runs" / "forged"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, content in (files or {}).items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        start = lines(good / "journal.jsonl")[0]
        config = start["config"]
        for key, value in changes.items():
            group, _, name = key.rpartition("__")
            (config[group] if group else config)[name] = value
        identity = provenance.identity(config)
        start |= {"name": "forged", "run": "forged", "store": None, "params": provenance.parameters(config)}
        start["tags"]["odyssey.config.sha256"] = identity
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        arrays, about = load_weights(good / WEIGHTS)
        about = {k: v for k, v in about.items() if k != "content_sha256"} | {"config_sha256": identity}
        save_weights(folder / WEIGHTS, {k: v if weights is None else v * weights for k, v in arrays.items()}, about)
        journal = Journal(folder / "journal.jsonl")
        for record in (start, *records):
            append(journal, **{k: v for k, v in record.items() if k != "time"})
        if note:
            text = summary.note(load(folder / "journal.jsonl"), [], report)
            append(journal, "tags", values={"mlflow.note.content": text})
        conclude(journal, Status(status), reason)
        journal.close()
        return folder

    def verify(*arguments, edit=lambda folder: None, **rest):
        edit(write(*arguments, **rest))
        code = cli.main(["task=verify", "run_id=forged", "tracking=none", "json=verdict.json"])
        return code, json.loads(Path("verdict.json").read_text())

    return verify


def told(good, *kinds):
    """The records of these kinds of the run that told the truth, but for its description and its model."""
    records = [r for r in lines(good / "journal.jsonl") if r["kind"] in kinds]
    return [
        r
        for r in records
        if "odyssey.weights.sha256" in r.get("values", {}) or r["kind"] == "metrics" or r.get("path") == WEIGHTS
    ]


def at(step):
    return {"kind": "tags", "values": {"odyssey.step": str(step)}}


def test_a_run_that_stopped_early_is_not_the_whole_plan(good, forge):
    code, verdict = forge(
        "FINISHED", told(good, "metrics", "artifact", "tags"), note=True, trainer__max_steps=None, trainer__epochs=3
    )
    assert (code, verdict["verdict"]) == (3, "DIFFERS")


def test_the_plan_itself_is_reproduced(good, forge):
    code, verdict = forge("FINISHED", told(good, "metrics", "artifact", "tags"), note=True)
    assert code == 0
    assert not {"status", "reason", "tags/odyssey.step", "tags/odyssey.weights.sha256"} & set(verdict["only_stated"])


def test_where_a_time_budget_ended_it_is_only_stated(good, forge):
    code, verdict = forge(
        "FINISHED", told(good, "metrics", "artifact", "tags"), note=True, trainer__time_budget_s=1000.0
    )
    assert code == 0
    assert any("its last step, 50, is stated and not verified" in line for line in verdict["why"])
    assert "tags/odyssey.step" in verdict["only_stated"]


@pytest.mark.parametrize("budget", [None, 1000.0])
def test_no_run_finishes_at_its_first_step(good, forge, budget):
    records = [*told(good, "artifact", "tags"), at(0)]
    assert forge("FINISHED", records, note=True, weights=0, trainer__time_budget_s=budget)[0] == 3


def test_a_run_that_was_stopped_before_its_first_step_has_the_weights_it_began_with(good, forge):
    code, verdict = forge("KILLED", [*told(good, "artifact", "tags"), at(0)], STOPPED, weights=0)
    assert code == 3
    assert "weights" in verdict["why"][0]


def test_more_steps_than_were_planned(good, forge):
    assert forge("KILLED", [*told(good, "metrics", "artifact", "tags")[:-1], at(51)], STOPPED)[0] == 3


def test_what_a_stopped_run_says_of_itself_is_only_stated(good, forge):
    own = {"kind": "tags", "values": {"mlflow.note.content": "accuracy 99.99%"}}
    steps = [r for r in told(good, "metrics") if r["step"] <= 30]
    more = {"kind": "metrics", "step": 30, "values": {"time/train_s": 0.1}}
    code, verdict = forge("KILLED", [*steps, more, own, at(30)], STOPPED)
    assert code == 0
    names = {"status", "reason", "tags/odyssey.step", "tags/mlflow.note.content", "metrics/time/train_s"}
    assert names <= set(verdict["only_stated"])
    assert verdict["held"]["trained again"] == len({n for r in steps for n in r["values"] if not n.startswith("time/")})


def test_other_files_of_weights_are_compared_with_their_digests_alone(good, forge):
    names = ("mine/x.safetensors", "checkpoint.safetensors")
    own = [{"kind": "artifact", "path": name, "folder": ""} for name in names]
    steps = [r for r in told(good, "metrics") if r["step"] <= 30]
    content = (good / WEIGHTS).read_bytes()
    code, verdict = forge("KILLED", [*steps, *own, at(30)], STOPPED, files=dict.fromkeys(names, content))
    assert code == 0
    trained = {name for r in steps for name in r["values"] if not name.startswith("time/")}
    assert verdict["held"]["trained again"] == len(trained)


@pytest.mark.parametrize("name", ["metrics/test/f1", "tags/odyssey.better", "params/optim.trick"])
def test_nothing_but_files_may_be_stated_as_null(good, forge, name):
    def edit(folder):
        listed, journal = folder / FILE, folder / "journal.jsonl"
        stated = decode(listed.read_bytes(), FILE)
        before, content = sha256(listed.read_bytes()), encode(stated | {name: None})
        listed.write_bytes(content)
        journal.write_text(journal.read_text().replace(before, sha256(content)))

    code, verdict = forge("FINISHED", told(good, "metrics", "artifact", "tags"), note=True, edit=edit)
    assert code == 3
    assert verdict["why"] == [f"{name}: stated null, its journal and files say nothing"]


@pytest.mark.parametrize("shown", ["f" * 64, "accuracy 99.99%".ljust(64)])
def test_a_report_shows_the_digest_of_its_run(good, forge, shown):
    def edit(folder):
        report, digest = folder / REPORT, sha256((folder / FILE).read_bytes())
        assert f">{digest}<" in report.read_text()
        report.write_text(report.read_text().replace(digest, shown))

    records = [{"kind": "artifact", "path": REPORT, "folder": ""}, *told(good, "metrics", "artifact", "tags")]
    page = {REPORT: b'<dd id="digest">' + b"0" * 64 + b"</dd>"}
    assert forge("FINISHED", records, note=True, report=True, files=page)[0] == 0
    code, verdict = forge("FINISHED", records, note=True, report=True, files=page, edit=edit)
    assert code == 3
    assert any(line.startswith(f"files/{REPORT}: ") for line in verdict["why"])


@pytest.mark.parametrize("what", ["badge", "json"])
def test_verify_replaces_no_file_of_somebody_elses(good, forge, capsys, tmp_path, what):
    forge("FINISHED", told(good, "metrics", "artifact", "tags"), note=True)
    (tmp_path / "mynotes.txt").write_text("mine")
    (tmp_path / "folder").mkdir()
    for name in ("mynotes.txt", "folder", "mynotes.txt/x"):
        capsys.readouterr()
        assert cli.main(["task=verify", "run_id=forged", "tracking=none", f"{what}={name}"]) == cli.MISTAKE
        out, err = capsys.readouterr()
        assert "REPRODUCED" not in out  # told before anything was trained
        assert err.count("\n") == 1
    assert (tmp_path / "mynotes.txt").read_text() == "mine"
    for _ in range(2):
        assert cli.main(["task=verify", "run_id=forged", "tracking=none", f"{what}=own"]) == 0


@pytest.mark.parametrize(
    "records",
    [
        [{"kind": "metrics", "step": 100, "values": {"test/accuracy": 0.9999}}],
        [{"kind": "tags", "values": {"odyssey.claims": "held"}}],
        [{"kind": "tags", "values": {"odyssey.seeds": "7"}}],
    ],
)
def test_a_parent_that_was_stopped_states_no_results(forge, records):
    seeds = {"kind": "tags", "values": {"odyssey.seeds": "3"}}
    code, _ = forge("KILLED", [seeds, *records], STOPPED, seeds=3, expect={"test/accuracy": ">= 0.99"})
    assert code == 3


def test_a_parent_without_its_runs_has_not_finished(forge):
    seeds = {"kind": "tags", "values": {"odyssey.seeds": "3"}}
    assert forge("FINISHED", [seeds], seeds=3)[0] == 3
