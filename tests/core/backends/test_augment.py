"""Random distortion: both backends draw and sample the same, and each amount does what it says."""

import numpy as np
import pytest

from odyssey_core import ops
from odyssey_core.backends import BACKENDS
from odyssey_core.backends.base import Feed
from odyssey_core.data.augment import Augment
from odyssey_core.errors import ConfigError

AMOUNTS = {
    "affine": Augment(rotation=30, scale=0.3, shear=0.5, shift=3),
    "flip": Augment(flip=True),
    "alternating": Augment(flip="alternating"),
    "crop": Augment(crop=3),
    "reflected": Augment(crop=3, border="reflect"),
    "cutout": Augment(cutout=4),
    "tone": Augment(brightness=0.6, contrast=0.9),
    "all": Augment(10, 0.1, 0.2, 1.5, flip=True, crop=2, cutout=3, brightness=0.3, contrast=0.4),
    "all reflected": Augment(10, 0.1, 0.2, 1.5, flip="alternating", crop=1, border="reflect", cutout=3),
}
SIZES = [(1, 28, 28), (3, 5, 7)]
COLOURS = {"mean": (0.1, 0.5, 0.1), "std": (0.3, 0.3, 0.2)}


def distorted(backend, size, augment, *, epoch=0, seed=3, mean=0.1, std=0.3):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, int(np.prod(size))), dtype=np.uint8)
    order = rng.integers(0, 50, (2, 19))
    order[1, 4:] = -1
    executable = backend.compile([ops.images((19, *size), mean, std, augment.amounts())], {})
    return executable.run(Feed(order=order, pixels=pixels, seed=seed, epoch=epoch)), pixels, order


