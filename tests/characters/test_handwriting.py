"""Pictures that a person has, made into what a model knows: file formats, polarity, place, size, strokes, doubts."""

import numpy as np
import pages
import pytest
from PIL import Image, ImageDraw

from odyssey_characters import handwriting, ink
from odyssey_characters.preparations import PREPARATIONS
from odyssey_core.data import DATASETS
from odyssey_core.errors import DataError

SHAPE = (28, 28)
MNIST, EMNIST = PREPARATIONS["mnist"].reader(), PREPARATIONS["emnist"].reader()


def drawn(size=(200, 300), paper="white", ink="black", width=20, mode="RGB", box=(60, 60, 140, 240)):
    """An L."""
    image = Image.new(mode, size, paper)
    left, top, right, bottom = box
    ImageDraw.Draw(image).line([(left, top), (left, bottom), (right, bottom)], ink, width)
    return image


def prepared(image, tmp_path, preparation=EMNIST, name="x.png"):
    image.save(tmp_path / name)
    ((found, _),), _ = handwriting.look(handwriting.read(tmp_path / name)[0], preparation, SHAPE)
    return found


def test_ink_of_emnist_is_light_and_fills_24_of_28_pixels(tmp_path):
    found = prepared(drawn(), tmp_path)
    assert (found.shape, found.dtype, found.max()) == (SHAPE, np.uint8, 255)
    rows, columns = np.nonzero(found > 100)
    assert (rows.min(), rows.max()) == (2, 25)
    assert abs((columns.min() + columns.max()) / 2 - 13.5) <= 0.5
    assert found[5:20, columns.min() : columns.min() + 3].mean() > 150  # the stem of the L
    assert found[5:18, columns.max() - 3 :].max() < 20


def test_ink_of_mnist_fills_20_pixels_about_its_centre_of_mass(tmp_path):
    found = prepared(drawn(), tmp_path, MNIST)
    rows, _ = np.nonzero(found > 100)
    assert np.ptp(rows) + 1 == 20
    y, x = np.mgrid[:28, :28]
    assert abs((found * y).sum() / found.sum() - 13.5) < 0.3
    assert abs((found * x).sum() / found.sum() - 13.5) < 0.3


LOOKS = [
    {"paper": "black", "ink": "white"},
    {"paper": (250, 240, 120), "ink": (200, 30, 30)},
    {"paper": (30, 90, 40), "ink": (220, 240, 220)},
    {"mode": "RGBA", "paper": (0, 0, 0, 0), "ink": (20, 40, 160, 255)},
    {"mode": "RGBA", "paper": (0, 0, 0, 0), "ink": (255, 255, 255, 255)},
    {"mode": "L", "paper": 180, "ink": 90},
    {"mode": "LA", "paper": (255, 0), "ink": (0, 255)},
    {"mode": "1", "paper": 1, "ink": 0},
    {"size": (2000, 3000), "width": 200, "box": (600, 600, 1400, 2400)},
    {"size": (900, 300), "box": (800, 60, 880, 240)},
]


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_colour_alpha_size_and_place_change_nothing(tmp_path, look):
    plain, found = prepared(drawn(), tmp_path).astype(int), prepared(drawn(**look), tmp_path).astype(int)
    assert np.abs(plain - found).mean() < 6


def formats():
    """The same grey picture as files of other kinds: name, image, options of Pillow's save."""
    grey = drawn(mode="L", paper=200, ink=30)
    values = np.asarray(grey)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    return {
        "16 bits": ("x.png", Image.fromarray(np.uint16(values) * 257), {}),
        "16 bits, TIFF": ("x.tif", Image.fromarray(np.uint16(values) * 257), {}),
        "32 bits, TIFF": ("x.tif", Image.fromarray(np.int32(values)), {}),
        "floating-point, to 1": ("x.tif", Image.fromarray(np.float32(values) / 255), {}),
        "floating-point, to 255": ("x.tif", Image.fromarray(np.float32(values)), {}),
        "palette": ("x.png", grey.convert("P"), {}),
        "palette, GIF": ("x.gif", grey.convert("P"), {}),
        "CMYK": ("x.jpg", grey.convert("CMYK"), {"quality": 95}),
        "turned by EXIF": ("x.jpg", grey.transpose(Image.Transpose.ROTATE_90), {"exif": exif, "quality": 95}),
    }


@pytest.mark.parametrize("kind", formats())
def test_every_kind_of_file_is_read_as_the_plain_one(tmp_path, kind):
    name, image, options = formats()[kind]
    image.save(tmp_path / name, **options)
    found = handwriting.read(tmp_path / name)[0]
    plain = np.asarray(drawn(mode="L", paper=200, ink=30), np.float32)
    assert found.shape == (300, 200, 3)
    stretch = 255 / 200 if kind == "32 bits, TIFF" else 1
    assert np.abs(found[..., 0] - plain).mean() < 2 * stretch


def test_strokes_come_near_to_one_width(tmp_path):
    thin, middle, thick = (int((prepared(drawn(width=w), tmp_path) > 127).sum()) for w in (1, 22, 50))
    assert 0.6 * middle < thin < 1.5 * middle
    assert 0.6 * middle < thick < 2 * middle


