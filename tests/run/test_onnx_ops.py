"""Every operation that ONNX has a counterpart for, in one model, asked in ONNX's own runtime."""

from types import SimpleNamespace

import numpy as np
import pytest

from odyssey_core import nn, ops
from odyssey_core.backends.base import Feed
from odyssey_core.backends.numpy import NumpyBackend
from odyssey_core.learner import initial_values
from odyssey_core.ops import OPS
from odyssey_core.tensor import for_inference, topological
from odyssey_run.tasks import export

CLASSES, SHAPE = 5, (2, 9, 8)


class Everything(nn.Module):
    """Of (N, 2, 9, 8); no operation is left out, and settings are none of the defaults."""

    def __init__(self):
        self.plain = nn.Conv2d(2, 6, (1, 5), padding=(0, 2))
        self.grouped = nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2)
        self.depthwise = nn.Conv2d(6, 6, 2, groups=6, bias=False)
        self.norm = nn.BatchNorm2d(6, eps=1e-2)
        self.fc = nn.Linear(24, 6)
        self.last = nn.Linear(16, CLASSES, bias=False)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.norm(self.plain(x))
        for name in ops.activations.__all__:
            if name != "softmax":
                x = x + getattr(ops, name)(x * 2)
        y = ops.max_pool2d(self.depthwise(ops.shift2d(x, -1, 2)) - 1, 3, 2, padding=1)
        z = ops.avg_pool2d(self.grouped(ops.shift2d(x, 1, 0, mirror=True)), 3, 2, padding=1)
        z = ops.concat(ops.global_avg_pool2d(ops.tanh(y) * y), ops.global_avg_pool2d(z))
        w = self.fc(self.drop(ops.flatten(ops.avg_pool2d(y, 2, 2))))
        return ops.softmax(self.last(ops.concat(-w / 3, z + 0.5)) / 50)


def test_onnx_computes_what_we_do():
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    module = Everything()
    (answers,) = for_inference([module(ops.images((4, *SHAPE), 0.4, 0.3))])
    used = {node.op.name for node in topological([answers])}
    assert {op.name for op in OPS.values() if op.onnx} - used == set()
    rng = np.random.default_rng(0)
    values = initial_values(module.state(), seed=1)
    values |= {name: rng.uniform(0.5, 1.5, node.shape).astype(np.float32) for name, node in module.buffers().items()}
    classifier = SimpleNamespace(
        module=module, parameters=values, orientation="upright", logits=answers, input_shape=SHAPE,
        class_names=tuple("abcde"),
    )  # fmt: skip
    file = export.as_onnx(classifier, {"model": "everything"})
    pixels = rng.integers(0, 256, (4, *SHAPE), np.uint8)
    (found,) = runtime.InferenceSession(file).run(None, {"pixels": pixels})
    executable = NumpyBackend("float64").compile([answers], module.state())
    executable.write(values)
    expected = executable.run(Feed(order=np.arange(4)[None], pixels=pixels.reshape(4, -1)))[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.std(axis=0).max() > 1e-3, "the images are told apart"
