"""What is expected of a run, alone and as the mean over seeds."""

import json
import math
import statistics

import pytest
from quick import QUICK

from odyssey_core.errors import ConfigError
from odyssey_run import cli
from odyssey_run.config import claims
from odyssey_run.runs.recorded import open_folder


@pytest.mark.parametrize(
    ("condition", "value", "verdict"),
    [
        (">= 0.5", 0.5, "held"),
        ("> 0.5", 0.5, "missed"),
        ("<=60", 60.0, "held"),
        ("< 6e1", 61.0, "missed"),
        ("< -1", -2.0, "held"),
        (">= 0.5", None, "undefined"),
    ],
)
def test_verdicts(condition, value, verdict):
    (claim,) = claims.report({"m": condition}, {} if value is None else {"m": value})
    assert claim["verdict"] == verdict


@pytest.mark.parametrize("condition", [0.5, "0.5", "= 1", ">= x", ">= nan", ">= 1 and < 2", None])
def test_a_condition_is_a_relation_and_a_number(condition):
    with pytest.raises(ConfigError, match=r"expect\.m: expected a relation .* and a number"):
        claims.read({"m": condition})


@pytest.mark.parametrize(
    ("expect", "code", "verdicts"),
    [
        ("{test/accuracy: '>= 0'}", 0, ["held"]),
        ("{test/accuracy: '> 1', train/loss: '> 0'}", 3, ["missed", "held"]),
    ],
)
def test_a_missed_claim_ends_with_code_3(tmp_path, capsys, expect, code, verdicts):
    assert cli.main([*QUICK, f"expect={expect}", "run.dir=run"]) == code
    rows = json.loads((tmp_path / "run" / "claims.json").read_text())
    assert [row["verdict"] for row in rows] == verdicts
    run = open_folder(tmp_path / "run")
    assert run.tags["odyssey.claims"] == ("held" if code == 0 else "missed")
    assert run.status == "FINISHED"
    out = capsys.readouterr().out
    assert all(f"{row['metric']} {row['condition']}" in out for row in rows)


@pytest.mark.parametrize("seeds", [1, 2])
def test_what_can_be_claimed_is_what_a_run_records(tmp_path, seeds):
    assert cli.main([*QUICK, f"seeds={seeds}", "run.dir=run"]) == 0
    recorded = open_folder(tmp_path / "run").metrics
    layers = [name.removeprefix("weight_norm/") for name in recorded if name.startswith("weight_norm/")]
    layers = [name for name in layers if not name.endswith("_std")]
    assert len(layers) == 5
    claimable = claims.metrics(layers, validated=True, seeds=seeds)
    assert {name for name in recorded if not name.startswith(claims.OF_THE_MACHINE)} == set(claimable)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["expect={accuracy: '>0.9'}"], "expect: no metric is called accuracy; did you mean test/accuracy?"),
        (["expect={test/acuracy: '>0.9'}"], "expect: no metric is called test/acuracy; did you mean test/accuracy?"),
        (["expect={Val/Loss: '<1'}"], "expect: no metric is called Val/Loss; did you mean val/loss?"),
        (["expect={acc@1: '>0.9'}"], "expect: no metric is called acc@1; there are test/accuracy, test/loss, "
         "val/accuracy, val/loss, train/loss, train/epoch_loss, train/accuracy, train/lr, epoch"),
        (["expect={val/loss: '<1'}", "trainer.validation_size=0"], "expect: val/loss needs a validation set, got "
         "trainer.validation_size 0"),
        (["expect={test/loss_std: '<1'}"], "expect: no metric is called test/loss_std; did you mean test/loss?"),
        (["expect={weight_norm/fc1.weight: '<1'}", "model=linear"], "expect: no metric is called "
         "weight_norm/fc1.weight; did you mean weight_norm/fc.weight?"),
    ],
)  # fmt: skip
def test_a_claim_on_what_no_run_records_is_refused_before_training(mistake, arguments, line):
    assert mistake(*QUICK, *arguments) == [line]


def test_a_claim_on_a_deviation_needs_seeds(tmp_path):
    assert cli.main([*QUICK, "seeds=2", "expect={test/loss_std: '< 10'}"]) == 0


def test_seeds_give_a_mean_and_a_deviation_under_a_parent(tmp_path, capsys):
    assert cli.main([*QUICK, "seed=5", "seeds=3", "run.dir=all", "expect={test/accuracy: '>= 0'}"]) == 0
    parent = open_folder(tmp_path / "all")
    children = [open_folder(tmp_path / "all" / f"seed-{seed}") for seed in (5, 6, 7)]
    assert [child.config["seed"] for child in children] == [5, 6, 7]
    assert {child.start.parent for child in children} == {parent.key}
    for name in ("test/accuracy", "test/loss", "train/loss"):
        values = [child.metrics[name][-1][1] for child in children]
        assert parent.metrics[name] == [(3, math.fsum(values) / 3)]
        assert parent.metrics[f"{name}_std"] == [(3, statistics.stdev(values))]
    assert len({child.metrics["test/loss"][-1][1] for child in children}) == 3
    # A child is the run that its seed alone gives.
    assert cli.main([*QUICK, "seed=6", "run.dir=one"]) == 0
    assert open_folder(tmp_path / "one").metrics["test/loss"] == children[1].metrics["test/loss"]
    assert "of 3 seeds" in capsys.readouterr().out


def test_seeds_that_were_interrupted_go_on_where_they_were(tmp_path, monkeypatch):
    from odyssey_run.training import train

    whole = train.train_one

    def only_two(plan, *rest):
        if plan.request.seed == 2:
            raise KeyboardInterrupt
        return whole(plan, *rest)

    monkeypatch.setattr(train, "train_one", only_two)
    assert cli.main([*QUICK, "seeds=3"]) == cli.INTERRUPTED
    monkeypatch.setattr(train, "train_one", whole)
    (folder,) = (tmp_path / "runs").iterdir()
    before = [(folder / f"seed-{seed}" / "journal.jsonl").read_bytes() for seed in (0, 1)]
    assert cli.main([*QUICK, "seeds=3", "resume=auto"]) == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [folder.name]
    assert [(folder / f"seed-{seed}" / "journal.jsonl").read_bytes() for seed in (0, 1)] == before
    assert open_folder(folder).status == "FINISHED"
    assert len(open_folder(folder / "seed-2").metrics["test/loss"]) == 1
