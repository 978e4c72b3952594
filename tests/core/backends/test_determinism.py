"""The same weights to the last bit: for any number of threads, in any process, on any CPU that we can imitate."""

import pytest
from harness import numba_backend

from odyssey_core.errors import ConfigError

TRAIN = """
import sys
import numpy as np
from odyssey_core.backends import BACKENDS
from odyssey_core.checkpoint import digest
from odyssey_core.data.dataset import Images
from odyssey_core.learner import Learner
from odyssey_core.losses import CrossEntropy
from odyssey_core.models import MODELS
from odyssey_core.optim import OPTIMIZERS
from odyssey_core.random import words

SHAPE, BATCH, STEPS = (1, 28, 28), 96, 30
raw = words(500 * 784, seed=1, stream="pixels").reshape(500, *SHAPE)
# Half of every image is empty, as real ones are: maxima tie there.
pixels = np.where(np.arange(28) < 14, 0, raw >> 24).astype(np.uint8)
data = Images(np.ascontiguousarray(pixels), (words(500, seed=1, stream="labels") % 47).astype(np.int64))
order = np.arange(STEPS * BATCH).reshape(STEPS, BATCH) * 7 % 500
order[-1, 50:] = -1
for threads in map(int, sys.argv[1:]):
    backend = BACKENDS["numba"](threads=threads)
    assert backend.threads == threads, backend.threads
    learner = Learner(
        MODELS["lenet5"](input_shape=SHAPE, classes=47, dropout=0.25), OPTIMIZERS["sgd"](lr=0.05, momentum=0.9),
        backend, input_shape=SHAPE, batch_size=BATCH, mean=0.17, std=0.33, loss=CrossEntropy(0.1), seed=3,
        clip_norm=0.5, ema=0.9,
    )
    losses = learner.train(data, order, epoch=1, first_step=0).losses
    assert np.isfinite(losses).all() and losses[:5].mean() != losses[-5:].mean()
    print(digest(learner.state()))
"""
LENET5 = 'MODELS["lenet5"](input_shape=SHAPE, classes=47, dropout=0.25)'
assert LENET5 in TRAIN
# Statistics of the whole batch in mid-step; running averages are part of the state.
RESNET8 = TRAIN.replace(LENET5, 'MODELS["resnet8"](input_shape=SHAPE, classes=47)').replace("96, 30", "96, 8")
# Weights' gradients summed in slices, over the blocks of the whole batch; steps that are orthogonal matrices.
SLICED = "from odyssey_core.backends.numba.kernels import weight_slices as s; s.LARGE = 1\n" + RESNET8
SLICED = SLICED.replace('OPTIMIZERS["sgd"](lr=0.05, momentum=0.9)', 'OPTIMIZERS["muon"]()')
assert "muon" in SLICED
SCRIPTS = {"lenet5": TRAIN, "resnet8": RESNET8, "sliced resnet8": SLICED}
FOUR = {"NUMBA_NUM_THREADS": "4"}
# All four are needed: the name alone still emits AVX-512, and NumPy and OpenBLAS choose their loops by themselves.
HASWELL = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "+avx2,+fma,+avx,+bmi,+bmi2,+popcnt,+f16c,+sse4.2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL",
    "OPENBLAS_CORETYPE": "Haswell",
}


@pytest.fixture(scope="module")
def known():
    """The first process's digest, once one test has found it."""
    return {}


@pytest.mark.parametrize("model", SCRIPTS)
def test_threads_never_change_a_bit(run_python, known, model):
    digests = run_python(SCRIPTS[model], "1", "2", "3", "4", **FOUR).split()
    assert len(digests) == 4
    assert len(set(digests)) == 1
    known[model] = digests[0]


@pytest.mark.parametrize("model", SCRIPTS)
def test_another_process_finds_the_same(run_python, known, model):
    digest = known.get(model) or run_python(SCRIPTS[model], "1", **FOUR)
    assert run_python(SCRIPTS[model], "2", **FOUR) == digest


@pytest.mark.slow
@pytest.mark.parametrize("model", SCRIPTS)
def test_another_cpu_finds_the_same(run_python, known, model):
    from numba.core.config import CPU_NAME

    from odyssey_core.backends.numba import target_features

    if CPU_NAME or "avx2" not in target_features():
        pytest.skip("needs a CPU with AVX2 whose features are not hidden already")
    digest = known.get(model) or run_python(SCRIPTS[model], "1", **FOUR)
    script = "import warnings; warnings.simplefilter('ignore', ImportWarning)\n" + SCRIPTS[model]
    assert run_python(script, "2", **FOUR, **HASWELL) == digest
    described = "from odyssey_core.backends import BACKENDS; print(BACKENDS['numba'](threads=1).describe())"
    assert run_python(described, **FOUR, **HASWELL) == "numba, 1 thread, AVX2"


def test_a_run_repeats_itself_and_the_seed_matters(run_python):
    """In one process, one backend: nothing is carried over from run to run."""
    assert len(set(run_python(TRAIN, "1", "1", **FOUR).split())) == 1
    other = TRAIN.replace("seed=3,", "seed=4,")
    assert run_python(other, "1", **FOUR) != run_python(TRAIN, "1", **FOUR)


@pytest.mark.parametrize(("name", "arguments"), [("threads", {"threads": 0}), ("groups", {"groups": 0})])
def test_fewer_than_one_is_refused(name, arguments):
    from odyssey_core.backends.numba import NumbaBackend

    with pytest.raises(ConfigError, match=rf"backend\.{name}: expected an integer at least 1, got 0"):
        NumbaBackend(**arguments)


def test_a_backend_describes_itself():
    assert numba_backend().describe().startswith("numba, 1 thread")
