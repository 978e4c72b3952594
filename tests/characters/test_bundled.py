"""Digits and glyphs: the datasets that need no network."""

from importlib.metadata import version
from itertools import pairwise

import numpy as np
import pytest

from odyssey_characters.digits import enlarge
from odyssey_characters.glyphs import CLASSES, _basis, _coefficients, render
from odyssey_characters.outlines import BOX, GRID, _blurred, draw, fill, flatten
from odyssey_core.data import DATASETS
from odyssey_core.random import uniform


@pytest.fixture(scope="module")
def atlas():
    return draw(("DejaVuSans", "STIXGeneralItalic"), CLASSES)


def test_digits():
    data = DATASETS["digits"](mean=0.1, std=0.3)
    assert (data.name, data.input_shape, data.classes, data.orientation) == ("digits", (1, 28, 28), 10, "upright")
    assert (len(data.train), len(data.test), data.mean, data.std) == (1437, 360, 0.1, 0.3)
    assert np.bincount(data.test.labels).tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]
    assert data.train.pixels.max() == 255


def test_enlarge_keeps_what_is_linear():
    # A ramp enlarged bilinearly is the ramp: pixel i is at (4 i - 5) / 14, held at the ends.
    ramp = np.tile(np.arange(8) * 2, (1, 8, 1))
    expected = np.clip((4 * np.arange(28) - 5) / 14, 0, 7) * 2 * 255 / 16
    assert np.abs(enlarge(ramp)[0] - expected).max() <= 0.5
    assert (enlarge(np.full((1, 8, 8), 16)) == 255).all() and (enlarge(np.zeros((1, 8, 8), int)) == 0).all()
    assert np.array_equal(enlarge(ramp.swapaxes(1, 2)), enlarge(ramp).swapaxes(1, 2))


def test_a_quadratic_curve_is_cut_at_points_that_lie_on_it():
    vertices, codes = np.array([[0, 0], [1, 2], [2, 0], [0, 0]], float), np.array([1, 3, 3, 79])
    edges = flatten(vertices, codes)
    x, y = edges[:-1, 1].T
    assert np.allclose(y, 2 * x * (2 - x) / 2) and edges[-1].tolist() == [[2, 0], [0, 0]]


def test_a_square_with_a_hole_is_filled_around_it():
    outer = [[0, 0], [0, 8], [8, 8], [8, 0], [0, 0]]
    inner = [[2, 2], [6, 2], [6, 6], [2, 6], [2, 2]]
    edges = np.array([pair for ring in (outer, inner) for pair in pairwise(ring)], float)
    ink = fill(edges)
    assert ink.sum() == BOX**2 - (BOX // 2) ** 2
    assert ink[GRID // 2 - BOX // 2, GRID // 2] and not ink[GRID // 2, GRID // 2] and not ink[0].any()


def test_blur_keeps_the_sum():
    ink = np.zeros((GRID, GRID), bool)
    ink[60:68, 60:68] = True
    assert _blurred(ink).max() == 255 and abs(int(_blurred(ink).sum()) - 64 * 255) < 64 * 5


def test_atlas_holds_upright_glyphs(atlas):
    assert atlas.shape == (2, 47, GRID, GRID)
    # An L has its foot at the bottom right, a 7 its bar at the top left.
    half = GRID // 2
    ell, seven = (atlas[0, CLASSES.index(name)].astype(int) for name in "L7")
    assert ell[half:, half:].sum() > 10 * ell[:half, half:].sum()
    assert seven[:half, :half].sum() > seven[half:, half:].sum()
    for plane in atlas.reshape(-1, GRID, GRID):
        rows, columns = (np.flatnonzero(plane.max(axis=axis)) for axis in (1, 0))
        assert BOX <= max(np.ptp(rows), np.ptp(columns)) + 1 <= BOX + 6
        assert rows[0] + rows[-1] in range(GRID - 3, GRID + 2)


def test_positions_are_exact_in_float32():
    coefficients = _coefficients(uniform(16, seed=0, stream="t", item=np.arange(1000)))
    assert (np.abs(coefficients.astype(float)) @ np.abs(_basis().astype(float))).max() < 2**24


def test_images_depend_on_their_number_alone(atlas):
    short, long = render(atlas, 100, "a"), render(atlas, 3000, "a")
    assert np.array_equal(long.pixels[:100], short.pixels) and long.labels[:48].tolist() == [*range(47), 0]
    other = render(atlas, 100, "b")
    assert (other.pixels != short.pixels).any(axis=(1, 2, 3)).all()


def test_images_are_centred_and_have_an_empty_border(atlas):
    pixels = render(atlas, 47 * 20, "a").pixels[:, 0].astype(float)
    across = (pixels.sum(axis=1) @ np.arange(28) / pixels.sum(axis=(1, 2))).mean()
    assert 13 < across < 14 and (pixels[:, [0, -1]].mean() < 3) and pixels.max(axis=(1, 2)).min() > 40


@pytest.mark.slow
def test_glyphs_whole():
    data = DATASETS["glyphs"]()
    assert (data.name, data.input_shape, data.classes, data.orientation) == ("glyphs", (1, 28, 28), 47, "upright")
    assert "".join(data.class_names) == CLASSES
    assert set(np.bincount(data.train.labels)) == {2400} and set(np.bincount(data.test.labels)) == {400}
    again = DATASETS["glyphs"]()
    assert again.digest == data.digest and np.array_equal(again.train.pixels, data.train.pixels)
    if version("matplotlib").startswith("3.11."):  # the pinned digest is of its fonts
        assert data.official


def test_pinned_digest_of_digits():
    """The same pixels on every machine with the same scikit-learn."""
    if not version("scikit-learn").startswith("1.9."):
        pytest.skip("the pinned digest is of scikit-learn 1.9")
    assert DATASETS["digits"]().official
