"""Training as a whole: against PyTorch on digits, one backend against the other, and what a learner refuses."""

import gc
import json
import weakref

import numpy as np
import pytest
from fixtures import formulas
from harness import FIXTURES, numba_backend

from odyssey_core import ops
from odyssey_core.backends.base import Feed
from odyssey_core.backends.numpy import NumpyBackend
from odyssey_core.data.dataset import Images
from odyssey_core.errors import ConfigError, DataError
from odyssey_core.inference import MOST
from odyssey_core.learner import Learner, training_step
from odyssey_core.losses import CrossEntropy
from odyssey_core.models import MODELS
from odyssey_core.nn import Flatten, Linear, Module, ReLU, Sequential
from odyssey_core.ops import conv
from odyssey_core.optim import OPTIMIZERS, SGD, Plan
from odyssey_core.optim.schedules import Plateau, Polynomial
from odyssey_core.tensor import topological
from odyssey_core.testing.graph import relative_error

BACKENDS = {"numpy": NumpyBackend, "numba": numba_backend}


def _data(count=64, shape=(1, 4, 5), classes=3, seed=0) -> Images:
    rng = np.random.default_rng(seed)
    return Images(rng.integers(0, 256, (count, *shape), np.uint8), rng.integers(0, classes, count))


SHAPE = (1, 4, 5)


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "mobilenet_v1"])
def test_no_gradient_of_the_images_is_computed(name):
    images = ops.images((2, 3, 32, 32))
    step = training_step(MODELS[name](input_shape=(3, 32, 32), classes=10), SGD(), ops.cross_entropy, images)
    gradients = {node.shape for node in topological(step.nodes()) if node.op is conv.GRAD_INPUT}
    assert gradients
    assert images.shape not in gradients


def _learner(backend="numpy", model=None, batch_size=8, optimizer=("sgd", {"lr": 0.1}), **settings):
    name, arguments = optimizer
    built = model or MODELS["linear"](input_shape=SHAPE, classes=3)
    backend = BACKENDS[backend]()
    return Learner(built, OPTIMIZERS[name](**arguments), backend, input_shape=SHAPE, batch_size=batch_size, **settings)


def _train(learner, data, order, epoch=0, first_step=0):
    return learner.train(data, order, epoch=epoch, first_step=first_step).losses


def _stored(name: str) -> tuple[dict, dict[str, np.ndarray]]:
    """PyTorch's losses and running averages, and the weights that it began with."""
    stored = json.loads((FIXTURES / f"torch_{name}.json").read_text())
    return stored, formulas.weights({path: tuple(shape) for path, shape in stored["shapes"].items()})


def _learns_like_pytorch(learner: Learner, data: Images, stored: dict, steps: int, within: float = 1e-4) -> None:
    losses = _train(learner, data, formulas.order(len(data))[:steps]).mean(axis=1)
    expected = np.array(stored["losses"][:steps])
    error = np.abs(losses - expected) / expected
    assert error.max() <= within, f"step {error.argmax()}: {losses[error.argmax()]} for {expected[error.argmax()]}"


@pytest.mark.parametrize(("backend", "steps"), [("numba", formulas.STEPS), ("numpy", formulas.FIRST_STEPS)])
def test_lenet5_loses_what_pytorchs_loses(backend, steps):
    stored, weights = _stored("lenet5")
    learner = Learner(
        MODELS["lenet5"](input_shape=(1, 28, 28), classes=10),
        OPTIMIZERS["sgd"](lr=formulas.LENET5_LR, momentum=formulas.MOMENTUM), BACKENDS[backend](),
        input_shape=(1, 28, 28), batch_size=formulas.BATCH,
    )  # fmt: skip
    learner.load_weights(weights)
    _learns_like_pytorch(learner, Images(*formulas.large_digits()), stored, steps)


# The deeper net's roundings grow: PyTorch's own float32 is 3.6e-4 away from its float64 at the end.
RESIDUAL = {"resnet8": (1e-4, 1e-5), "resnet20": (1e-3, 1e-3)}  # of losses, and of running averages


@pytest.mark.parametrize("name", RESIDUAL)
@pytest.mark.parametrize(("backend", "steps"), [("numba", formulas.STEPS), ("numpy", formulas.FIRST_STEPS)])
def test_residual_nets_lose_what_pytorchs_lose(backend, steps, name):
    """Steps through batch norm, and the running averages after them."""
    (stored, weights), (of_losses, of_averages) = _stored(name), RESIDUAL[name]
    learner = Learner(
        MODELS[name](input_shape=(1, 8, 8), classes=10, width=8),
        OPTIMIZERS["sgd"](lr=formulas.RESNET_LR, momentum=formulas.MOMENTUM), BACKENDS[backend](),
        input_shape=(1, 8, 8), batch_size=formulas.BATCH,
    )  # fmt: skip
    learner.load_weights(weights)
    _learns_like_pytorch(learner, Images(*formulas.digits()), stored, steps, of_losses)
    found = learner.weights()
    for path, expected in stored["averages"][str(steps)].items():
        assert relative_error(found[path], np.array(expected)) <= of_averages, path


