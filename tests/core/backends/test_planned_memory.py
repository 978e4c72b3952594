"""What a training step takes, planned before anything is compiled, beside what the process takes of it."""

import re
from pathlib import Path

import numpy as np
import pytest

from odyssey_core import ops
from odyssey_core.backends.base import Feed
from odyssey_core.backends.numba import NumbaBackend
from odyssey_core.learner import initial_values, training_step
from odyssey_core.models import MODELS
from odyssey_core.optim import PLAIN, SGD

STATUS = Path("/proc/self/status")


def _resident() -> int:
    """Bytes of this process that lie in memory."""
    return 1024 * int(re.search(r"VmRSS:\s+(\d+) kB", STATUS.read_text())[1])


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux says how much memory a process takes")
def test_a_step_takes_as_much_memory_as_was_planned():
    """Values of batch norm's layers cross phases: nearly all that there is; a program's other arrays are small."""
    batch, optimizer = 256, SGD(lr=0.01, momentum=0.9)
    model = MODELS["resnet8"](input_shape=(1, 28, 28), classes=47)
    step = training_step(model, optimizer, ops.cross_entropy, ops.images((batch, 1, 28, 28)))
    graph, backend = (step.outputs, step.values, step.updates, PLAIN, step.buffers), NumbaBackend(threads=1)
    planned = sum(backend.memory(*graph).values())
    executable = backend.compile(*graph)
    pixels, labels = np.zeros((batch, 784), np.uint8), np.zeros(batch, np.int64)
    feed = Feed(np.arange(batch)[None], pixels, labels, PLAIN.numbers(optimizer, 0, [0.01]))
    before = _resident()
    executable.write(initial_values(step.values, 0))
    executable.run(feed)
    assert planned > 80 * 2**20
    assert _resident() - before == pytest.approx(planned, rel=0.05)
