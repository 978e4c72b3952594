"""Images that a person has, made into what the net knows."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from odyssey_core.errors import DataError
from odyssey_run import handwriting

SHAPE = (28, 28)


def drawn(size=(200, 300), paper="white", ink="black", width=20, mode="RGB", box=(60, 60, 140, 240)):
    """An L."""
    image = Image.new(mode, size, paper)
    left, top, right, bottom = box
    ImageDraw.Draw(image).line([(left, top), (left, bottom), (right, bottom)], ink, width)
    return image


def prepared(image, tmp_path):
    image.save(tmp_path / "x.png")
    return handwriting.prepare(handwriting.read(tmp_path / "x.png"), SHAPE)


def test_ink_is_light_centred_and_has_a_border(tmp_path):
    found = prepared(drawn(), tmp_path)
    assert (found.shape, found.dtype, found.max()) == (SHAPE, np.uint8, 255)
    rows, columns = np.nonzero(found > 100)
    assert (rows.min(), rows.max()) == (2, 25)  # 24 of 28, as EMNIST has it
    assert abs((columns.min() + columns.max()) / 2 - 13.5) <= 0.5
    assert found[5:20, columns.min() : columns.min() + 3].mean() > 150  # the stem of the L
    assert found[5:18, columns.max() - 3 :].max() < 20


@pytest.mark.parametrize(
    "look",
    [
        {"paper": "black", "ink": "white"},
        {"paper": (250, 240, 120), "ink": (200, 30, 30)},
        {"paper": (30, 90, 40), "ink": (220, 240, 220)},
        {"mode": "RGBA", "paper": (0, 0, 0, 0), "ink": (20, 40, 160, 255)},
        {"mode": "RGBA", "paper": (0, 0, 0, 0), "ink": (255, 255, 255, 255)},
        {"mode": "L", "paper": 180, "ink": 90},
        {"size": (2000, 3000), "width": 200, "box": (600, 600, 1400, 2400)},
        {"size": (900, 300), "box": (800, 60, 880, 240)},
    ],
    ids=str,
)
def test_colour_alpha_size_and_place_change_nothing(tmp_path, look):
    plain, found = prepared(drawn(), tmp_path).astype(int), prepared(drawn(**look), tmp_path).astype(int)
    assert np.abs(plain - found).mean() < 6


def test_strokes_come_near_to_one_width(tmp_path):
    thin, middle, thick = (int((prepared(drawn(width=w), tmp_path) > 127).sum()) for w in (3, 22, 50))
    assert 0.6 * middle < thin < 1.5 * middle
    assert 0.8 * middle < thick < 2 * middle


def test_specks_do_not_move_it(tmp_path):
    image = drawn()
    image.putpixel((5, 5), (0, 0, 0))
    assert (prepared(image, tmp_path) == prepared(drawn(), tmp_path)).all()


def test_otsu_parts_two_groups():
    assert 10 < handwriting._otsu(np.array([0.0, 5, 10, 100, 105])) <= 100


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"not an image", "is not an image that can be read"),
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 30, "x.png: "),
    ],
)
def test_what_is_no_image_gets_one_line(tmp_path, content, says):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        handwriting.read(tmp_path / "x.png")
    assert "\n" not in str(caught.value)


def test_a_huge_image_is_not_opened(tmp_path):
    Image.new("1", (20000, 20000), 1).save(tmp_path / "x.png")
    with pytest.raises(DataError, match="is larger than 64 million pixels"):
        handwriting.read(tmp_path / "x.png")


def test_an_empty_sheet_says_so(tmp_path):
    with pytest.raises(DataError, match="nothing stands out from the background"):
        prepared(Image.new("RGB", (50, 50), "white"), tmp_path)
