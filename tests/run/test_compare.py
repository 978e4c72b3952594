"""``task=compare``: what differs between runs, what came of them, and what is wrong with the question."""

import re

import pytest
from quick import QUICK

from odyssey_run import cli
from odyssey_run.reports import comparison
from odyssey_run.reports.outputs import MARK
from odyssey_run.runs.recorded import open_run

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow's own, and those of what it imports


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a run of one epoch, one of two epochs at another rate, and one of two seeds."""
    folder = tmp_path_factory.mktemp("compare")
    two = [word for word in QUICK if not word.startswith(("trainer.max_steps", "tracking"))]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        rest = ["model=linear", "trainer.train_size=64"]
        assert cli.main([*two, *rest, "trainer.epochs=1", "run.name=short"]) == 0
        assert cli.main([*two, *rest, "trainer.epochs=2", "optim.lr=0.5", "run.name=long"]) == 0
        assert cli.main([*two, *rest, "trainer.epochs=1", "seeds=2", "tracking=none", "run.name=seeds"]) == 0
        yield folder


@pytest.fixture
def compare(place, monkeypatch, capsys):
    def run(runs, *rest, code=0):
        monkeypatch.chdir(place)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
        capsys.readouterr()
        assert cli.main(["task=compare", f"runs={runs}", *rest]) == code
        out, err = capsys.readouterr()
        return out if code == 0 else [line.removeprefix("odyssey-run: ") for line in err.splitlines()]

    return run


def rows(out: str) -> dict[str, list[str]]:
    return {line.split("  ")[0]: re.split(r"\s{2,}", line)[1:] for line in out.splitlines()}


def test_what_differs_is_told_and_what_is_the_same_is_not(compare, place):
    found = rows(compare("[short,long]"))
    assert found["optim.lr"] == ["0.01", "0.5"]
    assert found["trainer.epochs"] == ["1", "2"]
    assert "model.name" not in found
    assert {"code: the same in all", "data: the same in all", "environment: the same in all"} <= found.keys()
    assert found["epochs"] == ["1", "2"]
    accuracies = [open_run(place / "runs" / name).metrics["test/accuracy"][-1][1] for name in ("short", "long")]
    assert found["test/accuracy"] == [f"{value:.2%}" for value in accuracies]


def test_the_page_holds_the_table_the_picture_and_the_commands(compare, place):
    assert "report   c.html" in compare("[short,long]", "out=c.html")
    page = (place / "c.html").read_text()
    assert MARK in page
    assert page.count("data:image/png;base64,") == 1
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "<td>optim.lr</td><td>0.01</td><td>0.5</td>" in page
    assert page.count("<code>odyssey-run") == 2
    assert (place / "c.png").read_bytes().startswith(b"\x89PNG")
    compare("[short,long]", "out=c.html")  # its own files may be written again


def test_runs_of_seeds_are_compared_among_themselves(compare):
    found = rows(compare("seeds"))
    assert found["configuration"] == ["seeds/seed-0", "seeds/seed-1"]
    assert found["seed"] == ["0", "1"]


def test_a_key_that_only_later_runs_have_stands_where_it_does_in_theirs():
    """As `model.hidden` does where a net without it was compared first."""
    facts = [{"model": "a", "lr": "1", "seed": "0"}, {"model": "b", "hidden": "2", "bias": "x", "lr": "1"}]
    assert list(comparison._rows(facts)) == ["model", "hidden", "bias", "lr", "seed"]


@pytest.mark.parametrize(
    ("values", "equal"),
    [
        (["–", "null"], True),
        (["–", "0"], False),
        (["0", "0.0"], True),
        (["1", "2"], False),
        (["1234567e8901", "2234567e8901"], False),
        (["a", "a"], True),
    ],
)
def test_equal_numbers_and_unset_keys_are_no_difference_and_digests_are_no_numbers(values, equal):
    assert comparison._equal(values) == equal


def test_many_runs_are_rows_of_the_page(place, tmp_path):
    (tmp_path / "curves.png").write_bytes(b"")
    page = comparison.page([open_run(place / "runs" / "short")] * 5, tmp_path / "curves.png")
    assert "<th></th><th>status</th><th>test/accuracy</th>" in page


def test_runs_are_found_by_mlflow_id_and_by_a_filter(compare, place):
    ids = [open_run(place / "runs" / name).run_id for name in ("short", "long")]
    assert rows(compare(f"[{ids[0]},{ids[1]}]"))["optim.lr"] == ["0.01", "0.5"]
    assert set(rows(compare('params.`model.name` = "linear"'))["optim.lr"]) == {"0.01", "0.5"}


@pytest.mark.parametrize(
    ("runs", "lines"),
    [
        ("[short,nope,nada]", ["runs: no run 'nope' in runs/", "runs: no run 'nada' in runs/"]),
        ("short", ["runs: from 2 to 21 runs are compared, got 1: short"]),
        ("[short,short]", ["runs: from 2 to 21 runs are compared, got 1: short"]),
        ("[]", ["runs: from 2 to 21 runs are compared, got 0"]),
        ("metrics.x >", ["runs: MLflow rejects the filter 'metrics.x >'"]),
        ("metrics.x > 7", ["runs: no run in sqlite:///"]),
        ("7", ["runs: no run '7' in runs/"]),
        ("{a: 1}", ["runs: no run '{a: 1}' in runs/"]),
        ("[short,a=b]", ["runs: no run 'a=b' in runs/"]),
    ],
)
def test_a_mistake_is_a_line_and_exit_code_2(compare, runs, lines):
    told = compare(runs, "out=never.html", code=2)
    assert len(told) == len(lines)
    assert all(line.startswith(expected) for line, expected in zip(told, lines, strict=True)), told


def test_nothing_of_somebody_elses_is_replaced(compare, place):
    (place / "mine.html").write_text("mine")
    (told,) = compare("[short,long]", "out=mine.html", code=2)
    assert told.startswith("out: mine.html exists and was not made by this program")
    (told,) = compare("[short,long]", "out=mine.txt", code=2)
    assert told == "out: expected a name that ends in .html, got mine.txt"
    assert (place / "mine.html").read_text() == "mine"
    assert not (place / "mine.png").exists()


def test_a_page_that_cannot_be_written_is_told_before_anything_else(compare, place, capsys):
    (place / "file").write_text("")
    (told,) = compare("[short,long]", "out=file/page.html", code=2)
    assert told.startswith("out: cannot write ")
