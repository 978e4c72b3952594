"""What is found of a run, and what of it is called evidence."""

from types import SimpleNamespace

import numpy as np

from odyssey_run.tasks.verify.evidence import differences
from odyssey_run.tracking.client import every_run


class Page(list):
    """A part of an answer of MLflow's, with the token of the next."""

    def __init__(self, rows, token):
        super().__init__(rows)
        self.token = token


class Store:
    """Answers a thousand runs at a time, as MLflow does."""

    def __init__(self, count):
        self.rows = [SimpleNamespace(number=i) for i in range(count)]

    def search_runs(self, experiments, condition, order_by, page_token):
        first = int(page_token or 0)
        return Page(self.rows[first : first + 1000], str(first + 1000) if first + 1000 < len(self.rows) else "")


def test_every_run_is_found_however_many_there_are():
    for count in (0, 1, 1000, 2001):
        assert [run.number for run in every_run(Store(count), ["1"], "")] == list(range(count))


def test_each_difference_is_a_line_with_both_values():
    stated = {"status": "FINISHED", "metrics/loss": [[1, 0.5, 9], [2, 0.25, 9]], "reason": None}
    found = {"status": "FAILED", "metrics/loss": [[1, 0.5, 9], [2, 0.5, 9]], "tags/x": "y", "reason": None}
    assert differences(stated, found, "stated {}, MLflow shows {}") == [
        "status: stated FINISHED, MLflow shows FAILED",
        "metrics/loss at step 2: stated 0.25, MLflow shows 0.5 (+0.25)",
        "tags/x: stated nothing, MLflow shows y",
    ]


def test_fractions_and_arrays_are_held_to_a_tolerance_and_whole_numbers_are_not():
    ones = np.ones(3, np.float32)
    stated = {"loss": 1.0, "step": 1000, "weights w": ones, "weights b": ones}
    found = {"loss": 1.0005, "step": 1001, "weights w": ones * np.float32(1.0005), "weights b": np.ones(2, np.float32)}
    told = "recorded {}, trained again {}"
    whole = ["step: recorded 1000, trained again 1001", "weights b: recorded float32 (3,), trained again float32 (2,)"]
    assert differences(stated, found, told, 1e-3) == whole
    assert differences(stated, found, told) == [
        "loss: recorded 1.0, trained again 1.0005 (+0.0005)", whole[0], "weights w: differ by up to 0.0005", whole[1],
    ]  # fmt: skip
