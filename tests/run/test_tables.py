"""Tables as text: worked out by hand."""

from odyssey_run.reports.tables import columns, markdown

ROWS = [("layer", "shape", "MFLOP"), ("fc", "10", "0.002"), ("conv10", "6×24×24", "1.5")]


def test_cells_lie_below_each_other():
    assert columns(ROWS) == [
        "layer     shape  MFLOP",
        "fc           10  0.002",
        "conv10  6×24×24    1.5",
    ]
    assert columns(ROWS, left=range(3))[1] == "fc      10       0.002"


def test_markdown_has_a_line_below_its_head():
    assert markdown(ROWS[:2], left=(0, 1)).splitlines() == [
        "| layer | shape | MFLOP |",
        "|-------|-------|-------|",
        "| fc    | 10    | 0.002 |",
    ]
