"""Our operations are PyTorch's and ONNX's: values, gradients and running averages of every case."""

import json

import numpy as np
import pytest
from cases import CASES
from fixtures import formulas
from harness import FIXTURES

from odyssey_core import ops
from odyssey_core.counterparts import torch_steps
from odyssey_core.errors import ConfigError
from odyssey_core.ops import OPS, leaves
from odyssey_core.tensor import Op
from odyssey_core.testing.graph import classes_of, reference, run

STORED = json.loads((FIXTURES / "torch_ops.json").read_text())


def test_every_case_is_stored():
    assert STORED.keys() == CASES.keys(), "make the fixtures anew: tests/fixtures/make_torch_fixtures.py"


@pytest.mark.parametrize("case", CASES)
def test_an_op_is_what_pytorch_has(case):
    graph = CASES[case](formulas.OP_IMAGES)
    state, inputs = graph.values(seed=11)
    feed = graph.feed(inputs, classes=classes_of(graph))
    found = run(reference(), graph, state, feed)
    found["loss"] = found["losses"].mean()
    for name, expected in STORED[case].items():
        value = np.asarray(found[name]).reshape(np.shape(expected))
        # Outputs of a backend are float32, and so are gradients of inputs here; what is state is float64.
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=2e-7, err_msg=name)


def _needs_labels(op: Op) -> bool:
    return op in vars(ops.loss).values()


def test_every_op_that_a_model_may_use_has_its_counterparts():
    for op in OPS.values():
        if op.gradient is not None:
            assert op.torch is not None, op.name
            assert op.onnx is not None or op.inference is not None or _needs_labels(op), op.name


def test_an_op_without_a_counterpart_is_named():
    x = ops.input_("x", (2, 3))
    with pytest.raises(ConfigError, match="PyTorch has no counterpart here for the operation cube"):
        torch_steps([Op("cube", lambda x: x.shape)(x)], {"x": x})
    assert leaves.IMAGES.torch is None