@pytest.mark.parametrize("optimizer", [("sgd", {"lr": 0.05, "momentum": 0.9}), ("adamw", {"lr": 0.01})], ids=str)
def test_both_backends_learn_the_same(optimizer):
    """Twenty steps with dropout, label smoothing, normalisation and a last step that is not full."""
    data = _data(90)
    order = np.arange(20 * 9, dtype=np.int64).reshape(20, 9) % 90
    order[-1, 4:] = -1
    found = {}
    for backend in BACKENDS:
        model = MODELS["mlp"](input_shape=(1, 4, 5), classes=3, hidden=(7,), dropout=0.25)
        learner = _learner(
            backend, model, 9, optimizer, mean=0.3, std=0.4, loss=CrossEntropy(0.1), seed=5,
        )  # fmt: skip
        losses = _train(learner, data, order, epoch=1)
        assert losses.shape == order.shape
        assert not losses[-1, 4:].any()
        assert losses[-1, :4].all()
        found[backend] = losses, learner.weights(), learner.evaluate(data, np.arange(90))
    (losses, weights, (logits, plain)), (losses_2, weights_2, (logits_2, plain_2)) = found.values()
    np.testing.assert_allclose(losses_2, losses, rtol=1e-4)
    np.testing.assert_allclose(logits_2, logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(plain_2, plain, rtol=1e-4, atol=1e-5)
    for name, value in weights.items():
        np.testing.assert_allclose(weights_2[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_many_steps_in_a_call_are_many_calls(backend):
    data = _data()
    order = np.arange(48, dtype=np.int64).reshape(6, 8)
    one, many = (_learner(backend, optimizer=("adam", {"lr": 0.01})) for _ in range(2))
    together = _train(one, data, order)
    apart = [_train(many, data, order[i : i + 2], first_step=i) for i in (0, 2, 4)]
    np.testing.assert_array_equal(together, np.concatenate(apart))
    for name, value in one.state().items():
        np.testing.assert_array_equal(many.state()[name], value)


@pytest.mark.parametrize("backend", BACKENDS)
def test_state_resumes_to_the_same_bits(backend):
    data = _data()
    order = np.arange(32, dtype=np.int64).reshape(4, 8)
    one = _learner(backend, optimizer=("adam", {"lr": 0.01}))
    _train(one, data, order[:2])
    two = _learner(backend, optimizer=("adam", {"lr": 0.01}), seed=99)
    two.load_state(one.state())
    np.testing.assert_array_equal(
        _train(two, data, order[2:], first_step=2), _train(one, data, order[2:], first_step=2)
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_step_takes_the_learning_rate_that_the_schedule_gives_it(backend):
    """A plain step moves the weights by its rate times the gradient; a plateau is one of the history that is given."""
    data, order = _data(), np.arange(8)[None]
    learner = _learner(backend, plan=Plan(8, 2, Plateau(gamma=0.25, patience=0)))
    for step, history, rate in [(0, (), 0.1), (2, (3.0,), 0.1), (4, (3.0, 3.0), 0.025), (6, (3.0, 3.0, 3.0), 0.00625)]:
        before, gradients = learner.weights(), learner.gradients(data, order[0])
        taken = learner.train(data, order, epoch=0, first_step=step, history=history)
        assert taken.rates == [rate]
        for name, value in learner.weights().items():
            np.testing.assert_allclose(value, before[name] - np.float32(rate) * gradients[name], atol=1e-7)


def test_rates_of_many_steps_come_back_as_they_were_trained_with():
    learner = _learner(plan=Plan(5, 5, Polynomial(power=1)))
    order = np.arange(24).reshape(3, 8)
    assert learner.train(_data(), order, epoch=0, first_step=1).rates == [0.1 * (1 - step / 5) for step in (1, 2, 3)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_evaluation_follows_the_weights_and_draws_no_masks(backend):
    data = _data(MOST + 3)
    model = MODELS["mlp"](input_shape=(1, 4, 5), classes=3, hidden=(7,), dropout=0.5)
    learner = _learner(backend, model)
    order = np.arange(MOST + 3)
    logits, losses = learner.evaluate(data, order)
    assert logits.shape == (len(order), 3)
    assert losses.shape == (len(order),)
    np.testing.assert_array_equal(learner.evaluate(data, order[::-1])[0], logits[::-1])
    w = learner.weights()
    x = data.pixels.reshape(len(data), -1) / np.float64(255)
    by_hand = np.maximum(x @ w["fc1.weight"].T + w["fc1.bias"], 0) @ w["fc2.weight"].T + w["fc2.bias"]
    np.testing.assert_allclose(logits, by_hand, rtol=1e-4, atol=1e-5)
    _train(learner, data, np.arange(8)[None])
    assert (learner.evaluate(data, order)[0] != logits).any()
    learner.load_weights(w)
    np.testing.assert_array_equal(learner.evaluate(data, order)[0], logits)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_layer_used_twice_is_one_set_of_weights(backend):
    """Weight sharing through the tree of modules: one pair of parameters, updated once by the sum of its gradients."""
    layer = Linear(20, 20)
    model = Sequential({"flatten": Flatten(), "a": layer, "relu": ReLU(), "b": layer})
    assert list(model.parameters()) == ["a.weight", "a.bias"]
    learner = _learner(backend, model, optimizer=("sgd", {"lr": 1.0}))
    data = Images(_data().pixels, _data(classes=20).labels)
    w = learner.weights()["a.weight"].astype(np.float64)
    _train(learner, data, np.arange(8)[None])
    x, labels = data.pixels[:8].reshape(8, -1) / 255, data.labels[:8]
    z = x @ w.T
    h = np.maximum(z, 0)
    logits = h @ w.T
    share = np.exp(logits - logits.max(1, keepdims=True))
    g = (share / share.sum(1, keepdims=True) - np.eye(20)[labels]) / 8
    expected = w - g.T @ h - ((g @ w) * (z > 0)).T @ x
    np.testing.assert_allclose(learner.weights()["a.weight"], expected, rtol=1e-4, atol=1e-5)


def test_initial_weights_depend_on_name_and_seed_alone():
    first, again, other = _learner(seed=1), _learner(seed=1, backend="numba"), _learner(seed=2)
    w = first.weights()["fc.weight"]
    np.testing.assert_array_equal(again.weights()["fc.weight"], w)
    assert (other.weights()["fc.weight"] != w).all()
    assert not first.weights()["fc.bias"].any()
    bound = np.sqrt(3 / 20)
    assert 0.8 * bound < np.abs(w).max() <= bound


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("index", [64, -2])
def test_indices_outside_the_data_are_refused(backend, index):
    learner = _learner(backend)
    order = np.zeros((1, 8), np.int64)
    order[0, 3] = index
    with pytest.raises(DataError, match=r"indices must lie in \[-1, 64\)"):
        _train(learner, _data(), order)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("label", [3, -1])
def test_labels_outside_the_classes_are_refused(backend, label):
    data = _data()
    data.labels[5] = label
    with pytest.raises(DataError, match=r"labels must lie in \[0, 3\)"):
        _train(_learner(backend), data, np.arange(8)[None])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_label_that_no_index_names_is_no_matter(backend):
    """The last one neither, where a place of the batch holds no image."""
    data, row = _data(), np.append(np.arange(7), -1)[None]
    expected = _train(_learner(backend), data, row)
    data.labels[-1] = 255
    np.testing.assert_array_equal(_train(_learner(backend), data, row), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_images_and_no_steps_give_nothing(backend):
    learner, nothing = _learner(backend, optimizer=("adam", {}), ema=0.9), np.zeros(0, np.int64)
    before = learner.state()
    logits, losses = learner.evaluate(_data(), nothing)
    assert (logits.shape, losses.shape) == ((0, 3), (0,))
    taken = learner.train(_data(), nothing.reshape(0, 8), epoch=0, first_step=0)
    assert (taken.losses.shape, taken.rates) == ((0, 8), [])
    for name, value in learner.state().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("backend", BACKENDS)
def test_images_of_another_size_are_refused(backend):
    with pytest.raises(DataError, match=r"takes 20 pixels an image, got shape"):
        _train(_learner(backend), _data(shape=(1, 4, 4)), np.arange(8)[None])


@pytest.mark.parametrize("backend", BACKENDS)
def test_another_batch_size_is_refused(backend):
    with pytest.raises(DataError, match="expected 8 images per step, got 7"):
        _train(_learner(backend), _data(), np.arange(7)[None])


def test_updates_without_their_numbers_are_refused():
    learner = _learner("numba", optimizer=("adam", {}))
    with pytest.raises(DataError, match=r"scalars correction: expected shape \(1,\), got None"):
        pixels = np.zeros((8, 20), np.uint8)
        learner._train.run(Feed(order=np.arange(8)[None], pixels=pixels, labels=np.zeros(8, np.int64)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_its_memory_goes_with_its_last_user(backend):
    """Not only when the garbage collector looks, which megabytes of arrays do not hasten."""
    gc.disable()
    try:
        learner = _learner(backend)
        learner.evaluate(_data(), np.arange(3))
        gone = weakref.ref(learner)
        del learner
        assert gone() is None
    finally:
        gc.enable()


def test_batch_size_must_be_positive():
    with pytest.raises(ConfigError, match=r"trainer\.batch_size: expected an integer at least 1, got 0"):
        _learner(batch_size=0)


def test_weights_that_do_not_fit_are_named():
    learner = _learner()
    w = learner.weights()
    with pytest.raises(DataError, match=r"missing \['fc.bias'\], unknown \['fc.b'\]"):
        learner.load_weights({"fc.weight": w["fc.weight"], "fc.b": w["fc.bias"]})
    with pytest.raises(DataError, match=r"fc\.weight: the model needs shape \(3, 20\), got \(20, 3\)"):
        learner.load_weights({**w, "fc.weight": w["fc.weight"].T})
    with pytest.raises(DataError, match="velocity"):
        _learner(optimizer=("sgd", {"momentum": 0.9})).load_state(w)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_larger_than_what_is_left_counts_the_images_it_has(backend):
    """The mean is over the images, not over the places."""
    data = _data()
    partial, whole = _learner(backend, batch_size=8), _learner(backend, batch_size=3)
    order = np.full((1, 8), -1, np.int64)
    order[0, :3] = 4, 5, 6
    _train(partial, data, order)
    _train(whole, data, order[:, :3])
    np.testing.assert_allclose(partial.weights()["fc.weight"], whole.weights()["fc.weight"], rtol=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layer", ["conv1", "conv2", "fc1", "fc2", "fc3"])
def test_the_layer_that_overflows_is_named(layer, backend):
    """Weights of one layer so large that its sums leave float32; the loss of the step is not finite either."""
    shape = (1, 28, 28)
    data = _data(shape=shape, classes=47)
    learner = Learner(
        MODELS["lenet5"](input_shape=shape, classes=47, dropout=0.25), OPTIMIZERS["sgd"](momentum=0.9),
        BACKENDS[backend](), input_shape=shape, batch_size=8, ema=0.9,
    )  # fmt: skip
    order = np.arange(8)
    order[6:] = -1
    assert learner.first_nonfinite(learner.state(), data, order, epoch=0) is None
    state = learner.state()
    state[f"{layer}.weight"][...] = 3e38
    learner.load_state(state)
    assert learner.first_nonfinite(learner.state(), data, order, epoch=0) == layer
    if backend == "numba":
        assert not np.isfinite(_train(learner, data, order[None])).all()


class _Square(Module):
    def forward(self, x):
        return x * x


def test_what_has_no_parameters_goes_by_the_layer_before():
    model = Sequential({"flatten": Flatten(), "a": Linear(20, 4), "square": _Square(), "b": Linear(4, 3)})
    learner, data = _learner(model=model), _data()
    state = learner.state()
    state["a.weight"][...] = 1e25
    assert learner.first_nonfinite(state, data, np.arange(8), epoch=0) == "a"
    state["a.weight"][0, 0] = np.nan
    assert learner.first_nonfinite(state, data, np.arange(8), epoch=0) == "a"


def test_activations_that_are_all_finite_leave_the_loss_and_the_gradients():
    model = Sequential({"flatten": Flatten(), "a": Linear(20, 4), "b": Linear(4, 3)})
    learner, data = _learner(model=model, std=0.001), _data()
    state = learner.state()
    state["a.weight"][...] = 0
    state["b.weight"][...] = np.array([3e38, -3e38, 3e38])[:, None]
    # Without activations the logits are those of the biases; 3e38 and pixels of 1000 meet in the backward pass alone.
    assert learner.first_nonfinite(state, data, np.arange(8), epoch=0) == "the gradient of a.weight"
    state["b.bias"][...] = 3e38, -3e38, 0
    assert learner.first_nonfinite(state, data, np.arange(8), epoch=0) == "the loss"


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_gradients_are_those_of_a_step_and_change_nothing(backend):
    data = _data()
    learner = _learner(backend, optimizer=("sgd", {"lr": 0.5}), seed=3)
    before = learner.state()
    grads = learner.gradients(data, np.arange(8))
    assert all((learner.state()[name] == value).all() for name, value in before.items())
    _train(learner, data, np.arange(8)[None])
    for name, value in learner.weights().items():
        np.testing.assert_allclose(before[name] - value, 0.5 * grads[name], atol=1e-6)
    assert max(np.abs(grad).max() for grad in grads.values()) > 0.01