@pytest.mark.parametrize("name", AMOUNTS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_numba_samples_what_numpy_samples(size, name):
    settings = COLOURS if size[0] == 3 else {}
    expected, _, _ = distorted(BACKENDS["numpy"]("float64"), size, AMOUNTS[name], **settings)
    found, _, _ = distorted(BACKENDS["numba"](), size, AMOUNTS[name], **settings)
    # A coordinate's last bit, times the step between pixels; whole pixels have none.
    np.testing.assert_allclose(found, expected, atol=1e-4 if name in ("affine", "all", "all reflected") else 3e-6)
    assert not found[1, 4:].any()


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_no_amount_changes_nothing(backend):
    found, pixels, order = distorted(BACKENDS[backend](), (1, 28, 28), Augment(), mean=0.0, std=1.0)
    np.testing.assert_allclose(found[0], pixels[order[0]] / 255, atol=1e-5)


def of_images(images, augment, backend="numba", epoch=0, **settings):
    """Distorted (N, C, H, W) uint8 images; by default their pixels from 0 to 255."""
    node = ops.images(images.shape, **({"mean": 0.0, "std": 1 / 255} | settings), augment=augment.amounts())
    feed = Feed(order=np.arange(len(images))[None], pixels=images.reshape(len(images), -1), epoch=epoch)
    return BACKENDS[backend]().compile([node], {}).run(feed).reshape(images.shape)


def test_a_shift_moves_the_image():
    """With only a shift, the drawn offset is one number for x and one for y: a ramp stays a ramp."""
    ramp = np.ascontiguousarray(np.broadcast_to(np.arange(28, dtype=np.uint8) * 4, (1, 1, 28, 28)))
    inner = of_images(ramp, Augment(shift=2))[0, 0, 4:-4, 4:-4]
    np.testing.assert_allclose(np.diff(inner, axis=1), 4, atol=1e-3)
    np.testing.assert_allclose(np.diff(inner, axis=0), 0, atol=1e-3)
    moved = (inner[0, 0] - 4 * 4) / 4
    assert 0 < abs(moved) < 2


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(1).integers(1, 256, (400, 3, 6, 9), np.uint8)


def test_every_second_image_is_mirrored_and_none_else_is_changed(noise):
    found = of_images(noise, Augment(flip=True))
    as_is, mirrored = ((found == x).all(axis=(1, 2, 3)) for x in (noise, noise[..., ::-1]))
    assert (as_is ^ mirrored).all() and 160 < mirrored.sum() < 240  # four standard deviations
    again = (of_images(noise, Augment(flip=True), epoch=1) == noise).all(axis=(1, 2, 3))
    assert 160 < (again != as_is).sum() < 240


def test_a_crop_is_a_part_of_the_image_in_a_black_border(noise):
    found = of_images(noise, Augment(crop=2))
    framed = np.pad(noise, ((0, 0), (0, 0), (2, 2), (2, 2)))
    places = np.array([[framed[:, :, y : y + 6, x : x + 9] for x in range(5)] for y in range(5)])
    which = (places == found).all(axis=(3, 4, 5)).reshape(25, -1)
    assert (which.sum(axis=0) == 1).all(), "each image is one of the 25 parts, to the bit"
    counts = which.sum(axis=1)
    assert counts.min() > 2 and counts.max() < 34  # 16 expected; 4.5 standard deviations


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_an_alternating_flip_shows_each_image_once_either_way_in_two_epochs(noise, backend):
    found = np.rint([of_images(noise, Augment(flip="alternating"), backend, epoch) for epoch in range(4)])
    as_is = (found[0] == noise).all(axis=(1, 2, 3))
    assert 160 < as_is.sum() < 240  # four standard deviations
    np.testing.assert_array_equal(found[1], found[0][..., ::-1])
    np.testing.assert_array_equal(found[1:3], [found[1], found[0]])
    np.testing.assert_array_equal(found[3], found[1])


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_crop_is_a_part_of_the_image_reflected_at_its_border(noise, backend):
    """The border worked out by NumPy's reflection, which does not repeat the outermost pixels."""
    found = np.rint(of_images(noise, Augment(crop=2, border="reflect"), backend))
    framed = np.pad(noise, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="reflect")
    places = np.array([[framed[:, :, y : y + 6, x : x + 9] for x in range(5)] for y in range(5)])
    which = (places == found).all(axis=(3, 4, 5)).reshape(25, -1)
    assert (which.sum(axis=0) == 1).all(), "each image is one of the 25 parts"
    counts = which.sum(axis=1)
    assert counts.min() > 2 and counts.max() < 34  # 16 expected; 4.5 standard deviations


def test_a_square_is_cut_out_around_any_pixel(noise):
    found = of_images(noise, Augment(cutout=4), mean=(0.2, 0.3, 0.4), std=(0.1, 0.2, 0.3))
    mean, std = (np.array(x)[:, None, None] for x in ((0.2, 0.3, 0.4), (0.1, 0.2, 0.3)))
    np.testing.assert_allclose(
        np.where(found == 0, 0, found), np.where(found == 0, 0, (noise / 255 - mean) / std), atol=1e-5
    )
    gone = (found == 0).all(axis=1)
    squares = {(*np.argwhere(one).min(axis=0), *np.argwhere(one).max(axis=0)) for one in gone}
    whole = {(y, x, y + 3, x + 3) for y in range(3) for x in range(6)}
    clipped = {(max(y, 0), max(x, 0), min(y + 3, 5), min(x + 3, 8)) for y in range(-2, 4) for x in range(-2, 7)}
    assert squares == clipped and whole < clipped
    assert all(one.sum() == (y1 - y0 + 1) * (x1 - x0 + 1) for one in gone for y0, x0, y1, x1 in [_box(one)])


def _box(mask):
    return *np.argwhere(mask).min(axis=0), *np.argwhere(mask).max(axis=0)


def test_brightness_and_contrast():
    """Half of an image is 40, half 120: its mean 80 alone says how bright, the difference of 80 how strong."""
    half = np.full((300, 1, 4, 4), 40, np.uint8)
    half[:, :, :2] = 120
    found = of_images(half, Augment(brightness=0.25))
    factor = found[:, 0, 3, 3] / 40
    np.testing.assert_allclose(found[:, 0, 0, 0], factor * 120, rtol=1e-6)
    assert 0.75 <= factor.min() < 0.77 and 1.23 < factor.max() < 1.25 and abs(factor.mean() - 1) < 0.03
    found = of_images(half, Augment(contrast=0.25))
    np.testing.assert_allclose(found[:, 0].mean(axis=(1, 2)), 80, rtol=1e-6)
    strength = (found[:, 0, 0, 0] - found[:, 0, 3, 3]) / 80
    assert 0.75 <= strength.min() < 0.77 and 1.23 < strength.max() < 1.25
    white = of_images(np.full_like(half, 250), Augment(brightness=1))
    assert white.max() == 255 and white.min() < 10


def test_each_epoch_draws_anew_and_each_seed_too():
    backend = BACKENDS["numba"]()
    first, _, _ = distorted(backend, (1, 28, 28), AMOUNTS["affine"])
    again, _, _ = distorted(backend, (1, 28, 28), AMOUNTS["affine"])
    np.testing.assert_array_equal(first, again)
    for changed in ({"epoch": 1}, {"seed": 4}):
        other, _, _ = distorted(backend, (1, 28, 28), AMOUNTS["affine"], **changed)
        assert np.abs(other - first).max() > 0.1


def test_as_many_threads_as_you_like_draw_the_same():
    (first, _, _), (other, _, _) = (
        distorted(BACKENDS["numba"](threads=threads), (3, 5, 7), AMOUNTS["all"], **COLOURS) for threads in (1, 2)
    )
    np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rotation": 46}, {"scale": 1.0}, {"shear": -1}, {"shift": float("nan")}, {"brightness": 1.5},
        {"contrast": -0.1},
    ],
    ids=str,
)  # fmt: skip
def test_amounts_out_of_range(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=rf"data\.augment\.{name}: expected a number from 0 to"):
        Augment(**wrong)


@pytest.mark.parametrize("wrong", [{"crop": -1}, {"cutout": 1001}], ids=str)
def test_pixels_out_of_range(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=rf"data\.augment\.{name}: expected an integer from 0 to 1000, got"):
        Augment(**wrong)
