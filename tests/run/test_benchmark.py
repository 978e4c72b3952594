"""The benchmark on few images, without peers; its numbers against each other."""

import json
from dataclasses import replace

import pytest

import odyssey_run
from odyssey_core import child_process
from odyssey_core.backends.numba import NumbaBackend
from odyssey_core.backends.numba.peak import Peak
from odyssey_core.backends.numba.timing import RowTime
from odyssey_run import cli
from odyssey_run.tasks.benchmark import peers, report
from odyssey_run.tasks.benchmark.measure import Figures, Round
from odyssey_run.tasks.benchmark.ours import Ours
from odyssey_run.tasks.benchmark.peers import INFER, TRAIN, Case

SHORT = (
    "task=benchmark", "data=digits", "tracking=none", "benchmark.rounds=1", "benchmark.seconds=0.01",
    "benchmark.batch_sizes=[32]", "benchmark.threads=[1]", "run.dir=here",
)  # fmt: skip


@pytest.fixture
def figures():
    """Three rounds of one case, made up."""
    case, other = Case(TRAIN, 32, 2), Case(INFER, 1, 1)
    return Figures(
        flops={TRAIN: 1_500_000, INFER: 500_000},
        parameters=7,
        rounds={
            case: [
                Round(200.0, 2.0, 100_000.0, {"torch eager": 20_000.0, "torch compiled": 9_000.0}),
                Round(100.0, 1.7, 50_000.0, {"torch eager": 10_000.0, "torch compiled": 9_000.0}),
                Round(200.0, 1.9, 90_000.0, {"torch eager": 15_000.0, "torch compiled": 9_000.0}),
            ],
            other: [Round(100.0, 1.0, 10_000.0, {})] * 3,
        },
    )


def scaled(figures, *scaling):
    """Gives the rounds of the first case these ratios to one thread."""
    case = Case(TRAIN, 32, 2)
    figures.rounds[case] = [replace(each, scaling=x) for each, x in zip(figures.rounds[case], scaling, strict=True)]


def test_a_line_holds_medians_and_ratios_of_what_stood_side_by_side(figures):
    line, alone = figures.lines()
    assert (line.images_per_s, line.low, line.high) == (90_000.0, 50_000.0, 100_000.0)
    assert line.gflops == pytest.approx(135.0)  # 90,000 x 1.5 MFLOP
    assert line.of_peak == pytest.approx(0.75)  # of 150/200, 75/100 and 135/200
    assert (line.peer, line.peer_images_per_s, line.ratio) == ("torch eager", 15_000.0, 5.0)
    assert (alone.peer, alone.ratio) == (None, None)
    assert alone.of_peak == pytest.approx(0.05)


def test_rounds_whose_threads_had_no_core_each_are_left_out(figures):
    """Two threads of one physical core make 1.3 times what one makes."""
    scaled(figures, 1.3, 2.0, 1.69)
    line, _ = figures.lines()
    assert (line.images_per_s, line.low, line.high) == (50_000.0, 50_000.0, 50_000.0)
    assert (line.of_peak, line.ratio) == (pytest.approx(0.75), 5.0)
    left_out = (
        "Multiply-adds on 2 threads ran 1.30 to 2.00 times as fast as on one; 2 of 3 rounds below 1.7 are left out."
    )
    assert left_out in report.tables(figures).splitlines()
    scaled(figures, 1.3, 1.3, 1.3)
    assert [line.case.threads for line in figures.lines()] == [1]


def test_metrics_are_the_tables_numbers(figures):
    found = report.metrics(figures)
    assert found["training/b32/t2/ratio"] == 5.0
    assert found["peak/t2/gflops"] == 200.0
    assert "inference/b1/t1/ratio" not in found
    table = report.tables(figures)
    assert "|   90,000 | 50,000–100,000 |   135.0 |    0.75 | torch eager  |   15,000 | 5.0 × |" in table


def test_rows_of_one_kernel_and_of_the_same_sizes_are_one_line(figures):
    """Whatever tiles they are cut into; the least of them are one line too."""
    figures.rows = [
        RowTime("add", "vectors=64 relu=0", 2, 1e-6, 0),
        RowTime("conv2d[8, 2]", "channels=3 height=32 width=32 out=16 span=1", 2, 1e-3, 40_000_000),
        RowTime("conv2d[4, 4]", "channels=3 height=32 width=32 out=16 span=9", 1, 2e-3, 40_000_000),
        RowTime("relu", "vectors=64", 1, 4e-6, 0),
    ]
    parts = report.tables(figures).partition("One training step, batch 32, 1 thread:\n")[2].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in parts]
    assert cells[2:] == [
        ["conv2d", "channels=3 out=16 32×32", "3", "4000.00", "99.9%", "30", "0.30"],
        ["each below 0.5%", "", "3", "6.00", "0.1%", "", ""],
        ["all rows", "", "", "4006.0", "100.0%", "", ""],
    ]


