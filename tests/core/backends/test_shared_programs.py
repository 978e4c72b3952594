"""Graphs that are told apart by what they compute: equal ones share a program, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from harness import numba_backend
from programs import PROGRAMS

from odyssey_core import ops
from odyssey_core.backends.numba.graph import Graph
from odyssey_core.backends.numba.layout import plan
from odyssey_core.backends.numba.program import lay_out
from odyssey_core.data.augment import Augment
from odyssey_core.data.dataset import Images
from odyssey_core.learner import Learner
from odyssey_core.losses import CrossEntropy
from odyssey_core.models import MODELS
from odyssey_core.optim import OPTIMIZERS, PLAIN, SGD, Lookahead
from odyssey_core.tensor import Op

RNG = np.random.default_rng(0)
DATA = Images(RNG.integers(0, 256, (40, 1, 4, 4), np.uint8), RNG.integers(0, 3, 40))
USUAL = {"momentum": 0.9, "batch_size": 16}
OTHERS = [
    {"momentum": 0.8},
    {"momentum": 0.0},
    {"momentum": -0.0},
    {"nesterov": True},
    {"groups": ({"match": "*.bias", "lr": 0.0},)},
    {"groups": ({"match": "*.bias", "lr": 0.5},)},
    {"batch_size": 17},
    {"mean": 0.5},
    {"std": 0.5},
    {"loss": CrossEntropy(label_smoothing=0.1)},
    {"augment": Augment(shift=1.0)},
    {"augment": Augment(shift=2.0)},
    {"clip_norm": 1.0},
    {"clip_norm": 2.0},
    {"ema": 0.9},
    {"lookahead": Lookahead(5, 0.5, 2)},
    {"model": "mlp"},
]


def _learner(backend, lr=0.1, model="linear", **options) -> Learner:
    options = USUAL | options
    own = {name: options.pop(name) for name in ("momentum", "nesterov", "groups") if name in options}
    made = MODELS[model](input_shape=(1, 4, 4), classes=3)
    return Learner(made, SGD(lr, **own), backend, input_shape=(1, 4, 4), **options)


def _program(learner: Learner):
    return learner._train.program


def _taken(learner: Learner) -> dict[str, np.ndarray]:
    order = np.arange(48).reshape(3, 16) % 40
    learner.train(DATA, order, epoch=0, first_step=0)
    return learner.state() | {"logits": learner.evaluate(DATA, np.arange(20))[0]}


def test_learners_that_differ_in_what_a_step_is_fed_with_share_a_program_and_no_memory():
    backend = numba_backend()
    first, other = (_learner(backend, lr, seed=seed) for lr, seed in ((0.1, 0), (0.2, 3)))
    assert _program(first) is _program(other)
    taken = _taken(first), _taken(other)
    alone = _taken(_learner(numba_backend())), _taken(_learner(numba_backend(), 0.2, seed=3))
    for found, expected in zip(taken, alone, strict=True):
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("options", OTHERS, ids=str)
def test_whatever_else_differs_gets_a_program_of_its_own(options):
    backend = numba_backend()
    usual, other = _learner(backend), _learner(backend, **options)
    assert _program(other) is not _program(usual)
    assert _program(_learner(backend, **options)) is _program(other)
    assert _program(_learner(backend)) is _program(usual)


def test_every_two_programs_are_of_graphs_that_are_not_equal():
    """But for one that is lowered in another way for the tests."""
    graphs = {name: Graph(*make().arguments) for name, make in PROGRAMS.items() if name != "slices"}
    assert len({*graphs.values()}) == len(graphs)
    for name, graph in graphs.items():
        assert Graph(*PROGRAMS[name]().arguments) == graph, name


def _arguments(graph: Graph) -> tuple:
    return graph.outputs, graph.parameters, graph.updates, graph.rule, graph.buffers


def _lowered(graph: Graph) -> tuple:
    program = lay_out(plan(*_arguments(graph), 8, 1, numba_backend().tiles), graph.updates, graph.rule)
    return program.kernels, program.table.tolist(), program.values


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_graphs_with_an_optimizers_numbers_are_equal_where_their_programs_are(name):
    """A rate is fed to each step; so are some other numbers, or what is made of them."""
    step = _learner(numba_backend())

    def graph(**options) -> Graph:
        updates = [replace(update, optimizer=OPTIMIZERS[name](**options)) for update in step._updates]
        return Graph([step.losses], step.nodes, updates, PLAIN, {})

    usual = graph(lr=0.1)
    assert graph(lr=0.2) == usual
    numbers = {key: value for key, value in vars(OPTIMIZERS[name](lr=0.1)).items() if isinstance(value, float)}
    others = [graph(**{"lr": 0.1, key: value / 2 + 1e-3}) for key, value in numbers.items() if key != "lr"]
    for other in others:
        assert (other == usual) == (_lowered(other) == _lowered(usual))
    assert sum(other != usual for other in others) >= min(1, len(others))


def test_an_attribute_that_cannot_be_compared_makes_a_graph_equal_to_no_other():
    noted = Op("relu", lambda x, **_: x.shape)

    def graph(note) -> Graph:
        return Graph([noted(ops.input_("x", (16, 2)), note=note)], {}, [], PLAIN, {})

    assert graph(1) == graph(1)
    assert graph(1) != graph(1.0)
    assert graph(0.0) != graph(-0.0)
    assert graph(np.ones(1)) != graph(np.ones(1))
