"""What is found of a run, and what of it is called evidence."""

from types import SimpleNamespace

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