def test_a_short_benchmark(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    assert cli.main(SHORT) == 0
    output = capsys.readouterr()
    for peer in ("torch", "onnxruntime", "openvino"):
        assert f"{peer} is not installed and left out; pip install {peer}" in output.err
    found = json.loads((tmp_path / "here" / "benchmark.json").read_text())
    cases = [(c["kind"], c["batch"], c["threads"]) for c in found["rounds"]]
    assert cases == [(TRAIN, 32, 1), (INFER, 1, 1), (INFER, 32, 1)]
    assert all(c["ours"] > 0 for c in found["rounds"])
    # Rows cover a step's work: two blocks of sixteen images.
    # Of the convolutions' gradients, conv1's of its weight and conv2's of both, only what is not zero is multiplied.
    unknown = 2 * 25 * 6 * 24 * 24 + 2 * 2 * 150 * 16 * 8 * 8
    assert sum(row["flops"] * row["runs"] for row in found["rows"]) == 32 * (found["flops"][TRAIN] - unknown)
    assert (tmp_path / "here" / "benchmark.md").read_text().strip() in output.out
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "here" / "journal.jsonl").read_text().splitlines()]
    assert kinds[0] == "start"
    assert kinds[-1] == "end"


def test_onnx_runtime_infers_beside_us_and_does_not_train(tmp_path):
    pytest.importorskip("onnxruntime")
    assert cli.main((*SHORT, "benchmark.peers=[onnxruntime]")) == 0
    found = json.loads((tmp_path / "here" / "benchmark.json").read_text())["rounds"]
    assert [(c["kind"], c["batch"], [*c["peers"]]) for c in found] == [
        (TRAIN, 32, []), (INFER, 1, ["onnxruntime onnx"]), (INFER, 32, ["onnxruntime onnx"]),
    ]  # fmt: skip
    assert all(rate > 0 for c in found for rate in c["peers"].values())


def test_another_backend_is_refused(mistake):
    (line,) = mistake(*SHORT, "backend=numpy")
    assert line == "task=benchmark: measures backend=numba, got backend=numpy"


def test_an_unknown_peer_is_refused(mistake):
    (line,) = mistake(*SHORT, "benchmark.peers=[tinygrad]")
    assert line == "benchmark.peers: expected a list of one of torch, onnxruntime, openvino each, got ['tinygrad']"


def test_the_peak_of_one_core_is_some_gflops():
    tiles = NumbaBackend(threads=1).tiles
    assert Peak(tiles, 1).measure(0.01) > 1.0


def test_a_peer_that_dies_is_a_fault(monkeypatch):
    monkeypatch.setattr(child_process, "START", "raise SystemExit(3)")
    peer = peers.Peer("torch", 1, {})
    with pytest.raises(peers.PeerFault, match="torch: its process ended with exit code 3"):
        peer.measure(Case(TRAIN, 32, 1), "eager", 0.01)
    peer.close()


def test_what_pytorch_is_told_of_a_net_with_branches():
    """As JSON: a residual sum has two operands, batch norm trains in one of the two and takes averages in the other."""
    request = odyssey_run.compose("data=digits", "model=resnet8", "model.width=2", "tracking=none")
    told = json.loads(json.dumps(Ours(request, request.data.build()).in_torch()))
    assert told["parameters"]["fc.weight"] == [10, 8]
    assert told["buffers"]["bn1.running_var"] == [2]
    assert told[TRAIN][0] == [
        "result_0", "nn.functional.conv2d", ["images", "conv1.weight"], {"stride": 1, "padding": [1, 1], "groups": 1},
    ]  # fmt: skip
    norms = {kind: [step for step in told[kind] if step[1] == "nn.functional.batch_norm"] for kind in (TRAIN, INFER)}
    operands = ["result_0", "bn1.running_mean", "bn1.running_var", "bn1.weight", "bn1.bias"]
    assert norms[TRAIN][0][2:] == [operands, {"training": True, "momentum": 0.1, "eps": 1e-05}]
    assert norms[INFER][0][2:] == [operands, {"eps": 1e-05}]
    assert [len(step[2]) for step in told[TRAIN] if step[1] == "add"] == [2, 2, 2]
    assert told[TRAIN][-1][1] == "nn.functional.cross_entropy"
    assert told[INFER][-1][1] == "nn.functional.linear"