@pytest.mark.parametrize("height", [60, 190, 600, 2400])
def test_a_line_of_one_pixel_is_seen_as_a_thicker_one_is(tmp_path, height):
    size, box = (height, height * 3 // 2), (height // 4, height // 4, height * 3 // 4, height * 5 // 4)
    thin, thick = (prepared(drawn(size, width=w, box=box), tmp_path).astype(int) for w in (1, max(2, height // 12)))
    assert np.abs(thin - thick).mean() < 12


def test_specks_do_not_move_it(tmp_path):
    image = drawn()
    image.putpixel((5, 5), (0, 0, 0))
    assert (prepared(image, tmp_path) == prepared(drawn(), tmp_path)).all()


@pytest.mark.parametrize("data", ["digits", "glyphs"])
def test_an_image_of_the_data_sets_own_make_is_taken_as_it_is_in_either_polarity(data):
    dataset = DATASETS[data]()
    for image in dataset.upright_test.pixels[:50, 0]:
        for picture in (image, 255 - image):
            rgb = np.repeat(np.float32(picture)[..., None], 3, axis=2)
            ((found, _),), _ = handwriting.look(rgb, dataset.preparation.reader(), SHAPE)
            assert (found == image).all()


def test_a_small_image_with_its_ink_in_a_corner_is_prepared_all_the_same():
    rgb = np.zeros((28, 28, 3), np.float32)
    rgb[3:10, 3:5] = rgb[8:10, 3:9] = 255
    ((found, _),), _ = handwriting.look(rgb, MNIST, SHAPE)
    rows, _ = np.nonzero(found > 127)
    assert np.ptp(rows) + 1 >= 18


def test_otsu_parts_two_groups_and_takes_values_all_alike():
    assert 10 < ink.otsu(np.array([0.0, 5, 10, 100, 105])) <= 100
    assert 0 <= ink.otsu(np.full(9, 128.0)) <= 255


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"not an image", "is not an image that can be read"),
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 30, "x.png: "),
        (b"\0\0\0\x24ftypheic" + b"\0" * 40, "is HEIC, as iPhones write it; save it as JPEG or PNG"),
        (b"%PDF-1.7 ...", "is a PDF; save its page as PNG"),
    ],
)
def test_what_is_no_image_gets_one_line(tmp_path, content, says):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        handwriting.read(tmp_path / "x.png")
    assert "\n" not in str(caught.value)


def test_a_huge_image_is_not_opened(tmp_path):
    Image.new("1", (20000, 20000), 1).save(tmp_path / "x.png")
    with pytest.raises(DataError, match="is larger than 110 million pixels"):
        handwriting.read(tmp_path / "x.png")


def test_an_empty_sheet_says_so(tmp_path):
    for size in ((50, 50), (28, 28), (1, 1), (3, 900)):
        with pytest.raises(ink.Unclear, match="nothing in it stands out from the background"):
            prepared(Image.new("RGB", size, "white"), tmp_path)


@pytest.mark.parametrize("kind", pages.KINDS)
def test_a_digit_is_found_alone_whatever_the_page(kind):
    found = 0
    for digit in (2, 4, 5):
        found += len(handwriting.look(_working(pages.page(kind, digit, seed=7)), MNIST, SHAPE)[0]) == 1
    assert found == 3


def test_characters_are_read_row_by_row_from_left_to_right():
    page = np.concatenate(
        [pages.row_of([4, 2, 7], np.random.default_rng(0)), pages.row_of([1, 5], np.random.default_rng(1))]
    )
    found, _ = handwriting.look(_working(page), MNIST, SHAPE)
    middles = [((top + bottom) // 2 > 450, left) for _, (left, top, _, bottom) in found]
    assert len(middles) == 5 and middles == sorted(middles)


def test_a_dot_and_a_bar_belong_to_their_character():
    image = Image.new("L", (200, 300), 255)
    draw = ImageDraw.Draw(image)
    draw.line([(100, 120), (100, 250)], 0, 14)
    draw.ellipse((91, 70, 109, 88), 0)
    rgb = np.repeat(np.asarray(image, np.float32)[..., None], 3, axis=2)
    ((found, _),), _ = handwriting.look(rgb, EMNIST, SHAPE)
    rows = (found > 60).any(axis=1)
    assert np.diff(np.flatnonzero(np.diff(rows.astype(int)))).tolist()[0:1] and np.ptp(np.flatnonzero(rows)) >= 22


EMPTY = (
    *("blank", "uneven_blank", "lines_alone", "fine_checkers", "checkers", "noise", "text", "blot", "wood"),
    *("upper_half_black", "frame_alone", "black_border_alone"),
)


@pytest.mark.parametrize("kind", EMPTY)
def test_a_page_without_a_character_is_said_to_have_none(kind):
    with pytest.raises(ink.Unclear) as caught:
        handwriting.look(_working(pages.nothing(kind)), MNIST, SHAPE)
    assert "\n" not in str(caught.value)


def _working(page):
    image = Image.fromarray(page)
    image.thumbnail((handwriting.WORKING, handwriting.WORKING))
    return np.asarray(image, np.float32)


@pytest.mark.parametrize("method", [Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
def test_an_enlarged_image_of_the_data_sets_own_make_is_made_small_again(method):
    """Digits are smooth, since they were 8 pixels wide: to thin or thicken their strokes would make others of them."""
    dataset = DATASETS["digits"]()
    for image in dataset.upright_test.pixels[:20, 0]:
        for side in (56, 100, 280):
            picture = Image.fromarray(255 - image).resize((side, side), method)
            rgb = np.repeat(np.float32(picture)[..., None], 3, axis=2)
            ((found, box),), _ = handwriting.look(rgb, dataset.preparation.reader(), SHAPE)
            assert box == (0, 0, side, side)
            assert np.abs(found.astype(int) - image).mean() < 3


@pytest.mark.parametrize("kind", pages.KINDS)
def test_no_photographed_page_is_taken_for_an_enlarged_image(kind):
    for digit in range(10):
        page = Image.fromarray(pages.page(kind, digit, seed=1))
        side = min(page.size)
        rgb = np.asarray(page.crop((0, 0, side, side)), np.float32)
        assert handwriting._unenlarged(rgb, SHAPE) is None
