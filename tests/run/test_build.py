"""What several runs are made of together."""

import pytest
from quick import QUICK

from odyssey_run import cli
from odyssey_run.runs.recorded import open_folder
from odyssey_run.runs.requests import request_of
from odyssey_run.training.build import assemble, sharing

FAST = [*(text for text in QUICK if not text.startswith("backend=")), "model=linear"]


def test_requests_share_data_and_programs_where_these_are_the_same():
    made = {}

    def assembly(*overrides):
        return assemble(sharing(request_of([*FAST, *overrides]), made))

    usual, faster = assembly(), assembly("optim.lr=0.5", "seed=3")
    assert faster.dataset is usual.dataset
    assert faster.learner is not usual.learner
    assert faster.learner._train.program is usual.learner._train.program
    assert assembly("data=noise").dataset is not usual.dataset
    assert assembly("backend.groups=2").learner.backend is not usual.learner.backend
    assert assembly("trainer.batch_size=16").learner._train.program is not usual.learner._train.program


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_a_run_of_several_seeds_is_that_of_each_alone(tmp_path, backend):
    assert cli.main([*FAST, f"backend={backend}", "seeds=2", "run.dir=all"]) == 0
    assert cli.main([*FAST, f"backend={backend}", "seed=1", "run.dir=one"]) == 0
    runs = [open_folder(tmp_path / folder) for folder in ("all/seed-1", "one")]
    assert runs[0].tags["odyssey.weights.sha256"] == runs[1].tags["odyssey.weights.sha256"]
